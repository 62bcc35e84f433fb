"""A corpus in, manifest and tracks out; resumes after a kill."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from dfdet import console, manifest
from dfdet.corpora import Reading
from dfdet.errors import UserError
from dfdet.faces.detector import DetectorSettings
from dfdet.indexing import pool
from dfdet.indexing.examine import Task, size_of
from dfdet.indexing.journal import Journal
from dfdet.manifest import Manifest


def build(
    reading: Reading,
    root: Path,
    out: Path,
    *,
    corpus: str,
    options: Mapping[str, Any],
    detector: DetectorSettings | None,
    workers: int,
    overwrite: bool = False,
) -> Manifest:
    """Indexes what a corpus reader has found.

    Args:
        reading: Rows of the corpus (``dfdet.corpora``).
        root: What their paths are relative to.
        out: ``x.parquet``; the tracks lie beside it.
        corpus: Name of the corpus, for the metadata.
        options: The reader's options, for the metadata.
        detector: The face detector; None: every image is a crop already.
        workers: Processes, at least one.
        overwrite: Replace a manifest that is there.

    Raises:
        UserError: If the manifest is there already, or a journal of other settings is.
    """
    check_out(out, overwrite)
    faces = detector.identity() if detector is not None else {"name": "cropped"}
    given = {k: str(v) if isinstance(v, Path) else v for k, v in options.items()}
    meta = {"corpus": corpus, "root": str(root.resolve()), "options": given, "faces": faces}
    journal = Journal(out.with_name(f".{out.name}.journal"), meta)
    try:
        _drop_drafts(out)
        with console.interruptible(f"what is finished is kept in {journal.path}: run the same command again to go on"):
            _examine_all(_tasks(reading.table, root, detector, journal), workers, journal)
            written = manifest.write(out, *tables(reading.table, journal.records), meta)
    except BaseException:
        journal.close()
        raise
    journal.remove()
    return written


def _drop_drafts(out: Path) -> None:
    """Removes what a kill in the midst of writing the tables left; the journal sees to it that nobody else writes."""
    for path in (out, manifest.tracks_path(out)):
        for draft in path.parent.glob(f".{glob.escape(path.name)}.tmp-*"):
            draft.unlink()


def check_out(out: Path, overwrite: bool) -> None:
    """Whether a manifest may be written there.

    Raises:
        UserError: If it is no .parquet file, or one is there already.
    """
    if out.suffix != ".parquet":
        raise UserError(f"--out {out} is no .parquet file", f"give --out {out.with_suffix('.parquet')}")
    if out.exists() and not overwrite:
        raise UserError(f"{out} is there already", "give another --out, or --overwrite")


def _tasks(table: pd.DataFrame, root: Path, detector: DetectorSettings | None, journal: Journal) -> list[Task]:
    """The files that no earlier run has finished; what it finished and is gone or changed since is forgotten."""
    tasks, finished = [], 0
    for key in _present(table):
        path = root / key
        size = size_of(path)
        known = journal.records.get(key)
        if size is not None and known is not None and known["row"].get("size") == size:
            finished += 1
            continue
        journal.records.pop(key, None)
        if size is not None:
            tasks.append(Task(path, key, detector))
    if finished:
        console.say(f"{finished} files were finished by an earlier run")
    return tasks


def _examine_all(tasks: list[Task], workers: int, journal: Journal) -> None:
    # closing: Ctrl-C between two records must end the children too
    with closing(pool.run(tasks, workers)) as found, console.Progress("indexing", len(tasks)) as bar:
        for task, record in found:
            journal.add(task.key, record)
            bar.advance()


def _present(table: pd.DataFrame) -> list[str]:
    """Paths of the rows that the corpus reader itself has not ruled out."""
    if "status" not in table:
        return [str(p) for p in table["path"]]
    return [str(p) for p in table.loc[table["status"].isna() | (table["status"] == "ok"), "path"]]


def tables(table: pd.DataFrame, records: Mapping[str, Mapping[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the corpus with what was found of each file, and all detections; both sorted by path."""
    rows, parts = [], []
    for listed in table.sort_values("path").to_dict("records"):
        given: dict[str, Any] = {str(k): v for k, v in listed.items()}
        record = records.get(given["path"])
        if record is None:
            gone = {"status": "missing", "reason": "the file is not there"}
            rows.append(given | {k: v for k, v in gone.items() if not isinstance(given.get(k), str)})
            continue
        rows.append(given | record["row"])
        if record["tracks"]:
            parts.append(pd.DataFrame(record["tracks"]).assign(video_id=given["video_id"]))
    empty = pd.DataFrame(columns=list(manifest.TRACKS_COLUMNS))
    return pd.DataFrame(rows), pd.concat(parts, ignore_index=True) if parts else empty
