from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rates import LongContext, NotPriced, RateCard, Usage, load_catalogue, parse_model_name, price
from rates.money import EXACT, to_nanos
from rates.rate_card import AS_TEXT, UNIT_KINDS
from rates.usage import KINDS, MAX_QUANTITY, PROMPT_KINDS

CARD = RateCard(
    id="acme/m/standard/2026-01-01",
    provider="acme",
    model="m",
    fine_tuned=False,
    tier="standard",
    rates={"input": Decimal("0.15"), "cached_input": Decimal("0.075"), "output": Decimal("0.6")},
    unit_rates={"web_search_calls": Decimal("0.01"), "file_search_calls": Decimal("0.0025")},
    effective_from=datetime(2026, 1, 1, tzinfo=UTC),
    source="contract",
    checked=date(2026, 11, 1),
)
LONG = replace(
    CARD,
    long_context=LongContext(
        1000, input_times=Decimal(2), output_times=Decimal("1.5"), rates={"cached_input": Decimal("0.14")}
    ),
)


def test_lines_are_exact_and_say_quantity_and_rate() -> None:
    charge = price(Usage(input=1, cached_input=3, output=500, web_search_calls=2), CARD)
    assert [(line.kind, line.quantity, line.usd_per_million, line.usd_per_unit, line.usd) for line in charge.lines] == [
        ("input", 1, Decimal("0.15"), None, Decimal("0.00000015")),
        ("cached_input", 3, Decimal("0.075"), None, Decimal("0.000000225")),
        ("output", 500, Decimal("0.6"), None, Decimal("0.0003")),
        ("web_search_calls", 2, None, Decimal("0.01"), Decimal("0.02")),
    ]
    assert charge.nanos == 20_300_375
    assert charge.card is CARD
    assert not charge.long_context


def test_no_usage_costs_nothing_and_has_no_lines() -> None:
    assert price(Usage(), CARD).lines == ()
    assert price(Usage(), CARD).nanos == 0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {**CARD.rates, **CARD.unit_rates, **AS_TEXT}])
def test_a_kind_without_a_rate_is_not_priced(kind: str) -> None:
    with pytest.raises(NotPriced, match=f"card {CARD.id} has no rate for {kind}"):
        price(Usage.of({"input": 1, kind: 1}), CARD)


def test_a_rate_of_zero_is_a_rate() -> None:
    charge = price(Usage(output=5), replace(CARD, rates={"output": Decimal(0)}))
    assert (charge.nanos, len(charge.lines)) == (0, 1)


def test_long_context_counts_the_whole_prompt_and_charges_the_whole_request() -> None:
    assert not price(Usage(input=500, cached_input=500, output=5000), LONG).long_context
    above = price(Usage(input=500, cached_input=501, output=10, web_search_calls=1), LONG)
    assert above.long_context
    assert [line.usd_per_million for line in above.lines] == [Decimal("0.30"), Decimal("0.14"), Decimal("0.90"), None]
    assert above.lines[-1].usd == Decimal("0.01")


amounts = st.decimals(0, 10**9, places=9)


@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, MAX_QUANTITY), amounts), unique_by=lambda part: part[0])
)
def test_the_sum_is_rounded_once_half_to_even(parts: list[tuple[str, int, Decimal]]) -> None:
    usage = Usage.of({kind: quantity for kind, quantity, _ in parts})
    per_unit = {kind for kind in KINDS if kind.endswith(("_calls", "_sessions"))}
    card = replace(
        CARD,
        rates={kind: rate for kind, _, rate in parts if kind not in per_unit},
        unit_rates={kind: rate for kind, _, rate in parts if kind in per_unit},
    )
    exact = sum(
        (Fraction(rate) * quantity / (1 if kind in per_unit else 10**6) for kind, quantity, rate in parts), Fraction()
    )
    charge = price(usage, card)
    assert sum((Fraction(line.usd) for line in charge.lines), Fraction()) == exact
    assert charge.nanos == round(exact * 10**9)  # round() of a Fraction is half to even


@given(st.integers(0, MAX_QUANTITY), st.integers(0, MAX_QUANTITY))
def test_more_usage_never_costs_less(tokens: int, more: int) -> None:
    assert price(Usage(input=min(tokens + more, MAX_QUANTITY)), LONG).nanos >= price(Usage(input=tokens), LONG).nanos


