"""The size of a hold: what a request may cost at most, as far as one can know before it is answered."""

from decimal import Decimal

from rates.charge import price
from rates.money import Nanos
from rates.rate_card import RateCard
from rates.usage import Usage

MAX_PROMPT_TOKENS = 10**7
MAX_OUTPUT_TOKENS = 10**6
MAX_CHOICES = 128
# Not cache_write_12h: twice the input rate, and only for who asks for it.
TEXT_INPUT_KINDS = ("input", "cached_input", "cache_write")


def hold_usage(card: RateCard, prompt_tokens: int, output_tokens: int, n: int) -> Usage:
    """The prompt at the dearest rate a text prompt can have on this card, and `n` outputs of `output_tokens` each.

    Numbers that no request can mean are clamped: a hold is bounded, so that one request cannot starve a budget.
    What the card has no rate for is left out: such usage makes the request unpriced, not dearer.
    """
    prompt = _clamped(prompt_tokens, 0, MAX_PROMPT_TOKENS)
    output = _clamped(output_tokens, 0, MAX_OUTPUT_TOKENS) * _clamped(n, 1, MAX_CHOICES)
    quantities: dict[str, int] = {}
    rated: list[tuple[Decimal, str]] = [(card.rates[kind], kind) for kind in TEXT_INPUT_KINDS if kind in card.rates]
    if rated:
        quantities[max(rated)[1]] = prompt
    if "output" in card.rates:
        quantities["output"] = output
    return Usage.of(quantities)


def hold_nanos(card: RateCard, prompt_tokens: int, output_tokens: int, n: int) -> Nanos:
    """What that costs."""
    return price(hold_usage(card, prompt_tokens, output_tokens, n), card).nanos


def _clamped(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))
