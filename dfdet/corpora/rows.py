"""Rows as a corpus' reader finds them -> its table: walking a folder, identifiers, checks.

A reader sets what it knows; :func:`finish` fills the rest, so that a reader holds its released layout and no more.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa

from dfdet.corpora.groups import set_groups
from dfdet.errors import UserError
from dfdet.manifest import CORPUS_COLUMNS, SPLITS

VIDEO_EXTENSIONS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

Row = dict[str, Any]
_INTEGERS = {pa.int8(): pd.Int8Dtype(), pa.int16(): pd.Int16Dtype()}


@dataclass
class Reading:
    """What a reader has found.

    Attributes:
        table: One row a video, sorted by path: all of :data:`dfdet.manifest.CORPUS_COLUMNS`, ``status`` and
            ``reason`` (null: to be seen when it is decoded), then the corpus' own columns. Text is str or None.
        notes: Sentences for the user.
        skipped: Why files were passed over -> how many.
        missing: Files that a list of the corpus names and that are not there.
        root: What ``path`` is relative to.
    """

    table: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    missing: int = 0
    root: Path | None = None


def kind_of(path: str) -> str | None:
    """``video`` or ``image`` by the extension, in either case; None for any other file."""
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in VIDEO_EXTENSIONS:
        return "video"
    return "image" if suffix in IMAGE_EXTENSIONS else None


def walk(root: Path) -> tuple[list[str], Counter[str]]:
    """All videos and images below a folder, links followed.

    Args:
        root: The folder.

    Returns:
        POSIX paths relative to ``root``, sorted; and why other files were passed over -> how many.

    Raises:
        UserError: If ``root`` is no folder.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder", "give the folder that holds the corpus")
    found: list[str] = []
    skipped: Counter[str] = Counter()
    seen: set[str] = set()

    def unreadable(_: OSError) -> None:
        skipped["folder that cannot be listed"] += 1

    for folder, folders, names in os.walk(root, followlinks=True, onerror=unreadable):
        # a link to a folder above would be walked for ever
        here = os.path.realpath(folder)
        if here in seen:
            folders.clear()
            continue
        seen.add(here)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            reason = _reason_to_skip(name)
            if reason:
                skipped[reason] += 1
            else:
                found.append(Path(folder, name).relative_to(root).as_posix())
    return sorted(found), skipped


def _reason_to_skip(name: str) -> str:
    if name.startswith("."):
        return "hidden"
    if kind_of(name) is None:
        return "neither video nor image"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "name is not UTF-8"
    return ""


def without_extension(path: str) -> str:
    """``a/b.c.mp4`` -> ``a/b.c``."""
    return str(PurePosixPath(path).with_suffix(""))


def finish(
    rows: Iterable[Mapping[str, Any]],
    corpus: str,
    root: Path,
    *,
    notes: Sequence[str] = (),
    skipped: Mapping[str, int] | None = None,
    missing: int = 0,
    content_of: Callable[[str], str] | None = None,
) -> Reading:
    """Fills what the reader left open, checks, sorts.

    ``video_id`` is the path without extension, ``content_id`` the video_id, ``kind`` as the extension says,
    ``method`` "real" or "fake" by the label, ``group`` the connected component of rows that share content,
    original, identity or origin (originals that are absent count); a group that is given stays.

    Args:
        rows: Dicts with at least ``path`` and ``label``.
        corpus: The name of the corpus, where a row has none of its own.
        root: What the paths are relative to.
        notes: Passed on.
        skipped: Passed on.
        missing: Passed on.
        content_of: video_id of an original that is absent -> its content_id.

    Raises:
        UserError: If a path or a video_id stands twice, or a label or split is none of ours.
    """
    full = [_filled(row, corpus) for row in rows]
    full.sort(key=lambda row: row["path"])
    _check(full, corpus)
    set_groups(full, content_of or str)
    columns = list(dict.fromkeys([*CORPUS_COLUMNS, "status", "reason", *(name for row in full for name in row)]))
    table = pd.DataFrame({c: _series([row.get(c) for row in full], c) for c in columns})
    counts = {reason: int(count) for reason, count in sorted((skipped or {}).items()) if count}
    return Reading(table, list(notes), counts, missing, root)


def _filled(row: Mapping[str, Any], corpus: str) -> Row:
    full: Row = {name: None if _is_null(value) else value for name, value in row.items()}
    if not isinstance(full.get("path"), str):
        raise UserError(f"{corpus}: a row without a path: {dict(row)}", "give every row a path")

    def default(column: str, value: Any) -> None:
        if full.get(column) is None:
            full[column] = value

    default("corpus", corpus)
    default("video_id", without_extension(full["path"]))
    default("content_id", full["video_id"])
    default("kind", kind_of(full["path"]) or "video")
    default("method", {0: "real", 1: "fake"}.get(full.get("label", -1)))
    return full


def _is_null(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def _series(values: list[Any], column: str) -> pd.Series:
    if column in CORPUS_COLUMNS or column in ("status", "reason"):
        return pd.Series(values, dtype=_INTEGERS.get(CORPUS_COLUMNS.get(column), object))
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int}:
        return pd.Series(values, dtype=pd.Int64Dtype())
    if kinds and kinds <= {int, float}:
        return pd.Series(values, dtype=float)
    if kinds == {bool}:
        return pd.Series(values, dtype=pd.BooleanDtype())
    # a column of a file has one type: what is neither number nor text, or a mixture, becomes text
    texts = [v if v is None or isinstance(v, str) else json.dumps(v, default=str, sort_keys=True) for v in values]
    return pd.Series(texts, dtype=object)


def _check(rows: list[Row], corpus: str) -> None:
    paths: set[str] = set()
    names: dict[tuple[str, str], str] = {}
    for row in rows:
        path, name = row["path"], (row["corpus"], row["video_id"])
        if path in paths:
            raise UserError(f"{corpus}: path {path!r} stands twice", "keep one row of it")
        if name in names:
            raise UserError(
                f"{corpus}: video_id {name[1]!r} stands twice: {names[name]} and {path}",
                "move or rename one of the files, or list them with a video_id each (corpus csv)",
            )
        if row.get("label") not in (0, 1, None):
            raise UserError(f"{corpus}: {path} has label {row['label']!r}", "0 is real, 1 is fake")
        if row.get("split") not in (*SPLITS, None):
            raise UserError(f"{corpus}: {path} has split {row['split']!r}", "write train, val, test, or nothing")
        paths.add(path)
        names[name] = path