def test_half_a_nano_goes_to_the_even() -> None:
    card = replace(CARD, rates={"input": Decimal("0.0005")})
    assert [price(Usage(input=n), card).nanos for n in (1, 3, 5)] == [0, 2, 2]
    assert Decimal("0.5").quantize(Decimal(1), ROUND_HALF_EVEN) == 0


def test_prompt_kinds_are_what_the_threshold_looks_at() -> None:
    assert "output" not in PROMPT_KINDS
    assert {"input", "cached_input", "cache_write", "cache_write_12h", "audio_input"} <= PROMPT_KINDS


def test_images_in_a_chat_are_charged_as_text_unless_the_card_says_otherwise() -> None:
    at = datetime(2026, 11, 21, tzinfo=UTC)
    card = load_catalogue().find(parse_model_name("gpt-4o"), provider="openai", tier=None, at=at).card

    assert price(Usage(image_input=1000, cached_image_input=1000), card).nanos == 1000 * 2500 + 1000 * 1250


CARDS = [*load_catalogue()]
_TO_MILLIONS = -6


def by_decimals(usage: Usage, card: RateCard) -> tuple[int, bool, bool] | str:
    """What a price is, by the definition: exact lines in Decimal, their sum rounded once."""
    prompt = sum(quantity for kind, quantity in usage.items() if kind in PROMPT_KINDS)
    long_context = card.long_context is not None and prompt > card.long_context.above_prompt_tokens
    total, assumed = Decimal(0), False
    for kind, quantity in usage.items():
        is_unit = kind in UNIT_KINDS
        rate = card.unit_rates.get(kind) if is_unit else card.usd_per_million(kind, long_context=long_context)
        if rate is None:
            return kind
        line = EXACT.multiply(rate, quantity)
        total = EXACT.add(total, line if is_unit else EXACT.scaleb(line, _TO_MILLIONS))
        assumed = assumed or kind in card.assumed
    return to_nanos(total), long_context, assumed


quantities = st.one_of(st.integers(0, 300), st.integers(0, MAX_QUANTITY), st.sampled_from([271_999, 272_000, 272_001]))


def check(usage: Usage, card: RateCard) -> None:
    expected = by_decimals(usage, card)
    if isinstance(expected, str):
        with pytest.raises(NotPriced, match=f"has no rate for {expected}$"):
            price(usage, card)
        return
    charge = price(usage, card)
    assert (charge.nanos, charge.long_context, charge.assumed) == expected


@given(st.sampled_from(CARDS), st.dictionaries(st.sampled_from(KINDS), quantities, max_size=6))
def test_whole_numbers_price_every_shipped_card_as_decimals_do(card: RateCard, used: dict[str, int]) -> None:
    check(Usage.of(used), card)
    check(Usage.of({kind: number for kind, number in used.items() if kind in card.rates}), card)


@given(
    st.dictionaries(st.sampled_from(KINDS), st.decimals(0, 10**12, places=18), min_size=1),
    st.decimals(0, 100, places=6),
    st.dictionaries(st.sampled_from(KINDS), quantities),
)
def test_whole_numbers_price_any_card_as_decimals_do(
    rates: dict[str, Decimal], times: Decimal, used: dict[str, int]
) -> None:
    card = replace(
        CARD,
        rates={kind: rate for kind, rate in rates.items() if kind not in UNIT_KINDS},
        unit_rates={kind: rate for kind, rate in rates.items() if kind in UNIT_KINDS},
        assumed=frozenset(list(rates)[:1]),
        long_context=LongContext(272_000, times, times + 1, {"cached_input": Decimal("0.5")}),
    )
    check(Usage.of(used), card)


@pytest.mark.parametrize(("quantity", "nanos"), [(1, 0), (2, 1), (3, 2), (5, 2), (7, 4)])
def test_half_a_nano_goes_to_the_even_one(quantity: int, nanos: int) -> None:
    half = replace(CARD, rates={"input": Decimal("0.0005")})
    assert price(Usage(input=quantity), half).nanos == nanos
