"""rates: what a token costs. Pure: no I/O beyond its own card files, no clock (the moment is passed in).

    text ── parse_model_name ──> ModelName ─┐
    cards/*.toml, the user's files          │
      └─ load_catalogue ──> Catalogue ── find(name, provider, tier, at) ──> Found(card, provenance)
                                                                              │
    Usage (disjoint quantities) ───────────────────────────────── price(usage, card) ──> Charge (lines, nanos)

money        Nanos; the one rounding
usage        Usage: every token is in exactly one quantity
model_name   the grammar of model ids
rate_card    RateCard: one model, provider, tier and period
card_file    a TOML file into sheets, or one complaint with its line (card_values reads, card_lines finds the line)
layer        sheets into cards, in order of time, without overlap or gap
imported     other vendors' cards, read when a vendor is first asked (cards/imported/convert.py makes them)
catalogue    find a card, say how sure that is, or raise NotPriced
survey       the catalogue as a whole: what holds, what changed, what a file would do
charge       price usage, line by line
whole_rates  a card's rates as integers

What has no card has no price: NotPriced, never zero, never a neighbour's price.
"""

from rates.catalogue import Catalogue, Found, Provenance, load_catalogue
from rates.charge import Charge, Line, price
from rates.errors import CatalogueError, NotPriced, RatesError
from rates.model_name import ModelName, parse_model_name
from rates.money import Nanos
from rates.rate_card import Hosting, LongContext, RateCard, Training, tier_named
from rates.usage import Usage
from rates.whole_rates import Prices, prices_of

__all__ = [
    "Catalogue",
    "CatalogueError",
    "Charge",
    "Found",
    "Hosting",
    "Line",
    "LongContext",
    "ModelName",
    "Nanos",
    "NotPriced",
    "Prices",
    "Provenance",
    "RateCard",
    "RatesError",
    "Training",
    "Usage",
    "load_catalogue",
    "parse_model_name",
    "price",
    "prices_of",
    "tier_named",
]
