"""From the figures of the repetitions to a table: medians, and ratios to nginx of the same repetition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Repetition = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Subject → scenario → figure → value."""


@dataclass(frozen=True)
class Column:
    """`ratio`: shown against nginx too. `added`: less what the way without a proxy takes."""

    title: str
    scenario: str
    figure: str
    digits: int
    ratio: bool = True
    added: bool = False


TABLES: dict[str, tuple[Column, ...]] = {
    "Whole replies (700 bytes, 64 connections; latency at 500 a second)": (
        Column("CPU ms", "whole", "cpu_ms", 4),
        Column("store ms", "whole", "store_ms", 4, ratio=False),
        Column("requests/s", "whole", "requests_per_second", 0),
        Column("p50 ms", "rate", "p50_ms", 2),
        Column("p99 ms", "rate", "p99_ms", 2),
    ),
    "Two workers (CPU a whole reply, of one worker's, in turns)": (
        Column("neighbours give way", "turns", "given_way", 2, ratio=False),
        Column("neighbours interrupt", "turns", "interrupted", 2, ratio=False),
    ),
    "Streams (100 at 50 chunks a second; first token at 200 streams a second)": (
        Column("CPU s/100k chunks", "streams", "cpu_s", 2),
        Column("usage hidden", "hidden", "cpu_s", 2),
        Column("store s/100k", "streams", "store_s", 2, ratio=False),
        Column("chunks/s unpaced", "flood", "chunks_per_second", 0),
        Column("added first p50 ms", "first", "first_p50_ms", 2, ratio=False, added=True),
        Column("p99 ms", "first", "first_p99_ms", 2, ratio=False, added=True),
    ),
    "Memory and start": (
        Column("start s", "start", "start_s", 2, ratio=False),
        Column("idle MB", "memory", "idle_mb", 1),
        Column("largest process MB", "memory", "largest_mb", 1),
        Column("KB an open stream", "open", "stream_kb", 1),
        Column("KB an idle connection", "idle", "connection_kb", 1),
    ),
}


@dataclass(frozen=True)
class Goal:
    """What taximeter is held to: at most `most`, of the value, or of its ratio to `against`."""

    title: str
    column: Column
    most: float
    against: str | None = None
    subject: str = "taximeter"


def _column(scenario: str, figure: str) -> Column:
    return next(
        column
        for columns in TABLES.values()
        for column in columns
        if (column.scenario, column.figure) == (scenario, figure)
    )


GOALS = (
    Goal("CPU a whole request, of nginx's (goal)", _column("whole", "cpu_ms"), 4, "nginx"),
    Goal("CPU a whole request, of nginx's (bound)", _column("whole", "cpu_ms"), 6, "nginx"),
    Goal(
        "CPU a whole request, its budget only alerts (bound)",
        _column("whole", "cpu_ms"),
        6,
        "nginx",
        "taximeter-alerting",
    ),
    Goal("CPU of 100k paced chunks, of nginx's (goal)", _column("streams", "cpu_s"), 1.5, "nginx"),
    Goal("CPU of 100k paced chunks, of nginx's (bound)", _column("streams", "cpu_s"), 2, "nginx"),
    Goal("the same where the usage asked for is hidden", _column("hidden", "cpu_s"), 2, "nginx"),
    Goal("added time to first token, p99, ms", _column("first", "first_p99_ms"), 1),
    Goal("the same, its budget only alerts", _column("first", "first_p99_ms"), 1, None, "taximeter-alerting"),
    Goal("KB an open stream", _column("open", "stream_kb"), 60),
    Goal("KB an idle connection", _column("idle", "connection_kb"), 10),
    Goal("start to ready, s", _column("start", "start_s"), 1),
    Goal("largest process idle, MB", _column("memory", "largest_mb"), 60),
    Goal(
        "CPU a whole request, two workers, of one's, in turns", _column("turns", "given_way"), 1.15, None, "taximeter-2"
    ),
    Goal("the same while their neighbours interrupt", _column("turns", "interrupted"), 1.15, None, "taximeter-2"),
)


def value(column: Column, subject: str, repetitions: Sequence[Repetition]) -> float | None:
    """The median; None where it was not measured."""
    values = []
    for repetition in repetitions:
        found = _figure(repetition, subject, column)
        if found is not None and column.added:
            without = _figure(repetition, "direct", column)
            found = None if without is None else found - without
        values += [] if found is None else [found]
    return median(values) if values else None


def ratio(column: Column, subject: str, repetitions: Sequence[Repetition], against: str | None = None) -> float | None:
    """The median of the ratios to nginx (with TLS: to nginx with TLS), each in its own repetition."""
    against = against or ("nginx-tls" if subject.endswith("-tls") else "nginx")
    ratios = []
    for repetition in repetitions:
        ours, theirs = _figure(repetition, subject, column), _figure(repetition, against, column)
        if ours is not None and theirs:
            ratios.append(ours / theirs)
    return median(ratios) if ratios else None


def _figure(repetition: Repetition, subject: str, column: Column) -> float | None:
    return repetition.get(subject, {}).get(column.scenario, {}).get(column.figure)


def rendered(subjects: Sequence[str], repetitions: Sequence[Repetition]) -> str:
    """Tables in Markdown, readable as they are."""
    parts = []
    for title, columns in TABLES.items():
        rows = [[name, *(_cell(column, name, repetitions) for column in columns)] for name in subjects]
        rows = [row for row in rows if any(cell != "–" for cell in row[1:])]
        if rows:
            parts.append(f"{title}\n\n{_grid([['', *(column.title for column in columns)], *rows])}")
    return "\n\n".join(parts)


def judged(repetitions: Sequence[Repetition]) -> str:
    """A line for each goal that was measured: the figure, and whether it is met."""
    lines = []
    for goal in GOALS:
        if goal.against is None:
            found = value(goal.column, goal.subject, repetitions)
        else:
            found = ratio(goal.column, goal.subject, repetitions, goal.against)
        if found is not None:
            met = "met" if found <= goal.most else "MISSED"
            lines.append(f"{goal.title}: {found:.2f}, at most {goal.most:g}: {met}")
    return "\n".join(lines)


def _cell(column: Column, subject: str, repetitions: Sequence[Repetition]) -> str:
    found = value(column, subject, repetitions)
    if found is None:
        return "–"
    text = f"{found:,.{column.digits}f}"
    times = ratio(column, subject, repetitions) if column.ratio else None
    return text if times is None else f"{text} ({times:.2f} ×)"


def _grid(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("| " + " | ".join(cells) + " |")
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([lines[0], "| " + " | ".join(rule) + " |", *lines[1:]])
