"""Prices by hand: USD per million tokens as the published price list has them, written down here a second time."""

from collections.abc import Iterable
from decimal import Decimal

from proxy.cli.demo_upstream import Served
from tests.system.harness import FINE_TUNED

# (input, cached input, output)
BY_HAND = {
    "gpt-4o-mini-2024-07-18": ("0.15", "0.075", "0.60"),
    "gpt-4o-2024-08-06": ("2.50", "1.25", "10"),
    "gpt-4.1-2025-04-14": ("2", "0.50", "8"),
    "gpt-4.1-mini-2025-04-14": ("0.40", "0.10", "1.60"),
    FINE_TUNED: ("0.30", "0.15", "1.20"),
    "ft:gpt-4.1-2025-04-14:acme:support:B2c3D4e5": ("3", "0.75", "12"),
    "ft:gpt-4.1-mini-2025-04-14:acme::Zz9:ckpt-step-200": ("0.80", "0.20", "3.20"),
    "ft:gpt-4o-2024-08-06:acme:router:Q1w2": ("3.75", "1.875", "15"),
}


def cost_of(served: Served) -> int:
    """Nanos that this completion costs. Every rate here gives whole nanos a token, so nothing is rounded."""
    fresh, cached, output = (Decimal(rate) * 1000 for rate in BY_HAND[served.model])
    nanos = (
        (served.prompt_tokens - served.cached_tokens) * fresh
        + served.cached_tokens * cached
        + served.completion_tokens * output
    )
    assert nanos == int(nanos)
    return int(nanos)


def cost_of_all(served: Iterable[Served]) -> int:
    return sum(map(cost_of, served))
