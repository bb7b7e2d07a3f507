from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from timeit import timeit
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rates import Catalogue, NotPriced, Usage, load_catalogue, parse_model_name, price
from rates.rate_card import TIERS

SHIPPED = load_catalogue()
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
FT = "ft:gpt-4o-mini-2024-07-18:acme::abc123"
USER = """
provider = "openai"

[[card]]
model = "{model}"
fine_tuned = {fine_tuned}
effective_from = {begins}
source = "contract 7"
checked = 2026-11-01
standard = {{ input = "0.01", cached_input = "0.01", output = "0.02" }}
"""


def with_user_card(
    tmp_path: Path, model: str, *, fine_tuned: bool = False, begins: str = "2024-01-01", more: str = ""
) -> Catalogue:
    file = tmp_path / "my-rates.toml"
    file.write_text(USER.format(model=model, fine_tuned=str(fine_tuned).lower(), begins=begins) + more)
    return load_catalogue([file])


def find(
    catalogue: Catalogue, model: str, *, tier: str | None = None, at: datetime = NOON, provider: str = "openai"
) -> tuple[str, str]:
    found = catalogue.find(parse_model_name(model), provider=provider, tier=tier, at=at)
    return found.card.id, found.provenance


@given(
    st.sampled_from(("", "openai/", "azure/")),
    st.sampled_from(("ft:", "")),
    st.sampled_from(
        ("gpt-4o", "gpt-4o-mini-2024-07-18", "gpt-4.1", "gpt-5-mini", "gpt-5.4", "davinci-002", "gpt-4o-2024-05-13")
    ),
    st.lists(
        st.sampled_from(("ft", "gpt-4o", "gpt-4.1-2025-04-14", "acme", "", "4.1", "ckpt-step-1", "96olL566")),
        max_size=6,
    ),
    st.sampled_from(("", "-2024-07-18", ".ft-0123456789abcdef0123456789abcdef", ":free", "-x")),
    st.sampled_from((*TIERS, None, "scale")),
)
def test_no_id_is_taken_for_another_model(
    prefix: str, mark: str, base: str, fields: list[str], end: str, tier: str | None
) -> None:
    name = parse_model_name(prefix + ":".join((mark + base, *fields)) + end)
    try:
        found = SHIPPED.find(name, provider="openai", tier=tier, at=NOON)
    except NotPriced:
        return
    card = found.card
    assert card.fine_tuned == name.fine_tuned
    assert name.base in (card.model, *card.snapshots)
    assert card.provider == (name.provider or "openai")
    assert card.tier == (tier or "standard")
    assert name.variant is None


def test_every_shipped_card_says_where_its_price_stands() -> None:
    assert len({card.id for card in SHIPPED}) == len(SHIPPED)
    for card in SHIPPED:
        assert card.source.startswith("https://")
        assert card.checked == date(2026, 11, 21)
        assert card.rates
        assert card.assumed <= {*card.rates, "effective_from"}
        assert SHIPPED.card(card.id) is card


def test_an_assumed_start_is_said_aloud_before_the_day_of_the_check() -> None:
    name = parse_model_name(FT)
    early = SHIPPED.find(name, provider="openai", tier=None, at=datetime(2025, 1, 1, tzinfo=UTC))
    late = SHIPPED.find(name, provider="openai", tier=None, at=NOON)
    assert (early.assumed, late.assumed) == (True, False)
    assert early.card is late.card


def test_assumed_rates_are_said_only_where_they_are_used() -> None:
    found = SHIPPED.find(parse_model_name("ft:gpt-3.5-turbo-0125:acme::x"), provider="openai", tier=None, at=NOON)
    assert not price(Usage(input=10, output=10), found.card).assumed
    assert price(Usage(input=10, cached_input=1), found.card).assumed


def test_shutdown_dates() -> None:
    def shutdown(model: str, provider: str = "openai") -> date | None:
        return SHIPPED.shutdown(parse_model_name(model), provider)

    assert shutdown(FT) == date(2027, 1, 14)
    assert shutdown("ft:gpt-4.1-nano-2025-04-14:acme::x") == date(2026, 10, 23)
    assert shutdown("gpt-4o") == date(2027, 1, 14)
    assert shutdown("gpt-6-astra") is None
    assert shutdown("gpt-4o", "azure") is None
    assert shutdown("gpt-4o-2024-08-06.ft-0123456789abcdef0123456789abcdef") is None
    assert shutdown("nobody") is None


