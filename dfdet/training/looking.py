"""Files that no manifest knows go in; their media, the faces in them, and items to score come out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from dfdet import console, manifest
from dfdet.corpora.rows import kind_of, walk, without_extension
from dfdet.data.sources import Items
from dfdet.errors import UserError
from dfdet.faces.detector import DetectorSettings
from dfdet.indexing.examine import Task, examine
from dfdet.indexing.index import tables


def media_files(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """Every file once: those given, and every video and image in folders.

    Raises:
        UserError: If one does not exist, or a folder holds nothing to score.
    """
    return list(dict.fromkeys(_each([paths] if isinstance(paths, str | Path) else paths)))


def _each(paths: Iterable[str | Path]) -> Iterable[Path]:
    for given in map(Path, paths):
        if not given.exists():
            raise UserError(f"{given} does not exist")
        if given.is_dir():
            inside, _ = walk(given)
            if not inside:
                raise UserError(f"{given} holds no video and no image")
            yield from (given / name for name in inside)
        else:
            yield given


def items_in(
    found: Sequence[Path], settings: DetectorSettings | None, faces: dict[str, Any], progress: bool = False
) -> Items:
    """Looks into files and for the faces in them.

    Args:
        found: The files.
        settings: How faces are looked for; None: the files are face crops already.
        faces: What is said of that in the items.
        progress: Show a bar.
    """
    records = {}
    with console.Progress("looking for faces", len(found), every_seconds=10 if progress else float("inf")) as bar:
        for path in found:
            records[str(path)] = _look(Task(path, str(path), settings))
            bar.advance()
    return _items(found, records, faces)


def _look(task: Task) -> dict[str, Any]:
    record, media = examine(task, lambda: None)
    # PyAV is right on every file that decodes; proving decord would cost more than it saves on one visit
    reader = "image" if media.kind == "image" else "pyav"
    record["row"] |= {"reader": reader, "reader_reason": "not indexed"}
    return record


def _items(found: Sequence[Path], records: dict[str, dict[str, Any]], faces: dict[str, Any]) -> Items:
    """Items of files that no manifest knows: the path is the id."""
    rows = pd.DataFrame(
        [{"corpus": "predict", "video_id": str(p), "path": str(p), "kind": kind_of(str(p)) or "video"} for p in found]
    )
    table, tracks = tables(rows, records)
    table["group"] = [without_extension(p) for p in table["path"]]
    arrow = pa.Table.from_pandas(
        table.reindex(columns=list(manifest.MANIFEST_COLUMNS)), schema=manifest.schema(), preserve_index=False
    )
    return Items(
        table=arrow,
        tracks=[manifest.tracks_of(tracks, {})],
        roots=[Path()],
        source=np.zeros(len(table), np.int64),
        label=np.full(len(table), -1, np.int8),
        num_frames=table["num_frames"].fillna(0).to_numpy(np.int64),
        main_track=np.array([-1 if v is None else v for v in arrow["main_track"].to_pylist()], np.int64),
        names=["predict"],
        weights=[None],
        faces=[faces],
    )
