"""A folder of shards in; a clip's number by its key, and its pixels as a view of the mapped file, out.

What is known of the records lies in numpy and arrow columns, none of it in objects, so that forked workers share it.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import sys
import time
import zlib
from collections import OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from dfdet import console
from dfdet.errors import UserError
from dfdet.store import shards
from dfdet.store.shards import DamagedError, ShardIndex
from dfdet.store.spec import StoreSpec, read_spec, settle
from dfdet.store.writing import StoreWriter

MAPS = 256  # shards mapped at once, each an open file
RESIDENT_BYTES = 256 << 20  # of clips handed out that stay in this process' page tables; older ones are given back
CHECKED_SHARE = 0.001  # of the records of a new shard, at least one
CHECK_SECONDS = 5.0  # after which no more new shards are checked at once
INDEX_BYTES = 256  # of a record, beside its frame numbers: an upper bound
POPULATE_READ = 22  # Linux' MADV_POPULATE_READ (5.14): reads pages into memory, and fails where a read would kill

_COLUMNS: dict[str, Any] = {"shard": np.int32, "n": np.int32, "track": np.int32, "pad": np.float64, "offset": np.int64}


class Place(NamedTuple):
    """Where a clip's pixels lie: any process that has the store open may read them there.

    Attributes:
        shard: Name of the file in the store's folder.
        size: Bytes of the file.
        offset: First byte of the clip.
        frames: n, its frames.
    """

    shard: str
    size: int
    offset: int
    frames: int


@dataclass(frozen=True)
class StoredClip:
    """One clip as it was decoded.

    Attributes:
        pixels: uint8 (n, S, S, 3), RGB; a view of the mapped file, read-only, which has been read into memory.
        place: Where they lie.
        frames: int64 (n,), frame numbers.
        pad: Share of the crop that lies outside the frame, 0..1.
        track: The face followed.
        video_id: The video's name within its corpus.
    """

    pixels: np.ndarray
    place: Place
    frames: np.ndarray
    pad: float
    track: int
    video_id: str


class CropStore:
    """The clips of a store. May be forked or pickled; files are mapped when they are first read, in each process.

    Made by :meth:`open` or :meth:`existing`.

    Attributes:
        path: The folder.
        spec: What all records share.
    """

    def __init__(self, path: Path, spec: StoreSpec) -> None:
        self.path, self.spec = path, spec
        self._seen: set[str] = set()
        self._data: list[str] = []
        self._sizes: list[int] = []
        self._column = {name: np.zeros(0, kind) for name, kind in _COLUMNS.items()}
        self._keys = np.zeros((0, 2), np.uint64)
        self._frames = np.zeros(0, np.int32)
        self._ids = pa.array([], pa.string())
        self._sort()
        self._forget_maps()

    @classmethod
    def open(cls, path: Path, spec: StoreSpec) -> CropStore:
        """The store in a folder, made where there is none; what dead processes of this machine left is removed.

        Raises:
            UserError: The folder holds a store with other settings (each is named), or other files.
        """
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        store = cls(path, settle(path, spec))
        shards.remove_leftovers(path)
        store.refresh()
        return store

    @classmethod
    def existing(cls, path: Path) -> CropStore:
        """The store in a folder as it is; nothing is made, removed or compared.

        Raises:
            UserError: There is none.
        """
        store = cls(Path(path), read_spec(Path(path)))
        store.refresh()
        return store

    def __len__(self) -> int:
        return len(self._keys)

    # What there is ---------------------------------------------------------------------------------------------

    def refresh(self) -> int:
        """Reads the shards that have appeared since; returns the number of records. Their numbers never change.

        Of each new shard a random record is held against its checksum, as many shards as a few seconds allow. A shard
        that is damaged is left out, with one line of warning.
        """
        new: list[ShardIndex] = []
        until = time.monotonic() + CHECK_SECONDS
        rng = np.random.default_rng()
        found = [p for p in shards.indices(self.path) if p.name not in self._seen]
        checked = set(rng.permutation(len(found)).tolist())
        for number, path in enumerate(found):
            self._seen.add(path.name)
            try:
                index = shards.read_index(path, self.spec)
                if number in checked and time.monotonic() < until:
                    self._spot_check(index, rng)
            except DamagedError as error:
                console.warn(
                    f"{path} is left out: {error}; dfdet store verify {self.path} looks at all, and a shard that is "
                    "deleted is filled again"
                )
                continue
            new.append(index)
        if new:
            self._take_in(new)
        return len(self)

    def _spot_check(self, index: ShardIndex, rng: np.random.Generator) -> None:
        records = list(shards.records(index, self.spec))
        drawn = rng.choice(len(records), max(1, round(CHECKED_SHARE * len(records))), replace=False)
        with index.data.open("rb") as file:
            for record in drawn.tolist():
                check_record(file.fileno(), record, *records[record])

    def _take_in(self, new: list[ShardIndex]) -> None:
        first = len(self._data)
        self._data += [index.data.name for index in new]
        self._sizes += [len(index) * self.spec.record_bytes for index in new]
        self._keys = np.concatenate([self._keys, *(index.keys for index in new)])
        self._frames = np.concatenate([self._frames, *(index.frames for index in new)])
        ids = [index.table["video_id"].combine_chunks() for index in new]
        self._ids = pa.concat_arrays([self._ids, *ids])
        numbers = [np.full(len(index), first + i) for i, index in enumerate(new)]
        for name, kind in _COLUMNS.items():
            added = numbers if name == "shard" else [index.column(name) for index in new]
            self._column[name] = np.concatenate([self._column[name], *added]).astype(kind, copy=False)
        self._sort()

    def _sort(self) -> None:
        # stable: of equal keys the first record stands first
        self._order = np.lexsort((self._keys[:, 1], self._keys[:, 0])).astype(np.int32)
        self._high, self._low = (np.ascontiguousarray(self._keys[self._order, half]) for half in (0, 1))
        self._ends = np.cumsum(self._column["n"], dtype=np.int64)

    # Clips -----------------------------------------------------------------------------------------------------

    def find(self, key: bytes) -> int | None:
        """The number of the first record with a key of 16 bytes, None where there is none."""
        if len(key) != 16:
            raise ValueError(f"a key has 16 bytes, not {len(key)}")
        high, low = np.uint64(int.from_bytes(key[:8], "big")), np.uint64(int.from_bytes(key[8:], "big"))
        start, count = int(self._high.searchsorted(high)), len(self._high)
        if start == count or self._high[start] != high:
            return None
        if start + 1 < count and self._high[start + 1] == high:
            stop = int(self._high.searchsorted(high, side="right"))
            start += int(self._low[start:stop].searchsorted(low))
            if start == stop:
                return None
        return int(self._order[start]) if self._low[start] == low else None

    def clip(self, number: int) -> StoredClip:
        """A record by its number.

        Raises:
            OSError: The shard has been removed, or cut short, since it was found, or the disk fails.
        """
        n, end = int(self._column["n"][number]), int(self._ends[number])
        shard = int(self._column["shard"][number])
        place = Place(self._data[shard], self._sizes[shard], int(self._column["offset"][number]), n)
        return StoredClip(
            self._pixels(place, fetch=True),
            place,
            self._frames[end - n : end].astype(np.int64),
            float(self._column["pad"][number]),
            int(self._column["track"][number]),
            self._ids[number].as_py(),
        )

    def at(self, place: Place) -> np.ndarray:
        """The pixels that another process has found and read into memory, uint8 (n, S, S, 3), read-only.

        Raises:
            OSError: The shard has been removed, or cut short, since then.
        """
        return self._pixels(place, fetch=False)

    def _pixels(self, place: Place, fetch: bool) -> np.ndarray:
        whole = self._map(place)
        length = place.frames * self.spec.frame_bytes
        if fetch:
            _fetch(whole, place.offset, length)
        flat = np.frombuffer(whole, np.uint8, length, place.offset)
        self._resident.append((whole, place.offset, length))
        self._resident_bytes += length
        while self._resident_bytes > RESIDENT_BYTES and len(self._resident) > 1:
            self._give_back(*self._resident.popleft())
        return flat.reshape(place.frames, self.spec.size, self.spec.size, 3)

    def _give_back(self, whole: mmap.mmap, offset: int, length: int) -> None:
        """Takes a clip's pages out of this process' tables; a view that is still held reads them again by itself."""
        self._resident_bytes -= length
        start = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
        stop = (offset + length) // mmap.PAGESIZE * mmap.PAGESIZE
        if stop > start and hasattr(whole, "madvise"):
            whole.madvise(mmap.MADV_DONTNEED, start, stop - start)

    def _map(self, place: Place) -> mmap.mmap:
        known = self._maps.get(place.shard)
        if known is not None:
            self._maps.move_to_end(place.shard)
            return known
        path = self.path / place.shard
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != place.size:  # reading behind a file's end would kill the process
                raise OSError(f"{path} has {size} bytes, its index says {place.size}")
            made = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._maps[place.shard] = made
        while len(self._maps) > MAPS:
            self._maps.popitem(last=False)  # closed when the last view of it is gone
        return made

    def _forget_maps(self) -> None:
        self._maps: OrderedDict[str, mmap.mmap] = OrderedDict()
        self._resident: deque[tuple[mmap.mmap, int, int]] = deque()
        self._resident_bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("_maps", "_resident", "_resident_bytes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget_maps()

    # Filling ---------------------------------------------------------------------------------------------------

    def bytes_for(self, records: int) -> int:
        """Bytes on disk that so many records take, their index included."""
        return records * (self.spec.record_bytes + INDEX_BYTES + 4 * self.spec.frames)

    def check_space(self, records: int, what: str) -> None:
        """Refuses what the disk cannot hold before any work is done.

        Args:
            records: How many records will be added.
            what: What adds them, for the message: ``an epoch``.

        Raises:
            UserError: The disk is too small.
        """
        needed, free = self.bytes_for(records), shutil.disk_usage(self.path).free
        if needed > free:
            shape = f"{self.spec.frames} x {self.spec.size} x {self.spec.size}"
            raise UserError(
                f"{self.path}: {what} needs {gigabytes(needed)} for {records} clips of {shape}, "
                f"{gigabytes(free)} are free",
                "lower data.crop.size, data.clip.frames or the number of clips, or give a --data.crop_store on a "
                "larger disk",
            )

    def writer(self) -> StoreWriter:
        """Adds records, in shards of this process' own."""
        return StoreWriter(self.path, self.spec)


def _fetch(whole: mmap.mmap, offset: int, length: int) -> None:
    """Reads a part of a mapped file into memory, so that a disk that fails is an error here and not a signal later.

    Raises:
        OSError: It cannot be read.
    """
    start = offset // mmap.PAGESIZE * mmap.PAGESIZE
    if sys.platform == "linux":
        try:
            whole.madvise(POPULATE_READ, start, offset + length - start)
        except OSError as error:
            if error.errno != errno.EINVAL:  # that is an older Linux, which reads when the pixels are looked at
                raise


def check_record(file: int, record: int, offset: int, length: int, crc: int) -> None:
    """Holds one record against its checksum; reads it without mapping, so that a bad disk is an error, not a signal.

    Raises:
        DamagedError: It differs, or cannot be read.
    """
    try:
        pixels = os.pread(file, length, offset)
    except OSError as error:
        raise DamagedError(f"record {record} cannot be read ({error.strerror})") from error
    if zlib.crc32(pixels) != crc:
        raise DamagedError(f"record {record} has another checksum than when it was written")


def gigabytes(count: int) -> str:
    """Bytes in words: 2.5 GB, 31 MB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
