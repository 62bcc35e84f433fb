"""What a loader process knows of the files that it reads, and of the store that it keeps their crops in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dfdet import files
from dfdet.data.sources import Items
from dfdet.data.wanted import Wanted
from dfdet.store import CropStore, Place, StoredClip, StoreWriter
from dfdet.video import ReadError


class Unchanged:
    """Holds files against the index: their bytes when they are first met, later whether anybody touched them.

    Args:
        items: The videos.
    """

    def __init__(self, items: Items) -> None:
        self._items = items
        self._seen = np.zeros((len(items), 4), np.int64)

    def check(self, item: int, path: Path) -> None:
        """Looks at one file; hashing takes 1 ms a megabyte, once a file and process.

        Raises:
            ReadError: It is not the file that was indexed.
            OSError: It is not there any more.
        """
        state = path.stat()
        seen = (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
        if tuple(self._seen[item].tolist()) == seen:
            return
        size, sha256 = self._items.file_size(item), self._items.sha256(item)
        if size is not None and size != state.st_size:
            raise ReadError(path, f"it has changed since it was indexed ({size} bytes then, {state.st_size} now)")
        if sha256 is not None and files.sha256(path) != sha256:
            raise ReadError(path, "it has changed since it was indexed (as many bytes, but others)")
        self._seen[item] = seen


class Keeper:
    """Finds clips in a store and puts clips into it; a disk that is full ends the storing, not the run.

    Args:
        items: The videos.
        store: The store.
    """

    def __init__(self, items: Items, store: CropStore) -> None:
        self._items, self._store = items, store
        self._writer: StoreWriter | None = None
        self._notes: list[str] = []

    def clip(self, key: bytes) -> StoredClip | None:
        """A clip; None where the store has none, or where somebody has removed its file since."""
        number = self._store.find(key)
        try:
            return None if number is None else self._store.clip(number)
        except OSError:
            return None

    def at(self, place: Place) -> np.ndarray:
        """The pixels of a clip that another process has found: uint8 (n, S, S, 3), read-only.

        Raises:
            OSError: Somebody has removed its file since.
        """
        return self._store.at(place)

    def keep(self, key: bytes, clip: Wanted, pixels: np.ndarray, sha256: str) -> None:
        """Puts a clip into the store: the first t of its pixels, uint8 (T, S, S, 3)."""
        row = self._items.row(clip.item, ["video_id", "corpus"])
        self._write(
            lambda writer: writer.add(
                key,
                pixels[: len(clip.frames)],
                video_id=row["video_id"],
                corpus=row["corpus"],
                sha256=sha256,
                track=clip.track,
                frames=clip.frames,
                pad=float(clip.crop.pad),
            )
        )

    def refresh(self) -> None:
        """Sees what others have put into the store."""
        self._store.refresh()

    def flush(self) -> None:
        """Makes what this process has put into the store visible to others."""
        self._write(lambda writer: writer.flush())

    def notes(self) -> list[str]:
        """What the user should be told of, once."""
        told, self._notes = self._notes, []
        return told

    def _write(self, write: Callable[[StoreWriter], None]) -> None:
        if self._writer is None:
            self._writer = self._store.writer()
        try:
            write(self._writer)
        except OSError as error:
            self._notes.append(f"the crop store {self._store.path} takes no more: {error.strerror or error}")
