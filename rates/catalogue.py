"""The catalogue: which card prices a model at a provider, in a tier, at a moment, and how sure that is.

Cards lie in layers: a user's files over the shipped cards. Where a user's card holds, it wins for its tier and its
period; elsewhere the layer below holds. Imported cards are asked only about ids that no shipped card lists. Inside a
layer, the cards of an id follow each other without overlap and without gap: an open card ends where the next card of
its model begins.

Invariant: a price is found for the id itself, for the alias of a listed family, for the fine-tune that a checkpoint
belongs to, or for a fine-tune's own base; never for a neighbouring date, snapshot, tier or provider, and never for a
fine-tune at its base's price. Otherwise: NotPriced, which says what is missing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Literal

from rates.card_file import read_card_file
from rates.errors import NotPriced
from rates.imported import Imported
from rates.layer import Layer, Listed, lay
from rates.model_name import PROVIDERS, ModelName, parse_model_name, without_date
from rates.rate_card import RateCard, tier_named

Provenance = Literal["exact", "family", "override", "imported"]

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""Before and after every request."""
_SHIPPED = Path(__file__).parent / "cards"
_MEMO_SIZE = 4096
_MEMO_TEXT = 256  # characters: an id is the caller's text, and may be as long as a body


@dataclass(frozen=True, slots=True)
class Found:
    """A card, and how it was found. `assumed`: whether this card held at that moment is assumed.

    Whether a RATE of the card is assumed depends on the usage: `Charge.assumed` says it.
    """

    card: RateCard
    provenance: Provenance
    assumed: bool


@dataclass(frozen=True, slots=True)
class _Span:
    """One candidate: what is found before the card was checked, and after. Made once, so that find makes nothing."""

    card: RateCard
    checked: datetime
    before: Found
    after: Found


class Catalogue:
    """Immutable for its users. Build a new one to reload: what this one has found stays true."""

    def __init__(self, layers: Sequence[Layer], imported: Imported) -> None:
        self._layers = tuple(layers)
        self._imported = imported
        self._by_id = {card.id: card for layer in layers for card in layer.cards}
        self._memo: dict[tuple[str, str, str | None, bool], tuple[_Span, ...]] = {}

    def find(self, name: ModelName, *, provider: str, tier: str | None, at: datetime, resident: bool = False) -> Found:
        """The card in force `at` (aware). `resident`: at a data-residency endpoint. Raises NotPriced.

        A provider that the id itself names wins at OpenAI's and Azure's kind of upstream; elsewhere what looks like
        one is a part of the id (`openai/gpt-oss-120b` at Groq), and only the upstream's own cards are asked.
        """
        spans = self._candidate_spans(name, provider, tier, resident=resident)
        for span in spans:
            card = span.card
            if card.effective_from <= at and (card.effective_to is None or at < card.effective_to):
                return span.after if at >= span.checked else span.before
        raise NotPriced(_no_date(name, spans, at))

    def steady(
        self, name: ModelName, *, provider: str, tier: str | None, at: datetime, resident: bool = False
    ) -> tuple[datetime, datetime]:
        """A time `[start, end)` around `at` in which `find` answers the same.

        Whatever may change the answer bounds it: a candidate's begin, its end, and the day on which it was checked. So
        a card that only begins later, in whatever layer, is never missed.
        """
        start, end = FIRST, LAST
        try:
            spans = self._candidate_spans(name, provider, tier, resident=resident)
        except NotPriced:
            return start, end  # at any time
        for span in spans:
            for moment in (span.card.effective_from, span.card.effective_to, span.checked):
                if moment is None:
                    continue
                if moment <= at:
                    start = max(start, moment)
                else:
                    end = min(end, moment)
        return start, end

    def _candidate_spans(
        self, name: ModelName, provider: str, tier: str | None, *, resident: bool
    ) -> tuple[_Span, ...]:
        """Found once and used again. Raises NotPriced where nothing lists the model in this tier."""
        key = (name.text, provider, tier, resident)
        spans = self._memo.get(key)
        if spans is None:
            spans = self._spans(name, _asked(name, provider), tier_named(tier), resident=resident)
            if len(name.text) <= _MEMO_TEXT:
                if len(self._memo) >= _MEMO_SIZE:
                    self._memo.clear()
                self._memo[key] = spans
        return spans

    def knows(self, name: ModelName, provider: str) -> bool:
        """Is there a card for this very id, whatever the tier and the date?

        Not for one that is listed only without the date behind it: anybody can make up dates.
        """
        return any(self._listed(name, _asked(name, provider), any_date=False))

    def shutdown(self, name: ModelName, provider: str) -> date | None:
        """The day from which the provider says that the model stops answering."""
        for _, listed in self._listed(name, _asked(name, provider)):
            for card in reversed(listed.cards):
                if card.shutdown is not None:
                    return card.shutdown
        return None

    def card(self, card_id: str) -> RateCard | None:
        """The card of an id that stands in a ledger."""
        card = self._by_id.get(card_id)
        if card is None:
            card = next((each for each in self.imported(card_id.partition("/")[0]) if each.id == card_id), None)
        return card

    def history(self, name: ModelName, provider: str, *, fine_tuned: bool | None = None) -> Sequence[Found]:
        """Every card that lists the model, whatever its tier and date: the best first, then in order of time.

        `fine_tuned`: the cards of an id's fine-tunes, though the id is not one's.
        """
        if fine_tuned and not name.fine_tuned:
            name = parse_model_name(f"ft:{name.canonical}")
        return [
            Found(card, _provenance(name, layer, listed), assumed="effective_from" in card.assumed)
            for layer, listed in self._listed(name, _asked(name, provider))
            for card in listed.cards
        ]

    @property
    def imported_providers(self) -> Sequence[str]:
        return self._imported.providers

    def imported(self, provider: str) -> Sequence[RateCard]:
        """The imported cards of a provider; some may stand behind a shipped card of the same id."""
        layer = self._imported.layer(provider)
        return layer.cards if layer is not None else ()

    def __iter__(self) -> Iterator[RateCard]:
        """The user's cards and the shipped ones."""
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def _listed(self, name: ModelName, provider: str, *, any_date: bool = True) -> Iterator[tuple[Layer, Listed]]:
        """What lists the model, best first: the nearest id, and of an id the upper layer."""
        candidates = [each for each in _candidates(name, provider) if any_date or not each[1]]
        shipped = False
        for candidate, by_date in candidates:
            for layer in self._layers:
                listed = layer.index.get((provider, name.fine_tuned, candidate))
                if listed is not None and (listed.any_date or not by_date):
                    shipped = shipped or layer.kind == "shipped"
                    yield layer, listed
        if shipped or name.fine_tuned or (imported := self._imported.layer(provider)) is None:
            return
        for candidate, by_date in candidates:
            listed = imported.index.get((provider, False, candidate))
            if listed is not None and (listed.any_date or not by_date):
                yield imported, listed

    def _spans(self, name: ModelName, provider: str, tier: str, *, resident: bool) -> tuple[_Span, ...]:
        listings = list(self._listed(name, provider))
        if not listings:
            raise NotPriced(self._why_unknown(name, provider))
        spans = [
            _span(card, _provenance(name, layer, listed))
            for layer, listed in listings
            for card in listed.cards
            if card.tier == tier and card.resident == (resident and card.residency_times is not None)
        ]
        if not spans:
            offered = dict.fromkeys(card.tier for _, listed in listings for card in listed.cards)
            raise NotPriced(f"{provider} has no {tier} rate for {_shown(name)}; its cards have: {', '.join(offered)}")
        return tuple(spans)

    def _why_unknown(self, name: ModelName, provider: str) -> str:
        who = f"{_shown(name)} at {provider}"
        if name.form == "azure-checkpoint":
            return f"no card prices {who}: a checkpoint's id does not name its base"
        if name.form == "legacy":
            return f"no card prices {who}: fine-tunes of this form ended on 2024-01-04"
        if name.variant is not None:
            return f"no card prices {who}: nothing is known of its variant"
        if name.fine_tuned:
            return f"no card prices {who}: no rate for fine-tunes of {name.base[:80]!r}, and never its base's price"
        family = [
            listed
            for layer in self._layers
            if (listed := layer.index.get((provider, False, name.base_model))) is not None
        ]
        if name.snapshot is not None and family and provider in PROVIDERS:
            return f"no card lists {who}: a snapshot is never priced as its family {name.base_model}"
        return f"no card prices {who}"


