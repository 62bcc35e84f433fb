"""What an interrupted indexing leaves: a line a finished file, so that a second run does only the rest.

The parent process alone writes it. A line that a kill has torn has no line end and is cut off.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
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
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        try:
            self._lock()
            self._read(header)
            if not path.stat().st_size:
                self._line(header)
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        """One writer: a second indexing to the same place would tear both. Held until the file is closed."""
        with suppress(ImportError):  # Windows
            import fcntl

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"another dfdet index is at work on {self.path}", "wait for it, or give another --out"
                ) from error
            except OSError:  # a network disk without locks
                return

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
        for number, line in enumerate(lines[1:], 2):
            try:
                record = json.loads(line)
                self.records[record.pop("key")] = record
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(f"{self.path}, line {number} is damaged", "delete the file and index again") from error

    def _line(self, text: str) -> None:
        try:
            self._file.write(text + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:  # a full disk is reported without a name
            error.filename = str(self.path)
            raise

    def add(self, key: str, record: dict[str, Any]) -> None:
        """Records a finished file, on disk when this returns."""
        self.records[key] = record
        self._line(json.dumps({"key": key, **record}))

    def close(self) -> None:
        """Closes the file and keeps it."""
        with suppress(OSError):  # the disk is full: that was said when the line was added
            self._file.close()

    def remove(self) -> None:
        """The tables are written: the journal has done its work."""
        self.close()
        self.path.unlink()
