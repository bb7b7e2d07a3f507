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
    """What is held on one card. Without a card only the prompt is known: what it may cost is not."""

    __slots__ = ("_has_output", "_most_output", "_prompt_kind")

    def __init__(self, card: RateCard | None) -> None:
        self._most_output = card.max_output_tokens if card is not None else None
        self._prompt_kind: str | None = "input"
        self._has_output = False
        if card is not None:
            rated: list[tuple[Decimal, str]] = [
                (card.rates[kind], kind) for kind in TEXT_INPUT_KINDS if kind in card.rates
            ]
            self._prompt_kind = max(rated)[1] if rated else None
            self._has_output = "output" in card.rates

    def quantities(self, prompt_tokens: int, output_tokens: int, n: int) -> dict[str, int]:
        """The prompt at the dearest rate a text prompt can have on this card, and `n` outputs of `output_tokens` each.

        Numbers that no request can mean are clamped: a hold is bounded, so that one request cannot starve a budget.
        What the card has no rate for is left out: such usage makes the request unpriced, not dearer.
        """
        quantities = {}
        if prompt_tokens > 0 and self._prompt_kind is not None:
            quantities[self._prompt_kind] = min(MAX_PROMPT_TOKENS, prompt_tokens)
        if output_tokens > 0 and self._has_output:
            output = min(MAX_OUTPUT_TOKENS, output_tokens)
            if n > 1:
                output *= min(MAX_CHOICES, n)
            quantities["output"] = output
        return quantities

    def allowed(self, prompt_tokens: int, max_output_tokens: int | None, n: int, default: int) -> dict[str, int]:
        """The same, with no more output than the card allows; where the request says no limit, with all of that.

        `default`: the output tokens where neither says.
        """
        most = self._most_output
        output = (most or default) if max_output_tokens is None else max_output_tokens
        return self.quantities(prompt_tokens, output if most is None or output < most else most, n)


def hold_usage(card: RateCard, prompt_tokens: int, output_tokens: int, n: int) -> Usage:
    """What is held, as usage."""
    return Usage.of(HoldSizes(card).quantities(prompt_tokens, output_tokens, n))


def hold_nanos(card: RateCard, prompt_tokens: int, output_tokens: int, n: int) -> Nanos:
    """What that costs."""
    return price(hold_usage(card, prompt_tokens, output_tokens, n), card).nanos
