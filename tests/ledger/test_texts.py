"""What is written from a form is what the encoder would write of the whole record, whatever is in it."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.ledger import (
    LedgerEntry,
    LineForm,
    Moved,
    MovedAccount,
    Opened,
    OpenedForm,
    utc_text,
)
from proxy.ledger.line_text import line_text
from proxy.ledger.texts import text

ANYTHING = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=8),
    st.sampled_from(['"', "\\", "é\n", "\ud800", "</x>", "%d"]),
)
MAYBE = st.one_of(st.none(), ANYTHING)
NAMES = st.text(st.characters(codec="utf-8"), max_size=8)
USAGE = st.dictionaries(st.sampled_from(["input", "cached_input", "output"]), st.integers(1, 10**9))
NANOS = st.integers(0, 10**18)


@given(
    st.fixed_dictionaries(
        {
            "owner": ANYTHING,
            "identity": ANYTHING,
            "endpoint": ANYTHING,
            "asked_model": MAYBE,
            "served_model": MAYBE,
            "tier": ANYTHING,
            "status": st.sampled_from(["reported", "estimated", "presumed"]),
            "reason": MAYBE,
            "card": ANYTHING,
            "provenance": st.sampled_from(["exact", "family"]),
        }
    ),
    st.fixed_dictionaries(
        {
            "assumed": st.booleans(),
            "long_context": st.booleans(),
            "upstream_id": MAYBE,
            "client_request_id": MAYBE,
            "upstream_request_id": MAYBE,
            "upstream_status": st.one_of(st.none(), st.integers(100, 599)),
            "latency_ms": st.one_of(st.none(), st.integers(0)),
        }
    ),
    st.lists(st.tuples(NAMES, NAMES), max_size=3),
    USAGE,
    NANOS,
)
def test_a_line_from_a_form_is_the_line_of_the_entry(
    common: dict[str, Any], own: dict[str, Any], moved: list[tuple[str, str]], usage: dict[str, int], nanos: int
) -> None:
    whole = {**common, "identity": None} if common["identity"] == common["owner"] else common
    entry = LedgerEntry(
        id="e1",
        at="2026-11-28T08:00:00.000Z",
        usage=usage,
        cost_nanos=nanos,
        moved=tuple(Moved(*each, nanos) for each in moved),
        **whole,
        **own,
    )
    assert LineForm(moved=moved, **common).line("e1", entry.at, usage, nanos, **own) == line_text(entry)


@given(
    st.fixed_dictionaries(
        {
            "owner": ANYTHING,
            "identity": ANYTHING,
            "endpoint": ANYTHING,
            "asked_model": MAYBE,
            "model": MAYBE,
            "tier": ANYTHING,
            "card": MAYBE,
            "provenance": MAYBE,
            "accounts": st.lists(st.builds(MovedAccount, NAMES, NAMES, NAMES, NAMES, NAMES), max_size=2).map(tuple),
        }
    ),
    st.fixed_dictionaries({"assumed": st.booleans(), "long_context": st.booleans(), "client_request_id": MAYBE}),
    USAGE,
    st.one_of(st.none(), NANOS),
)
def test_what_is_opened_from_a_form_is_the_record_of_the_whole(
    common: dict[str, Any], own: dict[str, Any], usage: dict[str, int], nanos: int | None
) -> None:
    at = "2026-11-28T08:00:00.000Z"
    opened = Opened(id="e1", at=at, usage=usage, nanos=nanos, **common, **own)
    written = OpenedForm(**common).opened("e1", at, usage, nanos, **own)

    assert (written.id, written.nanos, written.text) == ("e1", nanos, text(opened))
    assert text(written.opened) == written.text


@given(
    st.lists(
        st.one_of(
            st.datetimes(timezones=st.just(UTC)),
            st.datetimes(
                datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.just(timezone(timedelta(hours=5, minutes=30)))
            ),
            st.integers(0, 3_000_000).map(
                lambda more: datetime(2026, 11, 28, tzinfo=UTC) + timedelta(microseconds=more)
            ),
            st.sampled_from([datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)]),
        ),
        min_size=1,
    )
)
def test_moments_are_written_in_milliseconds_of_utc(moments: list[datetime]) -> None:
    for at in moments:
        expected = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        assert utc_text(at) == expected
