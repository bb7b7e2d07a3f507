"""The one renderer: a sheet as a table, for a terminal or for a pipe.

On a terminal: colours and folding to its width. Anywhere else, or with NO_COLOR: plain text, one line a row, as wide
as it needs to be. Never more than what the sheet says: text from outside cannot move the cursor or add markup.
"""

import io
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.config.environment import no_color
from proxy.config.sources import escaped
from proxy.reports.sheet import Bar, Cell, Column, Sheet

_BAR_CELLS = 20
_FOLDED_WIDTH = 16  # a column of words is folded to no less than this
_GAP = 2
_STYLES = {"fine": "green", "alert": "yellow", "over": "red"}


def show(sheet: Sheet, file: TextIO | None = None, *, styled: bool | None = None) -> None:
    """Print a sheet (to stdout by default). `styled` None: colours when it is a terminal that wants them."""
    out = sys.stdout if file is None else file
    if out is None:  # started with stdout closed
        return
    terminal = out.isatty()
    colours = terminal and not no_color() if styled is None else styled
    blocks = _can_write("█▒░─", out)
    cells = [[_text(cell, blocks) for cell in row] for row in sheet.rows]
    total = None if sheet.total is None else [_text(cell, blocks) for cell in sheet.total]
    notes = [escaped(note) for note in sheet.notes]
    if terminal or colours:
        lines = _folded(sheet.columns, cells, total, notes, colours=colours, ruled=colours and blocks)
    else:
        lines = [*_aligned(sheet.columns, cells, total), *notes]
    for line in lines:
        out.write(line.rstrip() + "\n")  # a table pads its last column


def _aligned(columns: Sequence[Column], cells: list[list[Text]], total: list[Text] | None) -> list[str]:
    """One line a row: for a pipe, and for tens of thousands of rows."""
    if not columns:
        return []
    rows = [[Text(column.title) for column in columns], *cells, *([total] if total else [])]
    widths = [max(row[position].cell_len for row in rows) for position in range(len(columns))]
    lines = []
    for row in rows:
        parts = []
        for column, width, cell in zip(columns, widths, row, strict=True):
            blanks = " " * (width - cell.cell_len)
            parts.append(blanks + cell.plain if column.number else cell.plain + blanks)
        lines.append((" " * _GAP).join(parts))
    return lines


def _folded(
    columns: Sequence[Column],
    cells: list[list[Text]],
    total: list[Text] | None,
    notes: list[str],
    *,
    colours: bool,
    ruled: bool,
) -> list[str]:
    """For a terminal: words are folded to its width; if that is not enough, the terminal wraps the lines."""
    least = _least_width(columns, [*cells, *([total] if total else [])])
    drawn = io.StringIO()
    console = Console(
        file=drawn,
        width=max(least, shutil.get_terminal_size().columns),
        force_terminal=colours,
        color_system="auto" if colours else None,
        no_color=not colours,
        highlight=False,
        markup=False,
        emoji=False,
    )
    if columns:
        console.print(_table(columns, cells, total, ruled=ruled))
    for note in notes:
        console.print(Text(note))
    return drawn.getvalue().splitlines()


def _table(columns: Sequence[Column], cells: list[list[Text]], total: list[Text] | None, *, ruled: bool) -> Table:
    # The box puts one blank of its own between columns.
    box, padding = (SIMPLE_HEAD, _GAP - 1) if ruled else (None, _GAP)
    table = Table(box=box, show_edge=False, pad_edge=False, padding=(0, padding, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            Text(column.title),
            justify="right" if column.number else "left",
            no_wrap=column.number or column.whole,
            overflow="fold",
        )
    for row in cells:
        table.add_row(*row)
    if total is not None:
        table.add_section()
        table.add_row(*total, style="bold")
    return table


def _least_width(columns: Sequence[Column], rows: list[list[Text]]) -> int:
    """How wide the table is when words fold as far as they may, and nothing else does."""
    least = 0
    for position, column in enumerate(columns):
        width = max([len(column.title), *(row[position].cell_len for row in rows)])
        least += _GAP + (width if column.number or column.whole else min(width, _FOLDED_WIDTH))
    return least


def _text(cell: Cell, blocks: bool) -> Text:
    return _drawn(cell, blocks) if isinstance(cell, Bar) else Text(escaped(cell))


def _drawn(bar: Bar, blocks: bool) -> Text:
    """Cells are cut, not rounded up: only a used-up budget has a full bar. Anything above zero shows one cell."""
    full, partly, empty = "█▒░" if blocks else "#+."
    used = min(_BAR_CELLS, max(int(bar.used * _BAR_CELLS), 1 if bar.used > 0 else 0))
    both = min(_BAR_CELLS, max(int((bar.used + bar.held) * _BAR_CELLS), used + 1 if bar.held > 0 else used))
    style = _STYLES[bar.level]
    return Text.assemble((full * used, style), (partly * (both - used), style), (empty * (_BAR_CELLS - both), "dim"))


def _can_write(letters: str, out: TextIO) -> bool:
    try:
        letters.encode(out.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
