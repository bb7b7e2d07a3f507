"""`taximeter ledger export`: the ledger's lines into a file or a pipe."""

import contextlib
import sys
from datetime import UTC, datetime
from pathlib import Path

from proxy.cli.reading import with_reads
from proxy.config import Config
from proxy.errors import UsageError
from proxy.reports.ledger_export import WRITERS, Format, WholeFile, Writer
from proxy.store.ledger import Ledger, place_at
from proxy.store.reads import Reads


def export(config: Config, form: Format, path: Path | None, since: datetime | None, until: datetime | None) -> int:
    with contextlib.ExitStack() as stack:
        if path is not None:
            out = stack.enter_context(WholeFile(path))
        elif sys.stdout is None:
            raise UsageError("stdout is closed: add -o FILE")
        else:
            out = sys.stdout.buffer
        writer = WRITERS[form](out)

        async def write(reads: Reads) -> None:
            ledger = Ledger(reads)
            span = await ledger.span()
            if span.trimmed_until is not None and (since is None or since <= span.trimmed_until):
                sys.stderr.write(
                    f"taximeter: {span.trimmed_lines} older lines, up to {span.trimmed_until:%Y-%m-%dT%H:%M:%SZ}, are "
                    "kept in sums only: see taximeter report\n"
                )
            await _write(ledger, writer, since, until)

        with_reads(config, write)
    return 0


async def _write(ledger: Ledger, writer: Writer, since: datetime | None, until: datetime | None) -> None:
    async for page in ledger.forwards("-" if since is None else place_at(since)):
        for line in page:
            entry = line.entry
            at = datetime.fromisoformat(entry.at).astimezone(UTC)
            if (since is None or since <= at) and (until is None or at < until):
                writer.add(entry, line.applied_at)
    writer.end()