def test_knows() -> None:
    assert SHIPPED.knows(parse_model_name(FT), "openai")
    assert SHIPPED.knows(parse_model_name("gpt-4o"), "azure")
    assert not SHIPPED.knows(parse_model_name("ft:gpt-5-mini-2025-08-07:acme::abc"), "openai")
    assert not SHIPPED.knows(parse_model_name("gpt-4o:free"), "openai")
    assert not SHIPPED.knows(parse_model_name("gpt-4o"), "anthropic")


def test_training_and_hosting() -> None:
    def card(model: str, provider: str = "openai") -> Any:
        return SHIPPED.find(parse_model_name(model), provider=provider, tier=None, at=NOON).card

    for base, rate in (
        ("gpt-4.1", "25"), ("gpt-4.1-mini", "5"), ("gpt-4.1-nano", "1.5"), ("gpt-4o", "25"), ("gpt-4o-mini", "3"),
        ("gpt-3.5-turbo", "8"), ("davinci-002", "6"), ("babbage-002", "0.4"),
    ):  # fmt: skip
        assert card(f"ft:{base}:acme::x").training.usd_per_million == Decimal(rate)
        assert card(f"ft:{base}:acme::x").hosting.usd_per_hour == 0
    assert card("ft:o4-mini:acme::x").training.usd_per_hour == 100
    for base, rate in (
        ("gpt-4o", "1.7"),
        ("gpt-4.1-nano", "1.7"),
        ("o4-mini", "1.7"),
        ("o3-mini", "1.02"),
        ("gpt-4", "5"),
        ("gpt-35-turbo", "1.7"),
    ):
        assert card(f"{base}.ft-0123456789abcdef0123456789abcdef").hosting.usd_per_hour == Decimal(rate)


@pytest.mark.parametrize(
    ("model", "tier", "reason"),
    [
        ("ft:gpt-5-mini-2025-08-07:acme::abc", None, "never its base's price"),
        ("gpt-4o-2025-01-01", None, "never priced as its family gpt-4o"),
        ("gpt-4o:free", None, "variant"),
        ("ft:gpt-4o-mini:acme::x", "flex", "its cards have: standard, batch"),
        ("gpt-4o", "Batch", "known: standard"),
        ("ftchkpt-0a", None, "does not name its base"),
        ("nobody\r\nset-cookie: x", None, "no card prices nobody"),
        ("x" * 5000, None, "..."),
    ],
)
def test_not_priced_says_what_is_missing_in_one_line(model: str, tier: str | None, reason: str) -> None:
    with pytest.raises(NotPriced) as caught:
        SHIPPED.find(parse_model_name(model), provider="openai", tier=tier, at=NOON)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


def test_a_users_card_overrides_the_model_and_its_snapshots_in_its_tier_and_period(tmp_path: Path) -> None:
    catalogue = with_user_card(tmp_path, "gpt-4o-mini", begins="2026-11-01")
    mine = ("my-rates:openai/gpt-4o-mini/standard/2026-11-01", "override")
    assert find(catalogue, "gpt-4o-mini") == mine
    assert find(catalogue, "gpt-4o-mini-2024-07-18") == mine
    assert find(catalogue, "gpt-4o-mini", tier="batch") == ("openai/gpt-4o-mini/batch/2024-01-01", "family")
    day_before = datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC)
    assert find(catalogue, "gpt-4o-mini-2024-07-18", at=day_before) == (
        "openai/gpt-4o-mini/standard/2024-01-01",
        "exact",
    )
    assert find(catalogue, FT) == ("openai/ft:gpt-4o-mini/standard/2024-01-01", "exact")
    assert find(catalogue, "gpt-4o-mini", provider="azure") == ("azure/gpt-4o-mini/standard/2024-01-01", "family")
    assert catalogue.shutdown(parse_model_name("gpt-4o-mini"), "openai") == date(2027, 1, 14)


