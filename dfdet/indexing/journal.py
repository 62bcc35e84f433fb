"""What an interrupted indexing leaves: a line a finished file, so that a second run does only the rest.

The parent process alone writes it. A line that a kill has torn has no line end and is cut off.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dfdet.errors import UserError


class Journal:
    """Records of finished files by their key, on disk.

    Args:
        path: The journal file; it is made where it is absent.
        settings: What the records depend on; a journal of other settings is refused, since it may hold hours of work.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.records: dict[str, dict[str, Any]] = {}
        header = json.dumps({"dfdet.journal": 1, "settings": settings}, sort_keys=True)
        if path.is_file():
            self._read(header)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        if self._file.tell() == 0:
            self._line(header)

    def _read(self, header: str) -> None:
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            os.truncate(self.path, len(whole))
        lines = whole.decode("utf-8").splitlines()
        if lines and lines[0] != header:
            raise UserError(
                f"{self.path} is from an interrupted indexing with other settings",
                "give the settings of then, another --out, or delete it",
            )
        for line in lines[1:]:
            record = json.loads(line)
            self.records[record.pop("key")] = record

    def _line(self, text: str) -> None:
        self._file.write(text + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def add(self, key: str, record: dict[str, Any]) -> None:
        """Records a finished file, on disk when this returns."""
        self.records[key] = record
        self._line(json.dumps({"key": key, **record}))

    def close(self) -> None:
        """Closes the file and keeps it."""
        self._file.close()

    def remove(self) -> None:
        """The tables are written: the journal has done its work."""
        self.close()
        self.path.unlink()
