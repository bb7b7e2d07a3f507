"""The ledger as a file: JSON lines, CSV or Parquet. Lines go through one at a time: memory does not grow with them."""

import contextlib
import csv
import importlib
import io
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import msgspec

from proxy.errors import TaximeterError, UsageError
from proxy.ledger.entry import LedgerEntry
from proxy.reports.ledger_lines import FIELDS, line_json
from rates.usage import KINDS

Format = Literal["jsonl", "csv", "parquet"]
FORMATS: tuple[Format, ...] = ("jsonl", "csv", "parquet")
ROWS_A_GROUP = 10_000  # of a Parquet file: what is kept in memory

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_TIMES = ("at", "applied_at")
_NEVER_FORMULAS = frozenset((*_TIMES, "cost_usd"))
_KNOWN_KINDS = frozenset(KINDS)
_COLUMNS = tuple(
    column for name in FIELDS for column in ([f"usage_{kind}" for kind in KINDS] if name == "usage" else [name])
)
_INTEGERS = ("cost_nanos", "requests", "upstream_status", "latency_ms")
_FLAGS = ("assumed", "long_context")
_json = msgspec.json.Encoder().encode


class Writer(Protocol):
    """Takes lines, then `end`. It does not close what it writes to."""

    def add(self, line: LedgerEntry, applied_at: datetime) -> None: ...
    def end(self) -> None: ...


class JsonLines:
    """An object a line, in the contract's words."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def add(self, line: LedgerEntry, applied_at: datetime) -> None:
        self._out.write(_json(line_json(line, applied_at)) + b"\n")

    def end(self) -> None:
        self._out.flush()


class Csv:
    """A row a line, with a column for each kind of usage. What is unknown is empty; `moved` is JSON.

    A text that a spreadsheet would take for a formula gets an apostrophe in front: names of models come from callers.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._text = io.TextIOWrapper(out, encoding="utf-8", newline="")
        self._rows = csv.writer(self._text)
        self._rows.writerow(_COLUMNS)

    def add(self, line: LedgerEntry, applied_at: datetime) -> None:
        if unknown := line.usage.keys() - _KNOWN_KINDS:
            raise TaximeterError(f"{line.id}: --format csv has no column for {min(unknown)}; use jsonl")
        row: list[object] = []
        for name, value in line_json(line, applied_at).items():
            if name == "usage":
                row += [line.usage.get(kind, 0) for kind in KINDS]
            else:
                row.append(_cell(name, value))
        self._rows.writerow(row)

    def end(self) -> None:
        self._text.detach()


class Parquet:
    """Amounts as int64 nanos, times as UTC timestamps, usage as a map from kind to quantity, `moved` as a list."""

    def __init__(self, out: BinaryIO) -> None:
        self._arrow, parquet = _pyarrow()
        self._schema = _schema(self._arrow)
        self._file = parquet.ParquetWriter(out, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def add(self, line: LedgerEntry, applied_at: datetime) -> None:
        row = line_json(line, applied_at)
        row["at"], row["applied_at"] = datetime.fromisoformat(line.at), applied_at
        row["usage"] = list(line.usage.items())
        self._rows.append(row)
        if len(self._rows) >= ROWS_A_GROUP:
            self._write()

    def end(self) -> None:
        if self._rows:
            self._write()
        self._file.close()

    def _write(self) -> None:
        self._file.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows.clear()


WRITERS: Mapping[Format, Callable[[BinaryIO], Writer]] = {"jsonl": JsonLines, "csv": Csv, "parquet": Parquet}


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when it is whole, and not before.

    Raises UsageError where it cannot be made, and TaximeterError where it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        out = partial.open("xb")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    try:
        with out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
    except OSError as error:
        raise TaximeterError(f"{path}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def _pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise TaximeterError("--format parquet needs pyarrow: pip install 'taximeter[parquet]'") from None


def _schema(arrow: Any) -> Any:
    moved = arrow.struct([("budget", arrow.string()), ("period", arrow.string()), ("nanos", arrow.int64())])
    types = {
        **dict.fromkeys(_TIMES, arrow.timestamp("ms", tz="UTC")),
        **dict.fromkeys(_INTEGERS, arrow.int64()),
        **dict.fromkeys(_FLAGS, arrow.bool_()),
        "usage": arrow.map_(arrow.string(), arrow.int64()),
        "moved": arrow.list_(moved),
    }
    return arrow.schema([(name, types.get(name, arrow.string())) for name in FIELDS])


def _cell(name: str, value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return _json(value).decode()
    if isinstance(value, str) and name not in _NEVER_FORMULAS and value.startswith(_FORMULA):
        return "'" + value
    return value
