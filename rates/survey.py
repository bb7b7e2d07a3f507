"""Looking at the catalogue as a whole: what holds on a day, what a file changes, what changed between two days.

Data-residency twins are left out: a card says itself how many times as much they cost.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path

from rates.card_file import Sheet, read_card_file
from rates.catalogue import Catalogue, load_catalogue
from rates.rate_card import RateCard


@dataclass(frozen=True, slots=True)
class Selection:
    """Which cards are meant. None or empty: any. `pattern` is a glob over the model and its snapshots."""

    providers: Sequence[str] = ()
    fine_tuned: bool | None = None
    pattern: str | None = None

    def __contains__(self, card: RateCard) -> bool:
        return (
            not card.resident
            and (not self.providers or card.provider in self.providers)
            and (self.fine_tuned is None or card.fine_tuned == self.fine_tuned)
            and (self.pattern is None or any(fnmatchcase(each, self.pattern) for each in (card.model, *card.snapshots)))
        )


def every_card(catalogue: Catalogue, *, imported: Sequence[str] = ()) -> Iterator[RateCard]:
    """The user's cards, the shipped ones, and the imported ones of these providers."""
    yield from catalogue
    for provider in imported:
        yield from catalogue.imported(provider)


def holding(cards: Iterable[RateCard], selection: Selection, at: datetime) -> list[RateCard]:
    """In order of provider and model; a user's card stands beside the one that it overrides."""
    found = [card for card in cards if card in selection and card.holds_at(at)]
    return sorted(found, key=lambda card: (card.provider, not card.fine_tuned, card.model))


@dataclass(frozen=True, slots=True)
class Change:
    """One amount of a model that differs between two moments. None: there was, or is, no price."""

    provider: str
    model: str
    fine_tuned: bool
    tier: str
    kind: str
    before: Decimal | None
    after: Decimal | None


def changes(cards: Iterable[RateCard], selection: Selection, before: datetime, after: datetime) -> list[Change]:
    """Per model, tier and kind. A user's card stands for what it overrides."""
    chosen = [card for card in cards if card in selection]
    old, new = (_amounts(card for card in chosen if card.holds_at(at)) for at in (before, after))
    return [
        Change(*key, old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _amounts(cards: Iterable[RateCard]) -> Mapping[tuple[str, str, bool, str, str], Decimal]:
    amounts: dict[tuple[str, str, bool, str, str], Decimal] = {}
    for card in cards:
        for kind, amount in {**card.rates, **card.unit_rates}.items():
            amounts.setdefault((card.provider, card.model, card.fine_tuned, card.tier, kind), amount)
    return amounts


@dataclass(frozen=True, slots=True)
class Source:
    """Where prices stand, when somebody last looked, and how many cards rest on it."""

    checked: date
    provider: str
    source: str
    cards: int


def sources(cards: Iterable[RateCard], selection: Selection) -> list[Source]:
    """The oldest check first: that is where to go and look."""
    counts: dict[tuple[date, str, str], int] = {}
    for card in cards:
        if card in selection:
            key = (card.checked, card.provider, card.source)
            counts[key] = counts.get(key, 0) + 1
    return [Source(*key, number) for key, number in sorted(counts.items())]


@dataclass(frozen=True, slots=True)
class Effect:
    """What one `[[card]]` of a user's file does. `overrides`: the shipped or imported cards that it stands before.

    `left_out`: kinds that those price and this does not: such usage would be unpriced.
    """

    sheet: Sheet
    overrides: tuple[RateCard, ...]
    left_out: tuple[str, ...]


def check(file: Path) -> list[Effect]:
    """Raises CatalogueError for what is wrong: in the file, or with it above the shipped cards."""
    sheets = read_card_file(file)
    load_catalogue([file])
    below = load_catalogue()
    return [_effect(sheet, below) for sheet in sheets]


def _effect(sheet: Sheet, below: Catalogue) -> Effect:
    overridden = [
        found.card
        for found in below.history(sheet.name, sheet.provider, fine_tuned=sheet.fine_tuned)
        if found.card.tier in sheet.tiers
        and not found.card.resident
        and (found.card.effective_to is None or found.card.effective_to > sheet.effective_from)
        and (sheet.effective_to is None or found.card.effective_from < sheet.effective_to)
    ]
    missing = dict.fromkeys(
        kind
        for card in overridden
        for kind in (*card.rates, *card.unit_rates)
        if kind not in sheet.tiers[card.tier].rates and kind not in sheet.tiers[card.tier].unit_rates
    )
    return Effect(sheet, tuple(overridden), tuple(missing))
