"""The files of a store: how they are named, what an index holds, which of them a dead process has left behind."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dfdet import files
from dfdet.store.spec import StoreSpec

SCHEMA = "dfdet.store.shard"
VERSION = 1

INDEX_COLUMNS: dict[str, pa.DataType] = {
    "key": pa.binary(16),
    "video_id": pa.string(),
    "corpus": pa.string(),
    "sha256": pa.string(),  # of the video file
    "track": pa.int32(),
    "frames": pa.list_(pa.int32()),  # frame numbers, n of them
    "n": pa.int32(),
    "pad": pa.float64(),  # share of the crop outside the frame
    "crc32": pa.int64(),  # of the n crops
    "offset": pa.int64(),  # bytes, in the .bin beside
}

_NAME = re.compile(
    r"\.?(?P<stem>shard-(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{8}-\d{5})(?P<kind>\.bin|\.parquet)(?P<draft>\.tmp(-\d+)?)?"
)
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # what Linux calls the namespace of a machine's own processes


class DamagedError(Exception):
    """A shard that cannot be used; the text says why."""


@dataclass(frozen=True)
class ShardIndex:
    """What the index of one shard says.

    Attributes:
        data: The .bin file.
        table: One row a record, :data:`INDEX_COLUMNS`.
    """

    data: Path
    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str) -> np.ndarray:
        """A column of numbers."""
        return np.asarray(self.table[name].to_numpy())

    @property
    def keys(self) -> np.ndarray:
        """Uint64 (N, 2), native order: the keys as two numbers each, the higher one first."""
        whole = self.table["key"].combine_chunks()
        raw = np.frombuffer(whole.buffers()[1], np.uint8, 16 * len(whole), 16 * whole.offset)
        return raw.view(">u8").reshape(-1, 2).astype(np.uint64)

    @property
    def frames(self) -> np.ndarray:
        """Int32, the frame numbers of all records one after another."""
        return np.asarray(self.table["frames"].combine_chunks().flatten().to_numpy(), np.int32)


@dataclass(frozen=True)
class Leftover:
    """An unfinished file: ``ours`` says that a process of this machine wrote it, ``alive`` that it still runs."""

    path: Path
    ours: bool
    alive: bool


def host() -> str:
    """This machine in the names of shards; containers with process numbers of their own are machines of their own."""
    name = re.sub(r"[^A-Za-z0-9_.]", "_", socket.gethostname()) or "host"
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return name
    return name if namespace == _FIRST_PID_NAMESPACE else f"{name}.{namespace:x}"


def new_stem() -> str:
    """The name of a writer's shards, without their number."""
    return f"shard-{host()}-{os.getpid()}-{os.urandom(4).hex()}"


def indices(folder: Path) -> list[Path]:
    """The indices of all finished shards, sorted by name."""
    return sorted(p for p in folder.glob("shard-*.parquet") if _NAME.fullmatch(p.name))


def leftovers(folder: Path) -> list[Leftover]:
    """The files that belong to no finished shard: drafts, and data without an index."""
    found = []
    # the data first: an index that comes meanwhile is then seen
    names = sorted(p.name for p in folder.iterdir())
    finished = {p.stem for p in indices(folder)}
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None or not (match["draft"] or (match["kind"] == ".bin" and match["stem"] not in finished)):
            continue
        ours = match["host"] == host()
        found.append(Leftover(folder / name, ours, ours and _alive(int(match["pid"]))))
    return found


def remove_leftovers(folder: Path) -> None:
    """Removes what dead processes of this machine have left; a disk that may not be written keeps it."""
    for leftover in leftovers(folder):
        if leftover.ours and not leftover.alive:
            with suppress(OSError):
                leftover.path.unlink()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_index(path: Path, table: pa.Table, spec: StoreSpec) -> None:
    """Writes the index of a shard whose data are in place; with it the shard exists.

    Raises:
        OSError: The disk is full, or fails.
    """
    document = json.dumps({"schema": SCHEMA, "version": VERSION, "store": spec.digest}, sort_keys=True)
    with files.replacing(path) as draft:
        pq.write_table(table.replace_schema_metadata({"dfdet": document}), draft, compression="zstd")


def read_index(path: Path, spec: StoreSpec) -> ShardIndex:
    """Reads the index of a shard and holds it against the size of its data.

    Raises:
        DamagedError: One of the two cannot be used, or the shard belongs to another store.
    """
    try:
        # opened here: Arrow's own reading takes a folder named a=b for a column
        with path.open("rb") as handle:
            table = pq.ParquetFile(handle).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(f"its index cannot be read ({str(error).splitlines()[0]})") from error
    meta = json.loads((table.schema.metadata or {}).get(b"dfdet", b"{}"))
    if (meta.get("schema"), meta.get("version")) != (SCHEMA, VERSION):
        raise DamagedError(f"its index is {meta.get('schema')!r} of version {meta.get('version')}")
    if meta.get("store") != spec.digest:
        raise DamagedError("it was made with other settings")
    data = path.with_suffix(".bin")
    wanted = len(table) * spec.record_bytes
    try:
        size = data.stat().st_size
    except OSError as error:
        raise DamagedError(f"{data.name}: {error.strerror}") from error
    if size != wanted:
        raise DamagedError(f"{data.name} has {size} bytes, its index says {wanted}")
    return ShardIndex(data, table)


def records(index: ShardIndex, spec: StoreSpec) -> Iterator[tuple[int, int, int]]:
    """(offset, bytes, crc32) of each record of a shard."""
    columns = (index.column(name).tolist() for name in ("offset", "n", "crc32"))
    for offset, n, crc in zip(*columns, strict=True):
        yield offset, n * spec.frame_bytes, crc
