"""The Grafana dashboard of taximeter, written in Python so that it can be checked before anybody looks at it.

    python grafana/dashboard.py > grafana/dashboards/taximeter.json

Needs grafana-foundation-sdk 0.0.21 (`pip install -e .[dev]`). Budgets are shown by `max`, because every instance on one
store shows the same budget; everything that a process counts for itself is shown by `sum`.
One long file, because it is run as a script: the vocabulary of panels, a function for each row, the whole.
"""

import json
import sys
from collections.abc import Sequence
from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import common as option
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as model

Panel = TypeVar("Panel", stat.Panel, bargauge.Panel, timeseries.Panel)

SOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")

JOB = '{job=~"$job"}'
BUDGET = '{job=~"$job", budget=~"$budget"}'
TRAFFIC = '{job=~"$job", owner=~"$owner", model=~"$model"}'
TUNED = TRAFFIC.replace("}", ', fine_tuned="true"}')
BASE = TRAFFIC.replace("}", ', fine_tuned="false"}')
# The baseline's cost is not kept for each owner, so what stands beside it is for all owners too.
TUNED_OF_ALL_OWNERS = '{job=~"$job", model=~"$model", fine_tuned="true"}'
MODEL = '{job=~"$job", model=~"$model"}'

GREEN, ORANGE, RED = "green", "orange", "red"
BLUE, PURPLE = "blue", "purple"  # base and fine-tuned have one colour each, wherever they stand beside each other
NOTHING = "-"


