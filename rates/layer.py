"""A layer of the catalogue: the cards of one origin, indexed by id, in order of time, without overlap or gap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Literal, NoReturn

from rates.card_file import Sheet
from rates.errors import CatalogueError
from rates.money import EXACT
from rates.rate_card import RateCard

Origin = Literal["shipped", "override", "imported"]
Key = tuple[str, bool, str]
"""Provider, fine-tuned, id."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The cards of one id, oldest first. `alias`: the id is the family's name, and its snapshots are listed apart.

    `any_date`: the id with any date behind it is listed by this, too.
    """

    cards: tuple[RateCard, ...]
    alias: bool
    any_date: bool


@dataclass(frozen=True, slots=True)
class Layer:
    kind: Origin
    cards: tuple[RateCard, ...]
    index: Mapping[Key, Listed]
    snapshots: Mapping[Key, tuple[str, ...]] = field(default_factory=dict)
    """What each model's cards list, by the model's own key: a user's card of the model inherits it."""


def lay(kind: Origin, sheets: Sequence[Sheet], below: Layer | None = None) -> Layer:
    """Raises CatalogueError for an overlap or a gap. A card that lists no snapshots has those of the layer below."""
    inherited = below.snapshots if below is not None else {}
    models: dict[Key, list[Sheet]] = {}
    for sheet in sheets:
        key = (sheet.provider, sheet.fine_tuned, sheet.model)
        if sheet.snapshots is None:
            sheet = replace(sheet, snapshots=inherited.get(key, ()))  # noqa: PLW2901 - the same sheet, completed
        models.setdefault(key, []).append(sheet)

    ids: dict[Key, list[Sheet]] = {}
    snapshots: dict[Key, tuple[str, ...]] = {}
    for key, of_model in models.items():
        snapshots[key] = tuple(dict.fromkeys(each for sheet in of_model for each in sheet.snapshots or ()))
        for sheet in _closed(of_model):
            for each in dict.fromkeys((sheet.model, *(sheet.snapshots or ()))):
                ids.setdefault((sheet.provider, sheet.fine_tuned, each), []).append(sheet)

    made: dict[tuple[str, int], tuple[RateCard, ...]] = {}
    index: dict[Key, Listed] = {}
    for key, of_id in ids.items():
        of_id.sort(key=lambda sheet: sheet.effective_from)
        for earlier, later in pairwise(of_id):
            _follows(key[2], earlier, later)
        cards: list[RateCard] = []
        for sheet in of_id:
            origin = (str(sheet.path), sheet.line)
            if origin not in made:
                made[origin] = _cards(sheet, kind)
            cards.extend(made[origin])
        index[key] = Listed(
            tuple(cards),
            alias=any(_is_alias(key[2], sheet) for sheet in of_id),
            any_date=any(sheet.any_date for sheet in of_id),
        )
    return Layer(kind, tuple(card for cards_made in made.values() for card in cards_made), index, snapshots)


def _is_alias(each: str, sheet: Sheet) -> bool:
    return bool(sheet.snapshots) and each == sheet.model and each not in (sheet.snapshots or ())


def _closed(of_model: list[Sheet]) -> list[Sheet]:
    """In order of time; an open card ends where the next begins: to change a price is to append a card."""
    ordered = sorted(of_model, key=lambda sheet: sheet.effective_from)
    closed = [
        replace(sheet, effective_to=later.effective_from)
        if sheet.effective_to is None and sheet.effective_from < later.effective_from
        else sheet
        for sheet, later in pairwise(ordered)
    ]
    return [*closed, ordered[-1]]


def _follows(each: str, earlier: Sheet, later: Sheet) -> None:
    """An id's next card begins exactly where the one before it ends."""
    end = earlier.effective_to
    if end is None or later.effective_from < end:
        _wrong(each, "overlaps", earlier, later)
    if end < later.effective_from:
        _wrong(each, "leaves a gap after", earlier, later)


def _wrong(each: str, what: str, earlier: Sheet, later: Sheet) -> NoReturn:
    ends = "never ends" if earlier.effective_to is None else f"ends {_day(earlier.effective_to)}"
    begins = _day(later.effective_from)
    raise CatalogueError(
        f"{later.path}:{later.line}: {each}: this card begins {begins} and {what} the one of "
        f"{earlier.path.name}:{earlier.line}, which begins {_day(earlier.effective_from)} and {ends}"
    )


def _cards(sheet: Sheet, kind: Origin) -> tuple[RateCard, ...]:
    """One card a tier, and its twin for data-residency endpoints where those cost more.

    The id of a user's card begins with its file's name: it never takes a shipped card's.
    """
    origin = f"{sheet.path.stem}:" if kind == "override" else ""
    mark = "ft:" if sheet.fine_tuned and not sheet.name.fine_tuned else ""
    cards = [
        RateCard(
            id=f"{origin}{sheet.provider}/{mark}{sheet.model}/{tier}/{_day(sheet.effective_from)}",
            provider=sheet.provider,
            model=sheet.model,
            snapshots=sheet.snapshots or (),
            fine_tuned=sheet.fine_tuned,
            tier=tier,
            rates=amounts.rates,
            unit_rates=amounts.unit_rates,
            assumed=amounts.assumed | ({"effective_from"} if sheet.start_assumed else frozenset()),
            effective_from=sheet.effective_from,
            effective_to=sheet.effective_to,
            long_context=replace(sheet.long_context, rates=amounts.long_rates) if sheet.long_context else None,
            residency_times=sheet.residency_times,
            any_date=sheet.any_date,
            shutdown=sheet.shutdown,
            max_output_tokens=sheet.max_output_tokens,
            training=sheet.training,
            hosting=sheet.hosting,
            source=sheet.source,
            checked=sheet.checked,
            note=sheet.note,
            origin=kind,
        )
        for tier, amounts in sheet.tiers.items()
    ]
    twins = [_resident(card, card.residency_times) for card in cards if card.residency_times is not None]
    return (*cards, *twins)


def _resident(card: RateCard, times: Decimal) -> RateCard:
    """The card at a data-residency endpoint: its tokens cost more, its calls and sessions do not."""

    def more(rates: Mapping[str, Decimal]) -> dict[str, Decimal]:
        return {kind: EXACT.multiply(rate, times) for kind, rate in rates.items()}

    long = card.long_context
    return replace(
        card,
        id=f"{card.id}/residency",
        rates=more(card.rates),
        long_context=replace(long, rates=more(long.rates)) if long else None,
        resident=True,
    )


def _day(moment: datetime) -> str:
    """`2026-11-22`, or with its time where that is not midnight."""
    text = moment.isoformat().replace("+00:00", "Z")
    return text.removesuffix("T00:00:00Z")
