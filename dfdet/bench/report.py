"""Figures in; one table for the eye, and the same figures as flat keys for a file, out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dfdet.bench import machine
from dfdet.console import Table


@dataclass
class Report:
    """What a bench has found.

    Attributes:
        table: Rows of (what, value, unit, beside); notes below.
        keys: Every figure by its name.
    """

    table: Table
    keys: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def titled(cls, title: str) -> Report:
        """An empty one."""
        return cls(Table(title, ["what", "value", "unit", "beside"]))

    def add(self, what: str, value: Any, unit: str = "", *, key: str | None = None, beside: str = "") -> None:
        """One row; ``key`` is its name in the file."""
        self.table.add(what, value, unit, beside)
        if key is not None:
            self.keys[key] = value

    def note(self, line: str) -> None:
        """A line below the table."""
        self.table.notes.append(line)

    def on_this_machine(self) -> Report:
        """Adds where it was measured."""
        facts = machine.machine()
        self.note(machine.line(facts))
        self.keys |= facts
        return self
