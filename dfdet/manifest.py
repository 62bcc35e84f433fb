"""The two tables that an index writes: the manifest (a row a video) and its tracks (a row a detected face).

``x.parquet`` holds what a video is, where, its label and split, how it decodes and what faces were found;
``x.faces.parquet`` beside it holds the detections. Both are Parquet with their schema's name and version in the
metadata; unknown columns are kept. Neither holds a date or a timing: two runs over the same files are equal
byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dfdet import files
from dfdet.errors import UserError

VERSION = 1
MANIFEST_SCHEMA = "dfdet.manifest"
TRACKS_SCHEMA = "dfdet.tracks"
SPLITS = ("train", "val", "test")
STATUSES = ("ok", "partial", "unreadable", "missing", "empty", "conflict")
FACE_STATUSES = ("ok", "few", "none")
USABLE = ("ok", "partial")
REQUIRED = ("corpus", "video_id", "path", "kind", "label", "split", "status")

# What a corpus reader gives (dfdet.corpora): identity of the video, label, split, who is seen.
CORPUS_COLUMNS: dict[str, pa.DataType] = {
    "corpus": pa.string(),
    "video_id": pa.string(),
    "content_id": pa.string(),
    "path": pa.string(),  # POSIX, relative to the root in the metadata
    "kind": pa.string(),  # video | image | frames | tar
    "label": pa.int8(),  # 0 real, 1 fake; null for unlabelled test sets
    "audio_label": pa.int8(),
    "method": pa.string(),  # released name; "real" for originals
    "compression": pa.string(),
    "quality": pa.string(),
    "variant": pa.string(),
    "split": pa.string(),  # train | val | test | null
    "identity": pa.string(),
    "source_identity": pa.string(),
    "original": pa.string(),  # video_id of the real video that was edited; may be absent from the manifest
    "origin": pa.string(),
    "group": pa.string(),  # the unit of splitting and of bootstrap draws
    "part": pa.int16(),
    "licence": pa.string(),
}

# What decoding the file once has shown (dfdet.video).
MEDIA_COLUMNS: dict[str, pa.DataType] = {
    "size": pa.int64(),  # bytes
    "sha256": pa.string(),
    "num_frames": pa.int32(),  # frames that really decode
    "frame_runs": pa.list_(pa.int32()),  # [start, stop, start, stop ...) usable frames; null = all
    "fps": pa.float64(),
    "width": pa.int32(),  # pixels of the upright frame
    "height": pa.int32(),
    "rotation": pa.int16(),  # counter-clockwise quarter turns * 90 that make a decoded frame upright
    "codec": pa.string(),
    "pix_fmt": pa.string(),
    "has_audio": pa.bool_(),
    "reader": pa.string(),  # decord | decord0 | pyav | image | none
    "reader_reason": pa.string(),
    "keyframes": pa.list_(pa.int32()),
    "pts_start": pa.int64(),  # presentation time of frame 0, container ticks; null: no usable times
    "pts_step": pa.int64(),  # constant step; null: see pts
    "pts": pa.list_(pa.int64()),  # one a frame where the step is not constant
    "probe_frames": pa.list_(pa.int32()),
    "probe_crcs": pa.list_(pa.int64()),  # zlib.crc32 of the upright RGB frame
}

# What the face detector has found (dfdet.faces).
FACE_COLUMNS: dict[str, pa.DataType] = {
    "face_status": pa.string(),  # ok | few | none
    "coverage": pa.float32(),  # share of the sampled frames with a detection of the main track's kind
    "num_sampled": pa.int32(),
    "num_tracks": pa.int16(),
    "main_track": pa.int16(),
    "face_height": pa.float32(),  # median box height of the main track, pixels
    "face_retry": pa.bool_(),  # found only when looked for once more, larger and less strictly
}

STATUS_COLUMNS: dict[str, pa.DataType] = {"status": pa.string(), "reason": pa.string()}

# integers with nulls stay integers in pandas
_NULLABLE = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
}

MANIFEST_COLUMNS = {**CORPUS_COLUMNS, **MEDIA_COLUMNS, **FACE_COLUMNS, **STATUS_COLUMNS}

# One row a detection. Boxes: the common face box (dfdet.faces), pixels of the decoded upright frame, unexpanded.
TRACKS_COLUMNS: dict[str, pa.DataType] = {
    "video_id": pa.dictionary(pa.int32(), pa.string()),
    "track": pa.int16(),
    "shot": pa.int16(),
    "frame": pa.int32(),
    "score": pa.float32(),
    "x": pa.float32(),
    "y": pa.float32(),
    "w": pa.float32(),
    "h": pa.float32(),
    **{f"k{i}": pa.float32() for i in range(10)},  # five points x, y; null where the detector has none
    "static": pa.bool_(),  # the whole track is a poster or a picture on a wall
}


def schema() -> pa.Schema:
    """The columns of a manifest with their types."""
    return pa.schema(list(MANIFEST_COLUMNS.items()))


@dataclass
class Manifest:
    """A manifest in memory.

    Attributes:
        table: One row a video, columns :data:`MANIFEST_COLUMNS` and any others, sorted by path.
        meta: ``root``, ``corpus``, ``options``, ``faces`` (detector settings), ``tracks_sha256``.
        path: Where it was read from.
        root: The directory that ``path`` values are relative to.
    """

    table: pd.DataFrame
    meta: dict[str, Any]
    path: Path | None
    root: Path

    @property
    def tracks_path(self) -> Path:
        """Where the tracks of this manifest lie."""
        if self.path is None:
            raise ValueError("a manifest that was never written has no tracks file")
        return tracks_path(self.path)


@dataclass
class Tracks:
    """All detections of a manifest, as arrays grouped by video.

    Attributes:
        columns: One numpy array a column of :data:`TRACKS_COLUMNS` but ``video_id``.
        meta: Detector settings, as in the manifest.
    """

    columns: dict[str, np.ndarray]
    meta: dict[str, Any]
    _slices: dict[str, slice]

    def of(self, video_id: str) -> dict[str, np.ndarray]:
        """The detections of one video: arrays of equal length, sorted by track and frame; empty where none."""
        where = self._slices.get(video_id, slice(0, 0))
        return {name: values[where] for name, values in self.columns.items()}


def tracks_path(manifest_path: str | Path) -> Path:
    """``x.parquet`` -> ``x.faces.parquet``."""
    path = Path(manifest_path)
    return path.with_name(f"{path.stem}.faces.parquet")


def _column(values: pd.Series, kind: pa.DataType) -> pa.Array:
    plain = [None if _is_null(v) else (v.tolist() if isinstance(v, np.ndarray) else v) for v in values.tolist()]
    return pa.array(plain, type=kind, from_pandas=True)


def _is_null(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def _arrow(table: pd.DataFrame, columns: Mapping[str, pa.DataType], name: str, meta: Mapping[str, Any]) -> pa.Table:
    arrays, fields = [], []
    for column, kind in columns.items():
        values = table[column] if column in table else pd.Series([None] * len(table), dtype=object)
        try:
            arrays.append(_column(values, kind))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UserError(f"column {column!r} does not hold {kind}: {error}") from error
        fields.append(pa.field(column, kind))
    for column in table.columns:
        if column not in columns:
            arrays.append(pa.array(table[column], from_pandas=True))
            fields.append(pa.field(str(column), arrays[-1].type))
    document = json.dumps({"schema": name, "version": VERSION, **meta}, sort_keys=True)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata={"dfdet": document}))


def write(path: str | Path, table: pd.DataFrame, tracks: pd.DataFrame | None, meta: Mapping[str, Any]) -> Manifest:
    """Writes both tables, whole or not at all; returns the manifest as read back.

    Args:
        path: ``x.parquet``.
        table: One row a video; columns of :data:`MANIFEST_COLUMNS` that are absent are written as null.
        tracks: One row a detection, or None where faces were not looked for.
        meta: At least ``root``.
    """
    path = Path(path)
    meta = dict(meta)
    # both drafts are complete before either takes its name: a full disk leaves the older pair as it was
    with ExitStack() as stack:
        draft = stack.enter_context(files.replacing(path))
        if tracks is not None:
            beside = stack.enter_context(files.replacing(tracks_path(path)))
            _save(_arrow(tracks, TRACKS_COLUMNS, TRACKS_SCHEMA, meta), beside)
            meta["tracks_sha256"] = files.sha256(beside)
        _save(_arrow(table, MANIFEST_COLUMNS, MANIFEST_SCHEMA, meta), draft)
    return read(path)


def _save(table: pa.Table, draft: Path) -> None:
    try:
        pq.write_table(table, draft, compression="zstd")
    except OSError as error:  # Arrow does not say which file the full disk was to hold
        error.filename = str(draft)
        raise


def _open(path: Path, schema: str, remedy: str) -> tuple[pa.Table, dict[str, Any]]:
    if not path.is_file():
        raise UserError(f"{path} does not exist", remedy)
    try:
        table = pq.read_table(path, partitioning=None)  # a folder called split=train is no column
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is no Parquet file ({str(error).splitlines()[0]})", remedy) from error
    raw = (table.schema.metadata or {}).get(b"dfdet")
    meta = json.loads(raw) if raw else {}
    if meta.get("schema") != schema:
        raise UserError(f"{path} is not a {schema} table (it says {meta.get('schema')!r})", remedy)
    if meta.get("version") != VERSION:
        found = meta.get("version")
        raise UserError(f"{path} has version {found} of {schema}; this dfdet reads version {VERSION}", remedy)
    return table, meta


def read(path: str | Path, root: str | Path | None = None) -> Manifest:
    """Reads and checks a manifest.

    Args:
        path: ``x.parquet`` as ``dfdet index`` wrote it.
        root: Where the files lie now, if not where they lay when indexed.

    Raises:
        UserError: If the file is no manifest of this version, a column is missing, or a value is not one of ours.
    """
    path = Path(path)
    arrow, meta = _open(path, MANIFEST_SCHEMA, "make it with `dfdet index`")
    missing = [c for c in REQUIRED if c not in arrow.schema.names]
    if missing:
        raise UserError(f"{path} lacks the column {missing[0]!r}", "make it again with `dfdet index`")
    table = arrow.to_pandas(types_mapper=_NULLABLE.get)
    _check_values(table, path)
    return Manifest(table, meta, path, Path(root) if root is not None else Path(meta.get("root", ".")))


def _check_values(table: pd.DataFrame, path: Path) -> None:
    for column, allowed in (("label", (0, 1)), ("split", SPLITS), ("status", STATUSES)):
        values = table[column].dropna()
        wrong = values[~values.isin(allowed)]
        if len(wrong):
            row = table.loc[wrong.index[0], "path"]
            known = ", ".join(map(str, allowed))
            raise UserError(f"{path}: column {column!r} holds {wrong.tolist()[0]!r} at {row}", f"allowed: {known}")
    twice = table.duplicated(["corpus", "video_id"])
    if twice.any():
        raise UserError(f"{path}: video_id {table.loc[twice, 'video_id'].iloc[0]!r} stands there twice")


def read_tracks(manifest: Manifest) -> Tracks:
    """Reads the tracks of a manifest and checks that they belong to it.

    Raises:
        UserError: If there are none, they have another version, or they were made by another indexing.
    """
    path = manifest.tracks_path
    remedy = f"run `dfdet index` again for {manifest.path}"
    table, meta = _open(path, TRACKS_SCHEMA, remedy)
    if files.sha256(path) != manifest.meta.get("tracks_sha256"):
        raise UserError(f"{path} does not belong to {manifest.path} (the manifest records another table)", remedy)
    return _grouped(table, meta)


def tracks_of(rows: pd.DataFrame, meta: Mapping[str, Any]) -> Tracks:
    """Tracks that were never written, from rows with the columns of the tracks table, grouped by video."""
    return _grouped(_arrow(rows, TRACKS_COLUMNS, TRACKS_SCHEMA, meta), dict(meta))


def _grouped(table: pa.Table, meta: dict[str, Any]) -> Tracks:
    names = table["video_id"].unify_dictionaries().combine_chunks()
    codes = names.indices.to_numpy(zero_copy_only=False) if len(names) else np.zeros(0, np.int32)
    columns = {c: table[c].to_numpy(zero_copy_only=False) for c in TRACKS_COLUMNS if c != "video_id"}
    bounds = np.flatnonzero(np.diff(codes)) + 1
    starts = [0, *bounds.tolist()] if len(codes) else []
    stops = [*bounds.tolist(), len(codes)] if len(codes) else []
    words = names.dictionary.to_pylist() if len(names) else []
    slices = {words[codes[a]]: slice(a, b) for a, b in zip(starts, stops, strict=True)}
    return Tracks(columns, meta, slices)