def query(expr: str, legend: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().datasource(SOURCE).expr(expr).legend_format(legend).range()


def now(expr: str, legend: str) -> prometheus.Dataquery:
    return query(expr, legend).instant()


def placed(
    panel: Panel, title: str, description: str, size: tuple[int, int], targets: Sequence[prometheus.Dataquery]
) -> Panel:
    width, height = size
    panel.title(title).description(description).datasource(SOURCE).span(width).height(height)
    for ref_id, target in zip("ABCDEF", targets, strict=False):
        panel.with_target(target.ref_id(ref_id))
    return panel


def steps(*pairs: tuple[float | None, str]) -> build.ThresholdsConfig:
    colors = [model.Threshold(value=value, color=color) for value, color in pairs]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(colors)


def number(
    title: str,
    description: str,
    size: tuple[int, int],
    unit: str,
    thresholds: build.ThresholdsConfig,
    *targets: prometheus.Dataquery,
) -> stat.Panel:
    panel = placed(stat.Panel(), title, description, size, targets)
    panel.unit(unit).thresholds(thresholds).no_value(NOTHING).graph_mode(common.BigValueGraphMode.NONE)
    panel.color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    return panel.reduce_options(option.ReduceDataOptions().calcs(["lastNotNull"]))


def graph(
    title: str, description: str, size: tuple[int, int], unit: str, *targets: prometheus.Dataquery
) -> timeseries.Panel:
    panel = placed(timeseries.Panel(), title, description, size, targets)
    panel.unit(unit).min(0).line_width(1).fill_opacity(8)
    panel.color_scheme(build.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    panel.tooltip(option.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    legend = option.VizLegendOptions().show_legend(True).calcs(["lastNotNull", "max"])
    return panel.legend(legend.display_mode(common.LegendDisplayMode.TABLE).placement(common.LegendPlacement.BOTTOM))


def stacked(panel: timeseries.Panel) -> timeseries.Panel:
    return panel.fill_opacity(35).stacking(option.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))


def settings(**values: object) -> list[model.DynamicConfigValue]:
    return [model.DynamicConfigValue(id_val=name.replace("__", "."), value=value) for name, value in values.items()]


def color(name: str) -> list[model.DynamicConfigValue]:
    return settings(color={"mode": "fixed", "fixedColor": name})


DASHED = settings(custom__lineStyle={"fill": "dash", "dash": [10, 10]}, custom__fillOpacity=0)


def at_a_glance() -> list[stat.Panel]:
    neutral, alarming = steps((None, BLUE)), steps((None, GREEN), (1, ORANGE))
    up = model.ValueMap(
        options={
            "0": model.ValueMappingResult(text="away", color=RED, index=0),
            "1": model.ValueMappingResult(text="up", color=GREEN, index=1),
        }
    )
    return [
        number(
            "Store",
            "Whether every instance reaches the store that keeps budgets and ledger.",
            (4, 4),
            "short",
            steps((None, RED), (1, GREEN)),
            now(f"min(taximeter_store_up{JOB})", "store"),
        ).mappings([up]),
        number(
            "Cost",
            "What all requests in the chosen time cost; the ledger (taximeter report) has the exact sum.",
            (5, 4),
            "currencyUSD",
            neutral,
            now(f"sum(increase(taximeter_cost_dollars_total{TRAFFIC}[$__range]))", "cost"),
        ),
        number(
            "Requests",
            "How many requests came in the chosen time.",
            (5, 4),
            "short",
            neutral,
            now(f"sum(increase(taximeter_requests_total{TRAFFIC}[$__range]))", "requests"),
        ).decimals(0),
        number(
            "Refused",
            "How many requests were refused because of a budget in the chosen time.",
            (5, 4),
            "short",
            alarming,
            now(f"sum(increase(taximeter_refused_requests_total{BUDGET}[$__range]))", "refused"),
        ).decimals(0),
        number(
            "Without a price",
            "How many requests in the chosen time no rate card fits; they are in no cost and in no budget.",
            (5, 4),
            "short",
            alarming,
            now(f"sum(increase(taximeter_unpriced_requests_total{JOB}[$__range]))", "unpriced"),
        ).decimals(0),
    ]


def budgets() -> list[bargauge.Panel | timeseries.Panel | stat.Panel]:
    used = placed(
        bargauge.Panel(),
        "Used of each budget",
        "How much of its limit each budget has used in the running period; nothing is shown while the store is away.",
        (9, 10),
        [now(f"sort_desc(max by (budget, owner) (taximeter_budget_used_ratio{BUDGET}))", "{{budget}} {{owner}}")],
    )
    used.unit("percentunit").min(0).max(1).no_value(NOTHING).thresholds(steps((None, GREEN), (0.8, ORANGE), (1, RED)))
    used.color_scheme(build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS)).show_unfilled(True)
    used.orientation(common.VizOrientation.HORIZONTAL).display_mode(common.BarGaugeDisplayMode.BASIC)
    used.reduce_options(option.ReduceDataOptions().calcs(["lastNotNull"]))
    amounts = graph(
        "Spent, held and limit",
        "What each budget has spent, what running requests have set aside, and the limit over both.",
        (10, 10),
        "currencyUSD",
        query(f"max by (budget, owner) (taximeter_budget_spent_dollars{BUDGET})", "{{budget}} {{owner}} spent"),
        query(f"max by (budget, owner) (taximeter_budget_held_dollars{BUDGET})", "{{budget}} {{owner}} held"),
        query(f"max by (budget, owner) (taximeter_budget_limit_dollars{BUDGET})", "{{budget}} {{owner}} limit"),
    ).override_by_regexp("/ limit$/", DASHED)
    left = f"min by (budget, owner) (taximeter_budget_reset_timestamp_seconds{BUDGET} > time()) - time()"
    resets = number(
        "Next reset",
        'How long until each budget starts over; a budget with the period "total" never does and is not shown.',
        (5, 10),
        "s",
        steps((None, BLUE)),
        now(f"sort({left})", "{{budget}} {{owner}}"),
    )
    resets.orientation(common.VizOrientation.HORIZONTAL).color_mode(common.BigValueColorMode.NONE)
    return [used, amounts, resets]


def cost() -> list[timeseries.Panel]:
    def hourly(title: str, description: str, label: str) -> timeseries.Panel:
        expr = f"sum by ({label}) (rate(taximeter_cost_dollars_total{TRAFFIC}[$__rate_interval])) * 3600"
        return stacked(graph(title, description, (12, 8), "currencyUSD", query(expr, f"{{{{{label}}}}}")))

    return [
        hourly("Cost per hour by model", "What each model costs in an hour at the pace of the moment.", "model"),
        hourly("Cost per hour by owner", "What each owner spends in an hour at the pace of the moment.", "owner"),
    ]


def fine_tuned() -> list[stat.Panel | timeseries.Panel]:
    apart = number(
        "Fine-tuned and base",
        "What the fine-tuned models cost in the chosen time, and what the base models cost.",
        (4, 8),
        "currencyUSD",
        steps((None, BLUE)),
        now(f"sum(increase(taximeter_cost_dollars_total{TUNED}[$__range]))", "fine-tuned"),
        now(f"sum(increase(taximeter_cost_dollars_total{BASE}[$__range]))", "base"),
    )
    over_time = graph(
        "Fine-tuned and base, per hour",
        "What fine-tuned and base models cost in an hour at the pace of the moment.",
        (10, 8),
        "currencyUSD",
        query(f"sum(rate(taximeter_cost_dollars_total{TUNED}[$__rate_interval])) * 3600", "fine-tuned"),
        query(f"sum(rate(taximeter_cost_dollars_total{BASE}[$__rate_interval])) * 3600", "base"),
    )
    actual = f"sum by (model) (rate(taximeter_cost_dollars_total{TUNED_OF_ALL_OWNERS}[$__rate_interval])) * 3600"
    instead = f"sum by (model, baseline) (rate(taximeter_baseline_cost_dollars_total{MODEL}[$__rate_interval])) * 3600"
    baseline = graph(
        "Fine-tuned against its baseline, per hour",
        "What each fine-tuned model costs (all owners), and what the same tokens would have cost on its baseline.",
        (10, 8),
        "currencyUSD",
        query(actual, "{{model}}"),
        query(instead, "{{model}} as {{baseline}}"),
    ).override_by_regexp("/ as /", DASHED)
    return [
        apart.override_by_name("fine-tuned", color(PURPLE)),
        stacked(over_time).override_by_name("fine-tuned", color(PURPLE)).override_by_name("base", color(BLUE)),
        baseline,
    ]


def traffic() -> list[timeseries.Panel]:
    refused = f"sum by (budget, reason) (rate(taximeter_refused_requests_total{BUDGET}[$__rate_interval]))"
    return [
        stacked(
            graph(
                "Tokens per second by kind",
                "How many tokens are used in a second; the kinds do not overlap.",
                (8, 8),
                "short",
                query(f"sum by (kind) (rate(taximeter_tokens_total{TRAFFIC}[$__rate_interval]))", "{{kind}}"),
            )
        ),
        stacked(
            graph(
                "Requests per second by status",
                "Which HTTP statuses clients got; 499 means that the client left first.",
                (8, 8),
                "reqps",
                query(f"sum by (status) (rate(taximeter_requests_total{TRAFFIC}[$__rate_interval]))", "{{status}}"),
            )
        ),
        graph(
            "Refused per second",
            "Requests that a budget refused, by budget and reason.",
            (8, 8),
            "reqps",
            query(refused, "{{budget}} {{reason}}"),
        ),
    ]


def certainty() -> list[timeseries.Panel]:
    estimated = f"sum by (reason) (rate(taximeter_estimated_requests_total{JOB}[$__rate_interval]))"
    return [
        graph(
            "Without a price, per second",
            "Requests to models that no rate card fits, by model.",
            (12, 8),
            "reqps",
            query(f"sum by (model) (rate(taximeter_unpriced_requests_total{JOB}[$__rate_interval]))", "{{model}}"),
        ),
        graph(
            "Estimated and presumed, per second",
            "Requests whose tokens were counted here, by reason, and requests charged with what was set aside.",
            (12, 8),
            "reqps",
            query(estimated, "estimated: {{reason}}"),
            query(f"sum(rate(taximeter_presumed_requests_total{JOB}[$__rate_interval]))", "presumed"),
        ),
    ]


def service() -> list[timeseries.Panel]:
    def spread(title: str, description: str, metric: str) -> timeseries.Panel:
        buckets = f"sum by (le) (rate({metric}_bucket{JOB}[$__rate_interval]))"
        median, worst = (f"histogram_quantile({quantile}, {buckets})" for quantile in (0.5, 0.99))
        return graph(title, description, (8, 8), "s", query(median, "median"), query(worst, "99th percentile"))

    health = graph(
        "Store and spool",
        "How many charges wait for the store, and whether it answers (1 or 0, right axis).",
        (8, 8),
        "short",
        query(f"sum(taximeter_spool_entries{JOB})", "waiting charges"),
        query(f"min(taximeter_store_up{JOB})", "store up"),
    ).override_by_name("waiting charges", color(ORANGE))
    flat = settings(max=1, custom__axisPlacement="right", custom__lineInterpolation="stepAfter", custom__fillOpacity=0)
    return [
        spread(
            "Time added by taximeter", "How long taximeter itself holds a request up.", "taximeter_overhead_seconds"
        ),
        spread(
            "Time to first token",
            "How long clients wait for the first piece of an answer.",
            "taximeter_time_to_first_token_seconds",
        ),
        health.override_by_name("store up", color(GREEN) + flat),
    ]


def variable(name: str, label: str, values: str) -> build.QueryVariable:
    found = (
        build.QueryVariable(name).label(label).datasource(SOURCE).query({"query": values, "refId": name, "qryType": 1})
    )
    found.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
    everything = model.VariableOption(selected=True, text=["All"], value=["$__all"])
    return found.multi(True).include_all(True).all_value(".*").current(everything)


def dashboard() -> model.Dashboard:
    built = build.Dashboard("taximeter").uid("taximeter").tags(["taximeter", "llm", "cost"]).editable()
    built.description("What OpenAI-compatible traffic costs: budgets, models, fine-tuned and base apart.")
    built.time("now-24h", "now").timezone("browser").refresh("1m").tooltip(model.DashboardCursorSync.CROSSHAIR)
    built.with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    built.with_variable(variable("job", "Job", "label_values(taximeter_store_up, job)"))
    built.with_variable(variable("budget", "Budget", f"label_values(taximeter_budget_limit_dollars{JOB}, budget)"))
    built.with_variable(variable("owner", "Owner", f"label_values(taximeter_requests_total{JOB}, owner)"))
    built.with_variable(variable("model", "Model", f"label_values(taximeter_requests_total{JOB}, model)"))
    rows: dict[str, Sequence[stat.Panel | bargauge.Panel | timeseries.Panel]] = {
        "At a glance": at_a_glance(),
        "Budgets": budgets(),
        "Cost over time": cost(),
        "Fine-tuned models": fine_tuned(),
        "Traffic": traffic(),
        "What is not measured exactly": certainty(),
        "The service itself": service(),
    }
    for row, (title, panels) in enumerate(rows.items(), start=1):
        built.with_row(build.Row(title).id(row * 100))
        for position, panel in enumerate(panels, start=1):
            built.with_panel(panel.id(row * 100 + position))
    return built.build()


def as_json() -> str:
    return json.dumps(dashboard(), cls=JSONEncoder, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_json())
