"""`taximeter ledger tail`, `show`, `verify` and `audit`: looking, without changing anything."""

import argparse
import asyncio
import json
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from proxy.cli.options import read_config
from proxy.config.sources import escaped
from proxy.errors import StoreAway, TaximeterError, UsageError
from proxy.reports.ledger_lines import line_json, tail_head, tail_row

if TYPE_CHECKING:
    from proxy.store.ledger import Ledger, Line
    from proxy.store.reads import Reads

_LOOK_SECONDS = 0.3  # how often --follow looks for more


def tail(args: argparse.Namespace) -> int:
    if args.n < 0:
        raise UsageError(f"-n {args.n}: must be zero or more")
    config = read_config(args)
    from proxy.cli.reading import with_reads  # noqa: PLC0415 - imports redis
    from proxy.store.ledger import Ledger  # noqa: PLC0415

    async def look(reads: "Reads") -> None:
        ledger = Ledger(reads)
        lines = await ledger.newest(max(args.n, 1))
        if not args.json and (lines or args.follow):
            print(tail_head())
        _print_rows(lines[-args.n :] if args.n else [], as_json=args.json)
        if args.follow:
            await _follow(ledger, lines[-1].place if lines else None, as_json=args.json)
        elif not lines and not args.json:
            print("The ledger has no entries.")

    with_reads(config, look)
    return 0


async def _follow(ledger: "Ledger", place: bytes | None, *, as_json: bool) -> None:
    """Until it is interrupted. A store that goes away is waited for."""
    from proxy.store.ledger import after  # noqa: PLC0415

    said = ""
    while True:
        try:
            async for page in ledger.forwards("-" if place is None else after(place)):
                _print_rows(page, as_json=as_json)
                place = page[-1].place
            said = ""
        except StoreAway as away:
            if str(away) != said:
                said = str(away)
                sys.stderr.write(f"taximeter: {said}; waiting\n")
        await asyncio.sleep(_LOOK_SECONDS)


def _print_rows(lines: Sequence["Line"], *, as_json: bool) -> None:
    for line in lines:
        print(json.dumps(line_json(line.entry, line.applied_at)) if as_json else tail_row(line.entry))
    if lines:
        sys.stdout.flush()


def show(args: argparse.Namespace) -> int:
    begun = _begun(args.id)
    entry_id = args.id.lower()
    config = read_config(args)
    from proxy.cli.reading import with_reads  # noqa: PLC0415 - imports redis
    from proxy.reports.ledger_sheets import charge_of, entry_sheets  # noqa: PLC0415
    from proxy.reports.rate_cards import charge_json  # noqa: PLC0415
    from proxy.store.ledger import Ledger  # noqa: PLC0415
    from rates import load_catalogue  # noqa: PLC0415

    lines = with_reads(config, lambda reads: Ledger(reads).of_id(entry_id, begun))
    if not lines:
        raise TaximeterError(
            f"the ledger has no entry {entry_id}: it is not settled yet, was never sent, or is kept in sums only"
        )
    last = lines[-1].entry
    current = last if last.requests > 0 else None
    charge = None if current is None else charge_of(current, load_catalogue(config.rate_files))
    if args.json:
        document: dict[str, Any] = {
            "id": entry_id,
            "lines": [line_json(line.entry, line.applied_at) for line in lines],
            "current": None if current is None else line_json(current, lines[-1].applied_at),
            "charge": None if charge is None else charge_json(charge),
        }
        print(json.dumps(document, indent=2))
        return 0
    from proxy.reports.render import show as draw  # noqa: PLC0415 - imports rich

    for sheet in entry_sheets([(line.entry, line.applied_at) for line in lines], charge):
        draw(sheet)
    return 0


def _begun(text: str) -> datetime:
    """When the entry with this id began. Raises UsageError."""
    try:
        entry_id = uuid.UUID(text)
        if entry_id.version == 7 and str(entry_id) == text.lower():
            return datetime.fromtimestamp((entry_id.int >> 80) / 1000, UTC)
    except (ValueError, OverflowError):
        pass
    raise UsageError(f'"{escaped(text[:80])}" is no entry id: the x-taximeter-entry header of a response has it')


def verify(args: argparse.Namespace) -> int:
    config = read_config(args)
    from proxy.cli.reading import with_reads  # noqa: PLC0415 - imports redis
    from proxy.reports.ledger_verdict import verdict_json, verdict_text  # noqa: PLC0415
    from proxy.store.verify import verify as verified  # noqa: PLC0415

    verdict = with_reads(config, verified)
    print(json.dumps(verdict_json(verdict), indent=2) if args.json else verdict_text(verdict))
    return 0 if verdict.difference is None else 1


def audit(args: argparse.Namespace) -> int:
    config = read_config(args)
    from proxy.cli.reading import with_reads  # noqa: PLC0415 - imports redis
    from proxy.store.ledger import Ledger  # noqa: PLC0415

    lines = with_reads(config, lambda reads: Ledger(reads).audit())
    if args.json:
        print(json.dumps({"audit": [line for _, line in lines]}, indent=2))
        return 0
    from proxy.reports.ledger_sheets import audit_sheet  # noqa: PLC0415
    from proxy.reports.render import show as draw  # noqa: PLC0415 - imports rich

    draw(audit_sheet(lines))
    return 0