def test_a_file_over_all_wins_where_it_has_a_card_and_inherits_snapshots(tmp_path: Path) -> None:
    mine, over = tmp_path / "mine.toml", tmp_path / "over.toml"
    mine.write_text(USER.format(model="gpt-4o-mini", fine_tuned="false", begins="2024-01-01"))
    over.write_text(USER.format(model="gpt-4o-mini", fine_tuned="false", begins="2026-11-01"))
    catalogue = load_catalogue([mine], over=[over])
    for model in ("gpt-4o-mini", "gpt-4o-mini-2024-07-18"):
        assert find(catalogue, model) == ("over:openai/gpt-4o-mini/standard/2026-11-01", "override")
        assert find(catalogue, model, at=datetime(2026, 10, 31, tzinfo=UTC))[0].startswith("mine:")
    assert find(catalogue, "gpt-4o")[1] != "override"


def test_a_users_card_for_fine_tunes_leaves_the_base_alone(tmp_path: Path) -> None:
    catalogue = with_user_card(tmp_path, "gpt-4o-mini", fine_tuned=True)
    assert find(catalogue, FT)[1] == "override"
    assert find(catalogue, "gpt-4o-mini-2024-07-18")[1] == "exact"


def test_a_users_card_for_one_fine_tune(tmp_path: Path) -> None:
    catalogue = with_user_card(tmp_path, FT)
    assert find(catalogue, FT) == (f"my-rates:openai/{FT}/standard/2024-01-01", "override")
    assert find(catalogue, f"{FT}:ckpt-step-90")[1] == "override"
    assert find(catalogue, f"openai/{FT}")[1] == "override"
    assert find(catalogue, "ft:gpt-4o-mini-2024-07-18:acme::other") == (
        "openai/ft:gpt-4o-mini/standard/2024-01-01",
        "exact",
    )


@pytest.mark.parametrize("model", ["llama3:8b", "meta-llama/Llama-3", "acme/gpt-4o", "mistral-small:tuned:v2"])
def test_a_users_card_adds_a_model(tmp_path: Path, model: str) -> None:
    catalogue = with_user_card(tmp_path, model)
    assert find(catalogue, model)[1] == "override"
    with pytest.raises(NotPriced):
        find(catalogue, model + "x")


def test_find_is_fast_when_warm() -> None:
    name = parse_model_name(FT)
    seconds = min(
        timeit(lambda: SHIPPED.find(name, provider="openai", tier="default", at=NOON), number=2000) for _ in range(5)
    )
    assert seconds / 2000 < 20e-6  # 0.6 µs measured; wide, for a busy machine


def test_ids_that_callers_make_up_do_not_fill_the_memory() -> None:
    catalogue = load_catalogue()
    for number in range(5000):
        find(catalogue, f"ft:gpt-4o-mini:acme::{number}")
    find(catalogue, "ft:gpt-4o-mini:" + "x" * 1000 + "::7")
    assert len(catalogue._memo) <= 4096
    assert all(len(text) <= 256 for text, *_ in catalogue._memo)


def test_any_moment_has_at_most_one_card() -> None:
    for days in range(0, 1100, 7):
        at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=days)
        held = [(c.provider, c.fine_tuned, c.model, c.tier, c.resident) for c in SHIPPED if c.holds_at(at)]
        assert len(held) == len(set(held))


def test_data_residency_is_a_card_of_its_own_where_it_costs_more() -> None:
    def card(model: str, tier: str | None = None) -> Any:
        return SHIPPED.find(parse_model_name(model), provider="openai", tier=tier, at=NOON, resident=True).card

    dearer = card("gpt-5.4", "batch")
    assert dearer.id == "openai/gpt-5.4/batch/2024-01-01/residency"
    plain = SHIPPED.card("openai/gpt-5.4/batch/2024-01-01")
    assert plain is not None
    assert SHIPPED.card(dearer.id) == dearer
    assert dearer.rates["cached_input"] == Decimal("0.143")
    assert dearer.usd_per_million("cached_input", long_context=True) == Decimal("0.275")
    assert dearer.usd_per_million("output", long_context=True) == Decimal("12.375")
    assert dearer.unit_rates == plain.unit_rates
    assert not card("gpt-5.2").resident
    assert not card(FT).resident


GATEWAY = USER.replace('"openai"', '"acme-gateway"', 1)


