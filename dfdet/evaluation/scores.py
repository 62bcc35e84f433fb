"""Rows of scores in, a score file out, and back: the one thing that evaluation reads.

One row a scored clip or frame, and rows without a logit for what could not be scored, with the reason as status, so
that evaluation joins nothing. Parquet with schema name, version and how the scores came about in the metadata; sorted,
and without dates, so that two runs over the same videos are equal byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dfdet import console, files
from dfdet.errors import UserError

SCHEMA = "dfdet.scores"
VERSION = 1
OK = "ok"
NOT_FINITE = "not finite"
VIDEO = ["corpus", "video_id"]
ROW = [*VIDEO, "track", "clip", "frame"]

COLUMNS: dict[str, pa.DataType] = {
    "video_id": pa.string(),
    "corpus": pa.string(),
    "track": pa.int16(),
    "clip": pa.int32(),
    "frame": pa.int32(),  # of the clip's first frame
    "num_frames": pa.int32(),  # of the clip
    "label": pa.int8(),  # 0 real, 1 fake; null where nobody knows
    "split": pa.string(),
    "method": pa.string(),
    "compression": pa.string(),
    "group": pa.string(),  # what a bootstrap draws whole
    "logit": pa.float64(),  # null: not scored
    "status": pa.string(),  # ok, or why there is no logit
    "static": pa.bool_(),  # the track is a poster; null: not known
}
_REQUIRED = ("video_id", "corpus", "label", "logit", "status")
_OF_A_VIDEO = ("label", "method", "compression", "split", "group")
_PANDAS = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}


@dataclass
class Scores:
    """Scores in memory, checked and sorted.

    Attributes:
        table: One row a scored clip or frame and a row for what was not scored; columns :data:`COLUMNS`, then others.
        meta: ``run``, ``checkpoint``, ``thresholds`` (by level), ``manifest`` (its hash), ``stamps`` and any others.
    """

    table: pd.DataFrame
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def thresholds(self) -> dict[str, float]:
        """The run's validation thresholds by level (``frame``, ``video``), logits; empty where it has none."""
        return dict(self.meta.get("thresholds") or {})

    @property
    def stamps(self) -> list[str]:
        """What a reader must know beside the numbers: ``target used for selection``, ``indexed otherwise``."""
        return list(self.meta.get("stamps") or [])


def as_scores(table: pd.DataFrame, meta: Mapping[str, Any] | None = None) -> Scores:
    """Scores as :func:`read_scores` would give them back, without a file.

    Args:
        table: At least ``video_id``, ``corpus``, ``label``, ``logit`` and ``status``; other columns of :data:`COLUMNS`
            are null where absent. A row with status ``ok`` whose logit is not finite becomes one without a logit, its
            status says so, and one warning names it.
        meta: See :class:`Scores`.

    Raises:
        UserError: If a required column is absent, a value is not one of ours, a row stands there twice, or one video
            has two labels, methods, compressions, splits or groups.
    """
    return _scores(_arrow(table), dict(meta or {}), "the table of scores")


def write_scores(path: str | Path, table: pd.DataFrame, meta: Mapping[str, Any]) -> Scores:
    """Writes a score file, whole or not at all, sorted by corpus, video, track, clip and frame.

    Args:
        path: ``runs/<experiment>/<name>/scores/<corpus>-<split>.parquet``.
        table: As for :func:`as_scores`.
        meta: As for :class:`Scores`; plain data that JSON can hold.

    Returns:
        What was written.

    Raises:
        UserError: As :func:`as_scores`; nothing is written then.
    """
    arrow = _arrow(table)
    scores = _scores(arrow, dict(meta), str(path))
    document = json.dumps({**meta, "schema": SCHEMA, "version": VERSION}, sort_keys=True, allow_nan=False)
    with files.replacing(path) as draft:
        stamped = arrow.replace_schema_metadata({"dfdet": document})
        pq.write_table(stamped, draft, compression="zstd", write_page_checksum=True)
    return scores