def load_catalogue(extra_files: Sequence[Path] = (), *, over: Sequence[Path] = ()) -> Catalogue:
    """The shipped cards, a user's own files over them, and `over` over all. Raises CatalogueError; then nothing has

    changed. Imported cards are read when their provider is first asked (`Catalogue.imported` asks).
    """
    shipped = lay("shipped", [sheet for path in sorted(_SHIPPED.glob("*.toml")) for sheet in read_card_file(path)])
    layers = [shipped]
    for files in (extra_files, over):
        below = replace(shipped, snapshots={**shipped.snapshots, **layers[0].snapshots})
        sheets = [sheet for path in files for sheet in read_card_file(path)]
        layers.insert(0, lay("override", sheets, below=below))
    return Catalogue(layers, Imported(_SHIPPED / "imported"))


def _asked(name: ModelName, provider: str) -> str:
    return name.provider or provider if provider in PROVIDERS else provider


def _candidates(name: ModelName, provider: str) -> tuple[tuple[str, bool], ...]:
    """The ids under which a model may be listed, nearest first; True: only where any date behind it is as good."""
    ids: tuple[str, ...] = (name.canonical,)
    if provider not in PROVIDERS and name.prefix is not None:
        ids = (name.whole, name.whole.removeprefix(f"{provider}/"), name.canonical)
    if name.variant is None and name.form in ("ft", "azure"):
        ids = (*ids, *((name.without_checkpoint,) if name.checkpoint is not None else ()), name.base)
    undated = without_date(ids[0]) if name.form == "plain" and name.variant is None else None
    return (*((each, False) for each in dict.fromkeys(ids)), *(((undated, True),) if undated else ()))


def _provenance(name: ModelName, layer: Layer, listed: Listed) -> Provenance:
    if layer.kind != "shipped":
        return layer.kind
    whole = name.form != "ft" or (bool(name.organisation) and name.suffix is not None and bool(name.id))
    return "family" if listed.alias or name.checkpoint is not None or not whole else "exact"


def _span(card: RateCard, provenance: Provenance) -> _Span:
    return _Span(
        card=card,
        checked=datetime.combine(card.checked, time(), UTC),
        before=Found(card, provenance, assumed="effective_from" in card.assumed),
        after=Found(card, provenance, assumed=False),
    )


def _no_date(name: ModelName, spans: Sequence[_Span], at: datetime) -> str:
    first = min(span.card.effective_from for span in spans)
    tier = spans[0].card.tier
    if at < first:
        return f"no {tier} rate for {_shown(name)} at {at.isoformat()}: its first card begins {first.date()}"
    return f"no {tier} rate for {_shown(name)} at {at.isoformat()}: its cards have ended"


def _shown(name: ModelName) -> str:
    """An id as it may stand in a message: one line, of a bounded length."""
    shown = name.text if name.text.isprintable() else ascii(name.text)[1:-1]
    return shown if len(shown) <= 120 else shown[:117] + "..."
