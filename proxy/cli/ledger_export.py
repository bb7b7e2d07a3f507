"""`taximeter ledger export`: the ledger's lines into a file or a pipe."""

import contextlib
import sys
from datetime import datetime
from pathlib import Path

from proxy.cli.reading import with_reads
from proxy.config import Config
from proxy.errors import TaximeterError, UsageError
from proxy.reports.ledger_export import WRITERS, Format, whole_file
from proxy.store.ledger import CLOCK_SKEW, Ledger, Span, began_within, place_at
from proxy.store.reads import Reads


def export(config: Config, form: Format, path: Path | None, since: datetime | None, until: datetime | None) -> int:
    with contextlib.ExitStack() as stack:
        if path is not None:
            out = stack.enter_context(whole_file(path))
        elif sys.stdout is None:
            raise UsageError("stdout is closed: add -o FILE")
        else:
            out = sys.stdout.buffer
        writer = WRITERS[form](out)

        async def write(reads: Reads) -> None:
            ledger = Ledger(reads)
            async with ledger.undisturbed() as sign:
                before = await ledger.span()
                async for page in ledger.forwards("-" if since is None else place_at(since)):
                    for line in page:
                        entry = line.entry
                        if began_within(entry, since, until):
                            writer.add(entry, line.applied_at)
                    await sign.give()
                writer.end()
                after = await ledger.span()
            if _lacks(before, since):
                sys.stderr.write(
                    f"taximeter: {before.trimmed_lines} older lines, up to {before.trimmed_until:%Y-%m-%dT%H:%M:%SZ}, "
                    "are kept in sums only: see taximeter report\n"
                )
            if after.trimmed_lines != before.trimmed_lines and _lacks(after, since):
                raise TaximeterError("the ledger was trimmed while it was read: export it again")

        with_reads(config, write)
    return 0


def _lacks(span: Span, since: datetime | None) -> bool:
    """Whether lines of that time may be kept in sums only."""
    return span.trimmed_until is not None and (since is None or since <= span.trimmed_until + CLOCK_SKEW)
