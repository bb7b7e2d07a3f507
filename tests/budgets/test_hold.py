"""The size of a hold."""

from datetime import UTC, date, datetime
from decimal import Decimal

from proxy.budgets import hold_nanos
from rates.rate_card import LongContext, RateCard


def card(long_context: LongContext | None = None, **rates: str) -> RateCard:
    return RateCard(
        id="test/model",
        provider="openai",
        model="model",
        fine_tuned=False,
        tier="standard",
        rates={kind: Decimal(rate) for kind, rate in rates.items()},
        effective_from=datetime(2024, 1, 1, tzinfo=UTC),
        long_context=long_context,
        source="a test",
        checked=date(2026, 11, 22),
    )


TUNED_MINI = card(input="0.30", cached_input="0.15", output="1.20")


def test_prompt_and_output_at_the_cards_rates() -> None:
    assert hold_nanos(TUNED_MINI, 1000, 500, 1) == 900_000


def test_each_choice_may_use_the_whole_output() -> None:
    assert hold_nanos(TUNED_MINI, 1000, 500, 3) == 300_000 + 3 * 600_000


def test_the_prompt_is_held_at_its_dearest_rate() -> None:
    dear_write = card(input="5", cached_input="0.5", cache_write="6.25", output="30")
    assert hold_nanos(dear_write, 1000, 0, 1) == 6_250_000


def test_a_long_prompt_is_held_at_the_long_price() -> None:
    long = card(LongContext(272_000, Decimal(2), Decimal("1.5")), input="1", output="10")
    assert hold_nanos(long, 272_000, 100, 1) == 272_000_000 + 1_000_000
    assert hold_nanos(long, 272_001, 100, 1) == 544_002_000 + 1_500_000


def test_absurd_numbers_are_clamped() -> None:
    most = hold_nanos(TUNED_MINI, 10**7, 10**6, 128)
    assert hold_nanos(TUNED_MINI, 10**30, 10**30, 10**30) == most
    assert hold_nanos(TUNED_MINI, -5, -5, 0) == 0
    assert hold_nanos(TUNED_MINI, 0, 10, -3) == hold_nanos(TUNED_MINI, 0, 10, 1)


def test_what_a_card_has_no_rate_for_is_left_out() -> None:
    assert hold_nanos(card(input="0.02"), 1000, 500, 1) == 20_000
    assert hold_nanos(card(audio_output="60"), 1000, 500, 1) == 0