def read_scores(path: str | Path) -> Scores:
    """Reads and checks a score file.

    Raises:
        UserError: If it is absent, torn, no score file, of another version, or holds what :func:`as_scores` refuses.
    """
    path = Path(path)
    remedy = "make it with `dfdet test`"
    if not path.is_file():
        raise UserError(f"{path} does not exist", remedy)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
            meta = _meta(parquet.schema_arrow.metadata)
            _check_version(path, meta, remedy)
            arrow = parquet.read()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is no Parquet file or is damaged ({str(error).splitlines()[0]})", remedy) from error
    lacking = [c for c in COLUMNS if c not in arrow.schema.names]
    if lacking:
        raise UserError(f"{path} lacks the column {lacking[0]!r}", remedy)
    return _scores(arrow, {k: v for k, v in meta.items() if k not in ("schema", "version")}, str(path))


def _meta(raw: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    try:
        meta = json.loads((raw or {}).get(b"dfdet", b"{}"))
    except ValueError:
        return {}
    return meta if isinstance(meta, dict) else {}


def _check_version(path: Path, meta: Mapping[str, Any], remedy: str) -> None:
    name, version = meta.get("schema"), meta.get("version")
    if name != SCHEMA:
        raise UserError(f"{path} is not a {SCHEMA} table (it says {name!r})", remedy)
    if version != VERSION:
        raise UserError(f"{path} has version {version} of {SCHEMA}; this dfdet reads version {VERSION}", remedy)


def _arrow(table: pd.DataFrame) -> pa.Table:
    """The table in our types and order of columns, others behind by name, sorted."""
    for column in _REQUIRED:
        if column not in table:
            raise UserError(f"the table of scores lacks the column {column!r}")
    table = _without_infinities(table)
    nothing = pd.Series([None] * len(table), dtype=object)
    arrays = {name: _column(table.get(name, nothing), name, kind) for name, kind in COLUMNS.items()}
    for name in sorted(c for c in table.columns if c not in COLUMNS):
        arrays[name] = _column(table[name], name, None)
    keys = [(column, "ascending") for column in (*ROW, "status")]
    return pa.table(arrays).sort_by(keys).combine_chunks()


def _column(values: pd.Series, name: str, kind: pa.DataType | None) -> pa.Array:
    try:
        return pa.array(values, type=kind, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(f"column {name!r} of the scores does not hold {kind or 'one type'}: {error}") from error


def _without_infinities(table: pd.DataFrame) -> pd.DataFrame:
    try:
        logits = table["logit"].astype("Float64").to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise UserError(f"column 'logit' of the scores does not hold numbers: {error}") from error
    wrong = table["status"].eq(OK).fillna(False).to_numpy(bool) & ~np.isfinite(logits)
    if not wrong.any():
        return table
    names = table.loc[wrong, "video_id"]
    many, first = f"{len(names)} scores of {names.nunique()} videos", names.iloc[0]
    console.warn(f"{many} are not finite (first: {first}); they count as not scored")
    return table.assign(logit=np.where(wrong, np.nan, logits), status=table["status"].mask(wrong, NOT_FINITE))


def _scores(arrow: pa.Table, meta: dict[str, Any], where: str) -> Scores:
    table: pd.DataFrame = arrow.to_pandas(types_mapper=_PANDAS.get)
    _check_values(table, where)
    _check_videos(table, where)
    return Scores(table, meta)


def _check_values(table: pd.DataFrame, where: str) -> None:
    for column in (*VIDEO, "status"):
        if table[column].isna().any():
            raise UserError(f"{where}: column {column!r} is empty in {int(table[column].isna().sum())} rows")
    scored = table["status"] == OK
    finite = np.isfinite(table["logit"])
    for wrong, what in (
        (~table["label"].fillna(0).isin([0, 1]), "a label that is neither 0 nor 1"),
        (scored & ~finite, "status ok and no finite logit"),
        (~scored & table["logit"].notna(), "a logit, and a status that is not ok"),
        (
            scored & table[scored].duplicated(ROW).reindex(table.index, fill_value=False),
            "a row that stands there twice",
        ),
    ):
        if wrong.any():
            raise UserError(f"{where}: {table.loc[wrong, 'video_id'].iloc[0]} has {what}")


def _check_videos(table: pd.DataFrame, where: str) -> None:
    for column in _OF_A_VIDEO:
        values = table[[*VIDEO, column]].dropna(subset=[column]).drop_duplicates()
        twice = values.duplicated(VIDEO)
        if twice.any():
            video = values.loc[twice, "video_id"].iloc[0]
            found = sorted(values.loc[values["video_id"] == video, column].astype(str).unique())
            hint = "a video_id must stand for one video of its corpus"
            raise UserError(f"{where}: video {video} has more than one {column} ({', '.join(found)})", hint)
