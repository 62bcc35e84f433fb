"""Manifests in, one list of items out: what may be trained on or scored, as arrow columns that workers share.

A Python list of row objects would be copied page by page into every worker by reference counting; arrow and numpy
buffers are not (practice of pytorch/pytorch#13246).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from dfdet import manifest
from dfdet.errors import UserError

MEDIA = [*manifest.MEDIA_COLUMNS, "kind", "status", "reason"]


@dataclass
class Source:
    """One manifest to draw from.

    Attributes:
        manifest: ``x.parquet`` as ``dfdet index`` wrote it.
        weight: Share of an epoch's visits, relative to the other sources; None: its number of videos.
        where: A filter on manifest columns in pandas' query form: ``method in ["real", "Deepfakes"]``.
        root: Where the files lie now, if not where they lay when indexed.
        split: The split to use instead of the stage's own; ``all`` takes every row.
    """

    manifest: str
    weight: float | None = None
    where: str | None = None
    root: str | None = None
    split: Literal["train", "val", "test", "all"] | None = None


@dataclass
class Items:
    """The videos of one stage.

    Attributes:
        table: One row a video (manifest columns), arrow.
        tracks: The tracks of each source.
        roots: The root of each source.
        source: int (N,), which source an item is of.
        label: int8 (N,), 0 real, 1 fake, -1 unknown.
        main_track: int (N,), -1 where no face was found.
        num_frames: int (N,), frames that decode.
        names: Manifest paths, one a source.
        weights: Given weight of each source, None where not given.
        faces: Detector settings of each source.
    """

    table: pa.Table
    tracks: list[manifest.Tracks]
    roots: list[Path]
    source: np.ndarray
    label: np.ndarray
    main_track: np.ndarray
    num_frames: np.ndarray
    names: list[str]
    weights: list[float | None]
    faces: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.label)

    def row(self, item: int, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """One item as a dict of plain values."""
        table = (
            self.table if columns is None else self.table.select([c for c in columns if c in self.table.schema.names])
        )
        return dict(table.slice(item, 1).to_pylist()[0])

    def path(self, item: int) -> Path:
        """Where the file of an item lies."""
        return self.roots[int(self.source[item])] / self.table["path"][item].as_py()

    def sha256(self, item: int) -> str | None:
        """The hash of an item's file when it was indexed; None where the manifest has none."""
        return self._value("sha256", item)

    def file_size(self, item: int) -> int | None:
        """Bytes of an item's file when it was indexed; None where the manifest does not say."""
        return self._value("size", item)

    def _value(self, column: str, item: int) -> Any:
        return self.table[column][item].as_py() if column in self.table.schema.names else None

    def tracks_of(self, item: int) -> dict[int, dict[str, np.ndarray]]:
        """The detections of one item by track."""
        rows = self.tracks[int(self.source[item])].of(self.table["video_id"][item].as_py())
        return {int(t): {k: v[rows["track"] == t] for k, v in rows.items()} for t in np.unique(rows["track"])}

    def take(self, keep: np.ndarray) -> Items:
        """The items where ``keep`` (bool (N,)) is true."""
        index = np.flatnonzero(keep)
        return Items(
            self.table.take(pa.array(index)), self.tracks, self.roots, self.source[index], self.label[index],
            self.main_track[index], self.num_frames[index], self.names, self.weights, self.faces,
        )  # fmt: skip

    @property
    def trainable(self) -> np.ndarray:
        """Bool (N,): labelled, readable, with a face to follow."""
        status = np.isin(_strings(self.table, "status"), manifest.USABLE)
        return np.asarray(status & (self.main_track >= 0) & (self.label >= 0))

    @property
    def readable(self) -> np.ndarray:
        """Bool (N,): can be scored: it decodes and has at least one track."""
        return np.asarray(np.isin(_strings(self.table, "status"), manifest.USABLE) & (self.main_track >= 0))


def _strings(table: pa.Table, column: str) -> np.ndarray:
    return np.array([v or "" for v in table[column].to_pylist()])


def as_sources(given: str | Source | Sequence[str | Source] | None) -> list[Source]:
    """What a configuration may hold -> a list: a path, a source, or several of either."""
    if given is None:
        return []
    several = [given] if isinstance(given, str | Source) else list(given)
    found = [Source(manifest=s) if isinstance(s, str) else s for s in several]
    for source in found:
        if source.weight is not None and not 0 < source.weight < float("inf"):
            raise UserError(f"weight {source.weight} of {source.manifest} is not above 0", "leave the source out")
    return found


def load(sources: Sequence[Source], split: str, whole_if_unsplit: bool) -> Items:
    """Reads manifests and tracks and keeps the rows of one split.

    Args:
        sources: What to read.
        split: ``train``, ``val`` or ``test``; a source's own ``split`` beats it.
        whole_if_unsplit: A corpus without any split stands whole in this split (evaluation; never training).

    Raises:
        UserError: If a manifest or its tracks cannot be used, or a filter cannot be read.
    """
    tables, tracks, roots, which = [], [], [], []
    read: dict[str, tuple[manifest.Manifest, manifest.Tracks]] = {}
    for number, source in enumerate(sources):
        if source.manifest not in read:
            table = manifest.read(source.manifest)
            read[source.manifest] = (table, manifest.read_tracks(table))
        found, faces = read[source.manifest]
        rows = _rows_of(found.table, source, split, whole_if_unsplit)
        tables.append(rows)
        tracks.append(faces)
        roots.append(Path(source.root) if source.root else found.root)
        which.append(np.full(len(rows), number, np.int64))
    frame = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(manifest.MANIFEST_COLUMNS))
    arrow = pa.Table.from_pandas(frame, preserve_index=False).combine_chunks()
    main = frame["main_track"].fillna(-1).to_numpy(np.int64)
    return Items(
        table=arrow,
        tracks=tracks,
        roots=roots,
        source=np.concatenate(which) if which else np.zeros(0, np.int64),
        label=frame["label"].fillna(-1).to_numpy(np.int8),
        main_track=main,
        num_frames=frame["num_frames"].fillna(0).to_numpy(np.int64),
        names=[s.manifest for s in sources],
        weights=[s.weight for s in sources],
        faces=[dict(read[s.manifest][0].meta.get("faces") or {}) for s in sources],
    )


def _rows_of(table: pd.DataFrame, source: Source, split: str, whole_if_unsplit: bool) -> pd.DataFrame:
    wanted = source.split or split
    if wanted != "all" and not (whole_if_unsplit and table["split"].isna().all()):
        table = table[table["split"] == wanted]
    if source.where is None:
        return table
    if "@" in source.where:
        raise UserError(f"where: {source.where!r} holds '@'", "a filter names manifest columns only")
    try:
        keep = table.eval(source.where, engine="python")
    except Exception as error:
        columns = ", ".join(map(str, table.columns))
        raise UserError(f"where: {source.where!r} cannot be read: {error}", f"columns: {columns}") from error
    if not isinstance(keep, pd.Series) or not pd.api.types.is_bool_dtype(keep):
        raise UserError(f"where: {source.where!r} is no yes or no for each video", 'compare: method == "real"')
    # what is unknown is not what was asked for
    return table[keep.fillna(False).astype(bool)]
