"""A file and a reason -> the one exception that reading frames raises."""

from __future__ import annotations

from pathlib import Path


class ReadError(Exception):
    """Frames of a file could not be read exactly. Its text is one line: the path, then the reason.

    Args:
        path: The file.
        reason: What is wrong, as a clause without a full stop.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = str(path)
        self.reason = " ".join(reason.split())
        super().__init__(f"{self.path}: {self.reason}")

    def __reduce__(self) -> tuple[type[ReadError], tuple[str, str]]:
        # an exception is pickled by its args, of which there is one; loader workers send it to their parent
        return type(self), (self.path, self.reason)
