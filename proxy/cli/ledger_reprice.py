"""`taximeter ledger reprice`: what past traffic costs on other cards, and corrections to that."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from proxy.admission import Rules
from proxy.budgets import BudgetBook
from proxy.cli.options import operator
from proxy.cli.reading import with_reads
from proxy.config import Config
from proxy.ledger import LedgerEntry, utc_text
from proxy.reports.ledger_reprice import Repriced, Repricing
from proxy.reports.ledger_sheets import reprice_sheet
from proxy.reports.sheet import Sheet
from proxy.store.ledger import Ledger
from proxy.store.ledger_reprice import Correction, Repricer, current_entries
from proxy.store.reads import Reads
from rates import load_catalogue
from rates.money import usd_text

PASSES = 3  # at most, while others correct the same entries


@dataclass(frozen=True, slots=True)
class Result:
    """`applied` None: nothing was to be written. `left`: entries that were corrected elsewhere meanwhile."""

    rows: Sequence[Repriced]
    total: Repriced
    applied: int | None
    left: int


def reprice(
    config: Config, since: datetime, until: datetime | None, *, cards: Path | None, presumed: bool, apply: bool
) -> Result:
    """Raises CatalogueError for a card file that is wrong; then nothing has changed."""
    catalogue = load_catalogue(config.rate_files, over=() if cards is None else (cards,))
    rules = Rules(config, catalogue, BudgetBook(()))
    repricing = Repricing(rules, presumed=presumed)
    # What ends later is priced with today's cards anyway, and the end of the span must not move while it is read.
    end = datetime.now(UTC) if until is None else until

    async def work(reads: Reads) -> Result:
        ledger = Ledger(reads)
        if not apply:
            async for entries in current_entries(ledger, since, end):
                _corrections(repricing, entries)
            return Result(repricing.in_order(), repricing.total, None, 0)
        repricer = Repricer(reads)
        span = {"since": utc_text(since), "until": utc_text(end)}
        await repricer.begin(_audit("reprice", {**span, "cards": _named(cards), "presumed": presumed}))
        written = left = 0
        for again in range(PASSES):
            # What was corrected elsewhere meanwhile is looked at again; what is shown is the first look.
            look = Repricing(rules, presumed=presumed) if again else repricing
            left = 0
            async for entries in current_entries(ledger, since, end):
                done = await repricer.apply(_corrections(look, entries))
                written += sum(done)
                left += len(done) - sum(done)
                await repricer.stay()
            if not left:
                break
        difference = usd_text(repricing.total.difference)
        await repricer.end(_audit("reprice done", {**span, "corrections": written, "difference_usd": difference}))
        return Result(repricing.in_order(), repricing.total, written, left)

    return with_reads(config, work)


def result_json(result: Result) -> dict[str, object]:
    return {
        "rows": [row.as_json() for row in result.rows],
        "total": {name: value for name, value in result.total.as_json().items() if name != "model"},
        "applied": result.applied,
        "left": result.left,
    }


def result_sheet(result: Result) -> Sheet:
    notes = []
    if result.applied is not None:
        notes.append(f"{result.applied:,} corrected. Budgets, sums and ledger have moved.")
    elif result.total.changed:
        notes.append("Nothing was written: --apply writes the corrections.")
    if result.left:
        notes.append(f"{result.left:,} left: they were corrected elsewhere meanwhile. Run it again.")
    return reprice_sheet(result.rows, result.total, notes)


def _corrections(repricing: Repricing, entries: Sequence[LedgerEntry]) -> list[Correction]:
    proposed = [(entry, repricing.replacement(entry)) for entry in entries]
    return [(entry, new) for entry, new in proposed if new is not None]


def _audit(action: str, facts: Mapping[str, object]) -> dict[str, object]:
    return {"at": utc_text(datetime.now(UTC)), "who": operator(), "action": action, **facts}


def _named(cards: Path | None) -> str | None:
    """The file's name, and the beginning of its SHA-256: which version of it was."""
    return None if cards is None else f"{cards.name} ({hashlib.sha256(cards.read_bytes()).hexdigest()[:12]})"
