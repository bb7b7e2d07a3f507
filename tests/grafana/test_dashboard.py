"""The dashboard can be loaded, asks only for what taximeter shows, and is laid out without gaps or overlaps."""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "grafana" / "dashboard.py"
CHECKED_IN = ROOT / "grafana" / "dashboards" / "taximeter.json"

TRAFFIC = {"owner", "model", "base_model", "fine_tuned"}
BUDGET = {"budget", "period", "owner"}
# The metrics of the outward contract with their labels; whatever is scraped carries job and instance as well.
CONTRACT: dict[str, set[str]] = {
    "taximeter_requests_total": {*TRAFFIC, "endpoint", "status"},
    "taximeter_tokens_total": {*TRAFFIC, "kind"},
    "taximeter_cost_dollars_total": TRAFFIC,
    "taximeter_baseline_cost_dollars_total": {"model", "baseline"},
    "taximeter_unpriced_requests_total": {"model"},
    "taximeter_estimated_requests_total": {"reason"},
    "taximeter_presumed_requests_total": set(),
    "taximeter_presumed_cost_dollars_total": set(),
    "taximeter_refused_requests_total": {"budget", "reason"},
    "taximeter_budget_limit_dollars": BUDGET,
    "taximeter_budget_spent_dollars": BUDGET,
    "taximeter_budget_held_dollars": BUDGET,
    "taximeter_budget_used_ratio": BUDGET,
    "taximeter_budget_alert_at_ratio": {*BUDGET, "threshold"},
    "taximeter_budget_reset_timestamp_seconds": BUDGET,
    "taximeter_store_up": set(),
    "taximeter_spool_entries": set(),
    "taximeter_overhead_seconds_bucket": {"le"},
    "taximeter_time_to_first_token_seconds_bucket": {"le"},
    "taximeter_upstream_seconds_bucket": {"le"},
    "taximeter_model_last_used_timestamp_seconds": {"model"},
    "taximeter_model_shutdown_timestamp_seconds": {"model"},
    "taximeter_open_streams": set(),
}
SCRAPED = {"job", "instance"}

DASHBOARD: dict[str, Any] = json.loads(CHECKED_IN.read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]


def parsed(query: str) -> promql_parser.Expr:
    for name, value in {"$__rate_interval": "1m", "$__range": "1h"}.items():
        query = query.replace(name, value)
    return promql_parser.parse(query)


def labels_out(expr: Any) -> Iterator[tuple[str, set[str]]]:
    """Every metric of a query with all labels that the query reads of it: in matchers and in aggregations above it."""
    match expr:
        case promql_parser.VectorSelector():
            yield expr.name or "", {matcher.name for matcher in expr.matchers.matchers}
        case promql_parser.MatrixSelector():
            yield from labels_out(expr.vector_selector)
        case promql_parser.AggregateExpr():
            grouped = set(expr.modifier.labels) if expr.modifier else set()
            for metric, labels in labels_out(expr.expr):
                yield metric, labels | grouped
        case promql_parser.BinaryExpr():
            yield from labels_out(expr.lhs)
            yield from labels_out(expr.rhs)
        case promql_parser.Call():
            for argument in expr.args:
                yield from labels_out(argument)
        case promql_parser.ParenExpr():
            yield from labels_out(expr.expr)
        case promql_parser.NumberLiteral():
            pass
        case _:
            raise AssertionError(f"the dashboard uses {type(expr)}, which this test does not know")


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_reads_only_what_taximeter_shows(query: str) -> None:
    for metric, labels in labels_out(parsed(query)):
        assert metric in CONTRACT
        assert labels <= CONTRACT[metric] | SCRAPED


def test_every_label_of_a_legend_survives_the_query() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            grouped = {label for part in target["expr"].split("by (")[1:] for label in part.split(")")[0].split(", ")}
            wanted = {part.split("}}")[0] for part in target["legendFormat"].split("{{")[1:]}
            assert wanted <= grouped, target


def test_the_checker_sees_a_wrong_metric_and_a_wrong_label() -> None:
    found = dict(labels_out(parsed('sum by (modle) (rate(taximeter_cost_dollars{ownr="a"}[5m])) * 3600')))

    assert found == {"taximeter_cost_dollars": {"modle", "ownr"}}


def test_the_checked_in_file_is_what_the_script_writes() -> None:
    written = subprocess.run([sys.executable, str(SCRIPT)], check=True, capture_output=True, text=True).stdout

    assert written == CHECKED_IN.read_text()


def test_the_file_survives_the_typed_model() -> None:
    """A name that Grafana does not know would be dropped on the way through."""
    register_default_plugins()
    again = json.loads(json.dumps(Dashboard.from_json(DASHBOARD), cls=JSONEncoder))

    assert again == DASHBOARD
    assert DASHBOARD["schemaVersion"] == 42


def test_the_data_source_is_a_variable_everywhere() -> None:
    first, *others = DASHBOARD["templating"]["list"]

    assert (first["type"], first["name"], first["query"]) == ("datasource", "datasource", "prometheus")
    sources = [*others, *PANELS, *(target for panel in PANELS for target in panel["targets"])]
    assert {source["datasource"]["uid"] for source in sources} == {"${datasource}"}
    assert "__inputs" not in DASHBOARD  # only for uploads to grafana.com; a provisioned dashboard fails with it


def test_every_variable_exists_and_reads_a_metric_of_the_contract() -> None:
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    text = CHECKED_IN.read_text()

    for name in ("job", "budget", "owner", "model"):
        assert name in names
        assert f'=~\\"${name}\\"' in text
    for variable in DASHBOARD["templating"]["list"][1:]:
        inner, label = variable["query"]["query"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
        ((metric, _),) = labels_out(parsed(inner))
        assert label in CONTRACT[metric] | SCRAPED


def test_panels_fill_the_width_and_do_not_overlap() -> None:
    cells: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in cells, f"{panel['title']} lies over {cells[x, y]}"
                cells[x, y] = panel["title"]

    height = max(y for _, y in cells) + 1
    assert set(cells) == {(x, y) for x in range(24) for y in range(height)}


def test_every_panel_says_in_one_sentence_what_it_shows() -> None:
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["description"].count(". ") == 0, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    for one, other in combinations(DASHBOARD["panels"], 2):
        assert one["title"] != other["title"]
        assert one["id"] != other["id"]


def test_the_bar_of_a_budget_changes_colour_at_80_and_100_percent() -> None:
    (panel,) = (panel for panel in PANELS if panel["type"] == "bargauge")
    colours = [(step["value"], step["color"]) for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]

    assert colours == [(None, "green"), (0.8, "orange"), (1, "red")]


def test_the_provisioning_examples_are_yaml_of_version_1() -> None:
    files = sorted((ROOT / "grafana" / "provisioning").rglob("*.yml"))

    assert [file.parent.name for file in files] == ["dashboards", "datasources"]
    assert all(yaml.safe_load(file.read_text())["apiVersion"] == 1 for file in files)
