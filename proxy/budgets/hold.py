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


class HoldSizes:
    """What is held on one card: the prompt at the dearest rate a text prompt can have on it, and the output allowed.

    Numbers that no request can mean are clamped: a hold is bounded, so that one request cannot starve a budget. What
    the card has no rate for is left out: such usage makes the request unpriced, not dearer. Without a card only the
    prompt is known: what it may cost is not.
    """

    __slots__ = ("_has_output", "_most_output", "_prompt_kind", "_unsaid_output")

    def __init__(self, card: RateCard | None, default_output_tokens: int) -> None:
        """`default_output_tokens`: where neither the request nor the card says how much output there may be."""
        most = card.max_output_tokens if card is not None else None
        self._most_output = MAX_OUTPUT_TOKENS if most is None else min(most, MAX_OUTPUT_TOKENS)
        self._unsaid_output = most or default_output_tokens
        self._prompt_kind: str | None = "input"
        self._has_output = False
        if card is not None:
            rated: list[tuple[Decimal, str]] = [
                (card.rates[kind], kind) for kind in TEXT_INPUT_KINDS if kind in card.rates
            ]
            self._prompt_kind = max(rated)[1] if rated else None
            self._has_output = "output" in card.rates

    def quantities(self, prompt_tokens: int, output_tokens: int | None, n: int) -> dict[str, int]:
        """`output_tokens` is what the request allows for each of `n` choices; None: it does not say. Without zeros."""
        quantities = {}
        if prompt_tokens > 0 and self._prompt_kind is not None:
            quantities[self._prompt_kind] = min(prompt_tokens, MAX_PROMPT_TOKENS)
        if self._has_output:
            output = min(self._unsaid_output if output_tokens is None else output_tokens, self._most_output)
            if output > 0:
                quantities["output"] = output if n <= 1 else output * min(n, MAX_CHOICES)
        return quantities


def hold_nanos(card: RateCard, prompt_tokens: int, output_tokens: int, n: int) -> Nanos:
    """What that costs."""
    return price(Usage.of(HoldSizes(card, 0).quantities(prompt_tokens, output_tokens, n)), card).nanos
