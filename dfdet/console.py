"""What the commands say: tables, bars on a terminal, plain lines elsewhere.

Tables are data first (:class:`Table`), so that the same object is printed and written as JSON.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfdet import files


@dataclass
class Table:
    """A table with a title, column names, rows of plain values, and notes below it.

    Values are str, int, float or None; None and NaN print as a dash ("undefined"), floats with three decimals.
    """

    title: str
    columns: Sequence[str]
    rows: list[list[Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *values: Any) -> None:
        """Adds one row."""
        self.rows.append(list(values))

    def as_dict(self) -> dict[str, Any]:
        """The table as plain data: title, rows as dicts by column name, notes."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows, "notes": list(self.notes)}


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def show(*tables: Table, json_file: str | Path | None = None) -> None:
    """Prints tables to standard output and, where asked, writes them all to one JSON file."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    if json_file is not None:  # first: a reader of the printed tables may close the pipe
        files.write_json(json_file, [table.as_dict() for table in tables])
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    for table in tables:
        look = RichTable(title=Text(table.title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for index, column in enumerate(table.columns):
            right = any(_is_number(row[index]) for row in table.rows)
            look.add_column(column, justify="right" if right else "left", overflow="fold")
        for row in table.rows:
            look.add_row(*(Text(_text(value)) for value in row))
        console.print(look)
        for note in table.notes:
            console.print(f"  {note}", markup=False)
        console.print()


def say(line: str) -> None:
    """One line of progress or advice, to standard error, so that standard output stays a table or data."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is the one place that prints
    logging.getLogger("dfdet").info(line)  # a run's log.txt listens here


def warn(line: str) -> None:
    """One line of warning to standard error."""
    say(f"warning: {line}")


class Progress:
    """Counts finished items: a bar with rate and time left on a terminal, else a line every few seconds."""

    def __init__(self, what: str, total: int, every_seconds: float = 10.0) -> None:
        self.what, self.total, self.every = what, total, every_seconds
        self.done = 0
        self._start = self._last = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            rate = TextColumn("{task.fields[rate]}/s")
            self._bar = RichProgress(*columns, rate, TimeRemainingColumn(), console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self.what, total=self.total, rate="-")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self.done:
            self._line()

    def advance(self, items: int = 1) -> None:
        """Counts ``items`` more as done."""
        self.done += items
        now = time.monotonic()
        if self._bar is not None:
            rate = f"{self.done / max(now - self._start, 1e-9):.1f}"
            self._bar.update(self._task, advance=items, rate=rate)
        elif now - self._last >= self.every:
            self._last = now
            self._line()

    def _line(self) -> None:
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = self.done / seconds
        left = (self.total - self.done) / rate if rate else float("nan")
        say(f"{self.what}: {self.done}/{self.total}, {rate:.1f}/s, {left:.0f} s left")


@contextmanager
def interruptible(how_to_go_on: str) -> Iterator[None]:
    """Turns Ctrl-C into one line that says how to go on, and exit code 130.

    Args:
        how_to_go_on: What the user types to continue: ``"run the same command again"``.
    """
    try:
        yield
    except KeyboardInterrupt:
        say(f"interrupted; {how_to_go_on}")
        raise SystemExit(130) from None