def test_at_another_provider_a_prefix_is_a_part_of_the_id(tmp_path: Path) -> None:
    file = tmp_path / "my-rates.toml"
    cards = [GATEWAY.format(model="openai/gpt-4o", fine_tuned="false", begins="2024-01-01")]
    cards.append(GATEWAY.format(model="gpt-4.1", fine_tuned="false", begins="2024-01-01").split('"acme-gateway"')[1])
    file.write_text("".join(cards))
    catalogue = load_catalogue([file])
    mine = ("my-rates:acme-gateway/openai/gpt-4o/standard/2024-01-01", "override")
    assert find(catalogue, "openai/gpt-4o", provider="acme-gateway") == mine
    assert find(catalogue, "openai/GPT-4o", provider="acme-gateway") == mine
    assert find(catalogue, "openai/gpt-4.1", provider="acme-gateway")[1] == "override"
    for model in ("openai/gpt-4o-mini", "azure/gpt-4o", "gpt-4o", "openai/ft:gpt-4o:acme::x"):
        with pytest.raises(NotPriced):
            find(catalogue, model, provider="acme-gateway")
    assert find(catalogue, "openai/gpt-4o")[0] == "openai/gpt-4o/standard/2024-01-01"


def test_any_date_is_as_good_only_where_the_card_says_so(tmp_path: Path) -> None:
    catalogue = with_user_card(tmp_path, "sonnet-4", more="any_date = true\n")
    for model in ("sonnet-4", "sonnet-4-20250514", "sonnet-4-2025-05-14", "sonnet-4@20250514", "Sonnet-4-20261231"):
        assert find(catalogue, model)[1] == "override"
    for model in ("sonnet-4-5", "sonnet-4-20251314", "sonnet-4-2025051", "sonnet-4-20250514-x", "sonnet-4-20250514:free",
                  "ft:sonnet-4-20250514:acme::x", "gpt-4o-20240806"):  # fmt: skip
        with pytest.raises(NotPriced):
            find(catalogue, model)


MOMENTS = st.one_of(
    st.datetimes(datetime(2023, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),
    st.builds(
        lambda day, step: datetime.combine(day, datetime.min.time(), UTC) + step * timedelta(microseconds=1),
        st.sampled_from(sorted({card.effective_from.date() for card in SHIPPED} | {card.checked for card in SHIPPED})),
        st.sampled_from([-1, 0, 1]),
    ),
)


def answer(catalogue: Catalogue, model: str, tier: str | None, at: datetime) -> tuple[object, ...]:
    try:
        found = catalogue.find(parse_model_name(model), provider="openai", tier=tier, at=at)
    except NotPriced:
        return ("none",)
    return found.card.id, found.provenance, found.assumed


@given(
    st.sampled_from(["gpt-4o", "gpt-4o-mini", "gpt-4o-mini-2024-07-18", "gpt-5.4", FT, "mystery", "gpt-4.1-nano"]),
    st.sampled_from([None, "priority", "batch", "scale"]),
    MOMENTS,
    st.lists(MOMENTS, min_size=1, max_size=8),
)
def test_an_answer_is_steady_as_long_as_it_says(
    with_later_cards: Catalogue, model: str, tier: str | None, at: datetime, others: list[datetime]
) -> None:
    for catalogue in (SHIPPED, with_later_cards):
        start, end = catalogue.steady(parse_model_name(model), provider="openai", tier=tier, at=at)
        assert start <= at < end
        now = answer(catalogue, model, tier, at)
        assert answer(catalogue, model, tier, start) == now
        assert answer(catalogue, model, tier, end - timedelta(microseconds=1)) == now
        for other in others:
            if start <= other < end:
                assert answer(catalogue, model, tier, other) == now


@pytest.fixture(scope="module")
def with_later_cards(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """A user's cards begin, follow each other and end in front of the shipped ones."""
    later = "".join(
        f"""
[[card]]
model = "gpt-4o-mini"
fine_tuned = false
effective_from = {begins}
source = "contract 7"
checked = 2026-11-01
standard = {{ input = "0.0{number}", cached_input = "0.01", output = "0.02" }}
"""
        for number, begins in enumerate(("2025-03-01T10:00:00Z", "2026-12-01"), 2)
    )
    return with_user_card(tmp_path_factory.mktemp("rates"), "gpt-4o-mini", begins="2025-01-01", more=later)
