"""Rate cards as they are shown: JSON shapes, and the words of a table's cells."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from rates.charge import Charge
from rates.money import plain
from rates.rate_card import RateCard
from rates.survey import Change, Effect


def card_json(card: RateCard) -> dict[str, Any]:
    return {
        "rate_card": card.id,
        "model": card.model,
        "provider": card.provider,
        "fine_tuned": card.fine_tuned,
        "tier": card.tier,
        "snapshots": list(card.snapshots),
        "effective_from": card.effective_from.isoformat().replace("+00:00", "Z"),
        "effective_to": card.effective_to.isoformat().replace("+00:00", "Z") if card.effective_to else None,
        "rates": {kind: plain(rate) for kind, rate in {**card.rates, **card.unit_rates}.items()},
        "assumed": sorted(card.assumed),
        "training_usd_per_million": _text(card.training.usd_per_million if card.training else None),
        "training_usd_per_hour": _text(card.training.usd_per_hour if card.training else None),
        "hosting_usd_per_hour": _text(card.hosting.usd_per_hour if card.hosting else None),
        "residency_times": _text(card.residency_times),
        "shutdown": str(card.shutdown) if card.shutdown else None,
        "source": card.source,
        "checked": str(card.checked),
        "origin": card.origin,
    }


def effect_json(effect: Effect) -> dict[str, Any]:
    sheet = effect.sheet
    return {
        "line": sheet.line,
        "model": sheet.model,
        "provider": sheet.provider,
        "fine_tuned": sheet.fine_tuned,
        "tiers": list(sheet.tiers),
        "effect": "overrides" if effect.overrides else "adds",
        "overrides": [card.id for card in effect.overrides],
        "left_out": list(effect.left_out),
    }


def change_json(change: Change) -> dict[str, Any]:
    return {
        "provider": change.provider,
        "model": change.model,
        "fine_tuned": change.fine_tuned,
        "tier": change.tier,
        "kind": change.kind,
        "before": _text(change.before),
        "after": _text(change.after),
    }


def charge_json(charge: Charge) -> list[dict[str, Any]]:
    """The lines of a charge."""
    return [
        {
            "kind": line.kind,
            "quantity": line.quantity,
            **({"usd_per_million": plain(line.usd_per_million)} if line.usd_per_million is not None else {}),
            **({"usd_per_unit": plain(line.usd_per_unit)} if line.usd_per_unit is not None else {}),
            "cost_usd": plain(line.usd),
        }
        for line in charge.lines
    ]


def rate_text(card: RateCard, kind: str) -> str:
    """`0.15`, `0.15*` where no source prints it, nothing where there is no price."""
    amount = card.rates.get(kind, card.unit_rates.get(kind))
    return "" if amount is None else plain(amount) + ("*" if kind in card.assumed else "")


def card_notes(cards: Sequence[RateCard]) -> list[str]:
    """What a model's cards say besides the rates of tokens, each thing once."""
    first = cards[0]
    notes = list(dict.fromkeys(_calls(card) for card in cards if card.unit_rates))
    if first.long_context:
        above = f"{first.long_context.above_prompt_tokens:,}"
        notes.append(f"With more than {above} tokens in the prompt the whole request costs more.")
    if first.residency_times is not None:
        notes.append(f"At a data-residency endpoint tokens cost {plain(first.residency_times)} times as much.")
    if first.training and first.training.usd_per_million is not None:
        notes.append(f"Training: ${plain(first.training.usd_per_million)} per million tokens, epochs counted.")
    if first.training and first.training.usd_per_hour is not None:
        notes.append(f"Training: ${plain(first.training.usd_per_hour)} an hour.")
    if first.hosting and first.hosting.usd_per_hour:
        more = f" ({first.hosting.note})" if first.hosting.note else ""
        notes.append(f"Hosting: ${plain(first.hosting.usd_per_hour)} an hour{more}.")
    notes += dict.fromkeys(f"Shutdown at {card.provider}: {card.shutdown}." for card in cards if card.shutdown)
    notes += dict.fromkeys(card.note for card in cards if card.note)
    return [*notes, *dict.fromkeys(f"Checked on {card.checked}: {card.source}" for card in cards)]


def _calls(card: RateCard) -> str:
    return "Each: " + ", ".join(f"{kind} ${rate_text(card, kind)}" for kind in card.unit_rates) + "."


def since(card: RateCard) -> str:
    """The day it begins; `*` where that is assumed."""
    return f"{card.effective_from.date()}{'*' if 'effective_from' in card.assumed else ''}"


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else plain(amount)
