"""A store in; tables of what it holds, and of what is damaged in it, out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from dfdet.console import Progress, Table
from dfdet.store import shards
from dfdet.store.reading import check_record, gigabytes
from dfdet.store.shards import DamagedError, ShardIndex
from dfdet.store.spec import StoreSpec, flat, read_spec


def info(folder: Path) -> list[Table]:
    """Settings of a store, what it holds, and its unfinished files.

    Raises:
        UserError: There is no store.
    """
    spec = read_spec(folder)
    settings = Table(f"Settings of {folder}", ["setting", "value"])
    for name, value in flat(asdict(spec)).items():
        settings.add(name, value)
    good, bad = _indices(folder, spec)
    content = Table(f"Content of {folder}", ["what", "value"])
    content.add("clips", sum(len(index) for index in good))
    videos = _videos(good)
    content.add("videos", len(videos))
    content.add("corpora", ", ".join(sorted({str(name) for name in videos["corpus"].to_pylist()})) or None)
    content.add("size on disk", gigabytes(sum(p.stat().st_size for p in folder.iterdir() if p.is_file())))
    content.add("shards", len(good))
    if bad:
        content.add("damaged shards", len(bad))
        content.notes.append(f"dfdet store verify {folder} names them")
    _add_leftovers(content, folder)
    return [settings, content]


def verify(folder: Path) -> tuple[Table, bool]:
    """Reads every record of a store and holds it against its checksum.

    Returns:
        A table with one row a damaged shard, and whether there is none.

    Raises:
        UserError: There is no store.
    """
    spec = read_spec(folder)
    good, bad = _indices(folder, spec)
    count = sum(len(index) for index in good)
    with Progress("checked clips", count) as progress:
        for index in good:
            damage = _damage(index, spec, progress)
            if damage:
                bad[index.data.stem] = damage
    table = Table("Damaged shards", ["shard", "damage"])
    for shard, damage in sorted(bad.items()):
        table.add(shard, damage)
    if bad:
        table.notes.append(
            "delete the .bin and the .parquet of each of them: the store stays usable, and its clips are filled again"
        )
    else:
        table.notes.append(f"{folder}: every one of {count} clips in {len(good)} shards is as it was written")
    _add_leftovers(table, folder)
    return table, not bad


def _indices(folder: Path, spec: StoreSpec) -> tuple[list[ShardIndex], dict[str, str]]:
    """The indices that can be used, and why the others cannot."""
    good: list[ShardIndex] = []
    bad: dict[str, str] = {}
    for path in shards.indices(folder):
        try:
            good.append(shards.read_index(path, spec))
        except DamagedError as error:
            bad[path.stem] = str(error)
    return good, bad


def _damage(index: ShardIndex, spec: StoreSpec, progress: Progress) -> str:
    found = []
    try:
        with index.data.open("rb") as file:
            for record, place in enumerate(shards.records(index, spec)):
                try:
                    check_record(file.fileno(), record, *place)
                except DamagedError as error:
                    found.append(str(error))
                progress.advance()
    except OSError as error:
        return f"{index.data.name}: {error.strerror}"
    return found[0] + (f" (and {len(found) - 1} more)" if len(found) > 1 else "") if found else ""


def _videos(good: list[ShardIndex]) -> pa.Table:
    """The (corpus, video_id) that occur, each once."""
    names = ["corpus", "video_id"]
    empty = pa.schema([(name, shards.INDEX_COLUMNS[name]) for name in names]).empty_table()
    tables = [index.table.select(names).replace_schema_metadata(None) for index in good]
    return pa.concat_tables([empty, *tables]).group_by(names).aggregate([])


def _add_leftovers(table: Table, folder: Path) -> None:
    """Notes on the files that are not part of any shard yet, or never will be."""
    found = shards.leftovers(folder)
    writing = [x for x in found if x.alive]
    dead = [x for x in found if x.ours and not x.alive]
    elsewhere = [x for x in found if not x.ours]
    if writing:
        table.notes.append(f"{len(writing)} unfinished files of processes that run on this machine")
    if dead:
        table.notes.append(f"{len(dead)} unfinished files of ended processes; the next run that opens it removes them")
    if elsewhere:
        first = elsewhere[0].path.name
        table.notes.append(
            f"{len(elsewhere)} unfinished files of other machines ({first}); delete them if nothing runs there any more"
        )
