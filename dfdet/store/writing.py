"""Clips in, shards out: one process' own files, each complete or not there."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dfdet import console
from dfdet.store import shards
from dfdet.store.spec import StoreSpec

SHARD_BYTES = 256 << 20  # of data; a shard is finished before it would be larger
_FIRST = 0


class StoreWriter:
    """Writes the shards of one process; a forked child that inherits it begins its own.

    What is not flushed is on no shard yet and lost if the process is killed; a process that ends in order flushes.
    After a failed write (a full disk) the shard at hand is dropped, the error is raised once, and every later
    :meth:`add` does nothing: ``failed`` says so. Finished shards stay usable.

    Args:
        folder: The store's folder.
        spec: What all records share.
    """

    def __init__(self, folder: Path, spec: StoreSpec) -> None:
        self._folder, self._spec = folder, spec
        self._most = max(1, SHARD_BYTES // spec.record_bytes)
        self.failed = False
        self._begin()

    def _begin(self) -> None:
        """Names the shards of this process."""
        self._pid = os.getpid()
        self._stem, self._next = shards.new_stem(), _FIRST
        self._at_exit: util.Finalize | None = None
        self._clear()

    def _clear(self) -> None:
        self._file: int | None = None
        self._rows: list[dict[str, Any]] = []
        self._keys: set[bytes] = set()

    def add(
        self,
        key: bytes,
        pixels: np.ndarray,
        *,
        video_id: str,
        corpus: str,
        sha256: str,
        track: int,
        frames: Sequence[int] | np.ndarray,
        pad: float,
    ) -> None:
        """Writes one clip; a key that the shard at hand holds already is passed over.

        Args:
            key: 16 bytes that stand for everything that the pixels depend on beside the store's settings.
            pixels: uint8 (n, S, S, 3) with 1 <= n <= T, RGB. Contiguous pixels are written without a copy.
            video_id: The video's name within its corpus.
            corpus: Its corpus.
            sha256: Of the video file.
            track: The face followed.
            frames: The n frame numbers.
            pad: Share of the crop outside the frame, 0..1.

        Raises:
            ValueError: The arguments do not fit each other or the store.
            OSError: The disk is full, or fails.
        """
        if os.getpid() != self._pid:
            self._leave_to_parent()
        if self.failed or key in self._keys:
            return
        n = self._checked(key, pixels, frames)
        offset = len(self._rows) * self._spec.record_bytes
        plain = np.ascontiguousarray(pixels)
        try:
            if self._file is None:
                self._open()
            assert self._file is not None
            _write_all(self._file, plain.data.cast("B"), offset)
        except OSError as error:
            self._drop(error)
            raise
        self._keys.add(key)
        row = {"key": key, "video_id": video_id, "corpus": corpus, "sha256": sha256, "track": int(track)}
        row |= {"frames": [int(f) for f in frames], "n": n, "pad": float(pad)}
        self._rows.append({**row, "crc32": zlib.crc32(plain.data), "offset": offset})
        if len(self._rows) == self._most:
            self.flush()

    def _checked(self, key: bytes, pixels: np.ndarray, frames: Sequence[int] | np.ndarray) -> int:
        n, side = len(pixels), self._spec.size
        if len(key) != 16:
            raise ValueError(f"a key has 16 bytes, not {len(key)}")
        if pixels.dtype != np.uint8 or pixels.shape != (n, side, side, 3) or not 1 <= n <= self._spec.frames:
            raise ValueError(
                f"a clip of this store is uint8 (1..{self._spec.frames}, {side}, {side}, 3), "
                f"not {pixels.dtype} {pixels.shape}"
            )
        if len(frames) != n:
            raise ValueError(f"{n} crops came with {len(frames)} frame numbers")
        return n

    def flush(self) -> None:
        """Finishes the shard at hand, on disk when this returns; the next :meth:`add` begins another.

        Raises:
            OSError: The disk is full, or fails.
        """
        if self._file is None or os.getpid() != self._pid:
            return
        draft, data, index = self._paths
        try:
            os.ftruncate(self._file, len(self._rows) * self._spec.record_bytes)  # the last record may be short
            os.fsync(self._file)
            os.close(self._file)
            self._file = None
            draft.rename(data)
            table = pa.Table.from_pylist(self._rows, schema=pa.schema(list(shards.INDEX_COLUMNS.items())))
            shards.write_index(index, table, self._spec)
        except BaseException as error:  # Ctrl-C too: a shard is whole or not there
            self._drop(error)
            raise
        self._next += 1
        self._clear()

    def close(self) -> None:
        """Flushes; the writer may be used again."""
        self.flush()
        if self._at_exit is not None and os.getpid() == self._pid:
            self._at_exit.cancel()
            self._at_exit = None

    @property
    def _paths(self) -> tuple[Path, Path, Path]:
        """The draft, the data and the index of the shard at hand."""
        data = self._folder / f"{self._stem}-{self._next:05d}.bin"
        return data.with_name(f"{data.name}.tmp"), data, data.with_suffix(".parquet")

    def _open(self) -> None:
        self._file = os.open(self._paths[0], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        if self._at_exit is None:
            # loader workers end without running atexit's functions, but they run these
            self._at_exit = util.Finalize(None, self._flush_at_exit, exitpriority=10)

    def _flush_at_exit(self) -> None:
        try:
            self.flush()
        except OSError as error:
            console.warn(f"{error.filename or self._folder}: {error.strerror}; its last clips are not in the store")

    def _drop(self, error: BaseException) -> None:
        """Takes the unfinished shard off the disk, and names the store where the error names nothing."""
        if self._file is not None:
            with suppress(OSError):  # a network disk says here once more that it is full
                os.close(self._file)
        for path in reversed(self._paths):  # the index first
            with suppress(OSError):  # was never made; or the disk fails, and the next opening removes it
                path.unlink()
        if isinstance(error, OSError):
            self.failed = True
            error.filename = error.filename or str(self._folder)
        self._clear()

    def _leave_to_parent(self) -> None:
        if self._file is not None:
            os.close(self._file)  # this process' copy of the number alone
        self.failed = False
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self._folder, "spec": self._spec}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def _write_all(file: int, content: memoryview, offset: int) -> None:
    """Writes all of it at once where the system takes it at once; a full disk is an OSError."""
    while content:
        written = os.pwrite(file, content, offset)
        content, offset = content[written:], offset + written
