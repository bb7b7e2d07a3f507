"""Grouping: rows add up to the total, aliases are what they stand for, unknown is not zero."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.ledger.sums import SumKey, SumRow
from proxy.reports.spending import GROUP_KEYS, group
from rates.usage import KINDS

TUNED = "ft:gpt-4o-mini-2024-07-18:acme::abc123"


def row(
    model: str = "gpt-4o-mini-2024-07-18",
    *,
    day: str = "2026-11-21",
    owner: str = "acme",
    status: str = "reported",
    requests: int = 1,
    nanos: int = 0,
    **quantities: int,
) -> SumRow:
    card = "" if status == "unpriced" else "card"
    key = SumKey(owner, model, card, "standard", "", "chat/completions", status)
    return SumRow(day, key, requests, quantities, nanos)


def test_by_model_as_json() -> None:
    rows = [
        row(TUNED, requests=2, input=1000, output=500, nanos=900_000),
        row("gpt-4o-mini", requests=3, output=1, input=10, cached_input=5, nanos=450_000),
        row("gpt-4o-mini", status="estimated", nanos=50_000, input=1),
        row("nobody-knows", status="unpriced", requests=4, input=7),
    ]

    report = group(rows, ["model"]).as_json()

    assert report == {
        "rows": [
            {
                "model": TUNED,
                "requests": 2,
                "unpriced_requests": 0,
                "estimated_requests": 0,
                "presumed_requests": 0,
                "failed_requests": 0,
                "tokens": {"input": 1000, "output": 500},
                "calls": {},
                "cost_usd": "0.0009",
                "cost_nanos": 900_000,
            },
            {
                "model": "gpt-4o-mini",
                "requests": 4,
                "unpriced_requests": 0,
                "estimated_requests": 1,
                "presumed_requests": 0,
                "failed_requests": 0,
                "tokens": {"input": 11, "cached_input": 5, "output": 1},
                "calls": {},
                "cost_usd": "0.0005",
                "cost_nanos": 500_000,
            },
            {
                "model": "nobody-knows",
                "requests": 4,
                "unpriced_requests": 4,
                "estimated_requests": 0,
                "presumed_requests": 0,
                "failed_requests": 0,
                "tokens": {"input": 7},
                "calls": {},
                "cost_usd": None,
                "cost_nanos": None,
            },
        ],
        "total": {
            "requests": 10,
            "unpriced_requests": 4,
            "estimated_requests": 1,
            "presumed_requests": 0,
            "failed_requests": 0,
            "tokens": {"input": 1018, "cached_input": 5, "output": 501},
            "calls": {},
            "cost_usd": "0.0014",
            "cost_nanos": 1_400_000,
        },
    }


def test_by_fine_tuned_and_base_model() -> None:
    rows = [row(TUNED, nanos=3), row("gpt-4o-mini-2024-07-18", nanos=2), row("acme-classifier", nanos=5)]
    models = {"acme-classifier": "gpt-4o-mini-2024-07-18.ft-0123456789abcdef0123456789abcdef"}

    report = group(rows, ["base_model", "fine_tuned"], models)

    assert [(found.keys, found.cost_nanos) for found in report.rows] == [
        ({"base_model": "gpt-4o-mini", "fine_tuned": True}, 8),
        ({"base_model": "gpt-4o-mini", "fine_tuned": False}, 2),
    ]


def test_a_request_without_any_model_is_unknown() -> None:
    report = group([row("", status="failed")], ["model", "base_model", "fine_tuned"])

    assert report.rows[0].keys == {"model": None, "base_model": None, "fine_tuned": None}
    assert (report.rows[0].failed_requests, report.rows[0].cost_nanos) == (1, 0)


def test_days_that_lead_are_in_order() -> None:
    rows = [row(day="2026-11-02", nanos=9), row(day="2026-11-01", nanos=1), row(day="2026-11-01", owner="b", nanos=2)]

    by_day = group(rows, ["day", "owner"])
    by_owner = group(rows, ["owner", "day"])

    assert [tuple(found.keys.values()) for found in by_day.rows] == [
        ("2026-11-01", "b"),
        ("2026-11-01", "acme"),
        ("2026-11-02", "acme"),
    ]
    assert [found.cost_nanos for found in by_owner.rows] == [9, 2, 1]


def test_calls_are_no_tokens() -> None:
    total = group([row(web_search_calls=2, input=1, nanos=1)], ["model"]).total

    assert (total.tokens, total.calls) == ({"input": 1}, {"web_search_calls": 2})


def test_cost_is_unknown_only_when_nothing_is_priced() -> None:
    assert group([], ["model"]).total.cost_nanos == 0
    assert group([row(status="unpriced")], ["model"]).total.cost_nanos is None
    assert group([row(status="unpriced"), row(nanos=5)], ["model"]).total.cost_nanos == 5
    assert group([row(status="unpriced"), row(status="failed")], ["model"]).total.cost_nanos == 0


ROWS = st.lists(
    st.builds(
        row,
        st.sampled_from(["", TUNED, "gpt-4o", "azure/x", "ft:", "\u202e\x1b[2J"]),
        day=st.sampled_from(["2026-11-01", "2026-11-02"]),
        owner=st.sampled_from(["acme", "anonymous", "key-1a2b3c4d"]),
        status=st.sampled_from(["reported", "estimated", "presumed", "failed"]),
        requests=st.integers(1, 10**9),
        nanos=st.integers(0, 10**18),
        input=st.integers(0, 10**12),
        output=st.integers(0, 10**12),
    )
)


@given(ROWS, st.lists(st.sampled_from(GROUP_KEYS), unique=True))
def test_rows_add_up_to_the_total(rows: list[SumRow], by: list[str]) -> None:
    report = group(rows, by)

    assert report.total.requests == sum(found.requests for found in report.rows) == sum(one.requests for one in rows)
    assert report.total.cost_nanos == sum(found.cost_nanos or 0 for found in report.rows)
    for kind in KINDS:
        assert report.total.tokens.get(kind, 0) == sum(found.tokens.get(kind, 0) for found in report.rows)
    assert len({tuple(found.keys.items()) for found in report.rows}) == len(report.rows)


def test_what_corrections_have_emptied_is_not_shown() -> None:
    """A deployment that had no price, and a reversal of it: the replacement stands under its model's name."""
    rows = [
        row("acme-classifier", status="unpriced", requests=0, input=0, output=0),
        row("gpt-4o-mini", input=7, cached_input=0, nanos=1050),
        row("gpt-4o-mini", status="presumed", requests=0, input=0, nanos=0),
    ]

    report = group(rows, ["model"])

    assert [(each.keys["model"], each.tokens, each.cost_nanos) for each in report.rows] == [
        ("gpt-4o-mini", {"input": 7}, 1050)
    ]
    assert (report.total.requests, report.total.cost_nanos) == (1, 1050)
