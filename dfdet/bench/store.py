"""A crop store in, how fast its clips come as batches out, beside a bare read of the same bytes and beside PNG."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from dfdet.bench import clips
from dfdet.bench.clips import Files, Shape
from dfdet.bench.pipeline import LoaderRun
from dfdet.data.module import VideoDataModule

STORED = 128  # clips that the bench's store holds, about
READ = 1024  # clips that one timed pass reads, at least
SAMPLES = 64  # places at which is looked whether a file still lies in memory


class StoreRuns:
    """A store of some of the files, filled once, and ways to read it.

    Args:
        files: The files.
        shape: The clips.
        folder: Where the store lies; it is made.
        workers: Loader workers.
        most_files: Files that take part, at most.
    """

    def __init__(self, files: Files, shape: Shape, folder: Path, workers: int, most_files: int) -> None:
        self.files, self.shape, self.folder, self.workers = files, shape, folder, workers
        self._more = _first_files(files, shape, most_files)
        videos = len(self._module(1, "none").items("train"))
        laps = min(max(STORED // (videos * shape.clips_per_visit), 1), max(16 // shape.clips_per_visit, 1))
        self.pool = laps * shape.clips_per_visit
        self.clips = videos * self.pool
        self._visits = videos * laps
        self._passes = max(-(-READ // self.clips), 1)
        self.bytes = 0

    def _module(self, visits: int | None, augment: str) -> VideoDataModule:
        stored: dict[str, Any] = {} if visits == 1 else {"crop_store": str(self.folder), "clip_pool": self.pool}
        return clips.module(
            self.files, self.shape, more=self._more, augment=augment, num_workers=self.workers, epoch_visits=visits,
            **stored,
        )  # fmt: skip

    def fill(self) -> float:
        """Streams every clip once, which fills the store; returns the seconds."""
        loader = self._module(self._visits, "none").train_dataloader()
        started = time.perf_counter()
        for _ in loader.batches(0):
            pass
        seconds = time.perf_counter() - started
        del loader
        gc.collect()  # its workers end, and with them what they have mapped
        self.bytes = sum(path.stat().st_size for path in self._shards())
        return seconds

    def _shards(self) -> list[Path]:
        return sorted(self.folder.glob("*.bin"))

    def through_batches(self, augment: str) -> LoaderRun:
        """The data module reads the store, epoch after epoch."""
        return LoaderRun(self._module(self._visits * self._passes, augment), self.shape)

    def once(self) -> float:
        """Seconds a batch of one epoch of a new data module, its workers' start included."""
        loader = self._module(self._visits, "none").train_dataloader()
        started = time.perf_counter()
        batches = sum(1 for _ in loader.batches(1))
        seconds = time.perf_counter() - started
        del loader
        gc.collect()
        return seconds / batches

    def bare(self, passes: int | None = None) -> float:
        """Seconds a batch of a plain np.memmap read of the same bytes into batches of the same shape.

        One process, clips in a shuffled order, one copy each. The files are mapped anew each time that the store has
        been gone through: in a store of real size no page is met twice in an epoch.
        """
        batches, row, seconds = 0, 0, 0.0
        B = self.shape.batch_size
        for number in range(passes or self._passes):
            started = time.perf_counter()
            maps = [np.memmap(path, np.uint8, mode="r") for path in self._shards()]
            places = [(m, n) for m in maps for n in range(len(m) // self.shape.clip_bytes)]
            batch = np.empty((B, *self.shape.clip), np.uint8)
            for place in np.random.default_rng(number).permutation(len(places)):
                shard, n = places[place]
                pixels = shard[n * self.shape.clip_bytes : (n + 1) * self.shape.clip_bytes]
                batch[row] = pixels.reshape(self.shape.clip)
                row += 1
                if row == B:
                    batches, row, batch = batches + 1, 0, np.empty((B, *self.shape.clip), np.uint8)
            seconds += time.perf_counter() - started
        return seconds / (batches + row / B)

    def drop_pages(self) -> bool | None:
        """Asks the system to forget the store's pages; whether it did, None where it cannot be asked."""
        if not hasattr(os, "posix_fadvise") or not hasattr(os, "RWF_NOWAIT"):
            return None
        dropped = [_dropped(path) for path in self._shards()]
        return all(dropped)


def _first_files(files: Files, shape: Shape, most: int) -> str:
    """A filter that lets so many files through."""
    items = clips.module(files, shape).items("train")
    return f"video_id in {items.table['video_id'].to_pylist()[:most]!r}"


def _dropped(path: Path) -> bool:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        size = os.fstat(handle).st_size
        places = np.linspace(0, max(size - 4096, 0), SAMPLES).astype(int).tolist()
        return sum(_in_memory(handle, place) for place in places) < SAMPLES / 8
    finally:
        os.close(handle)


def _in_memory(handle: int, place: int) -> bool:
    try:
        return os.preadv(handle, [bytearray(1)], place, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
