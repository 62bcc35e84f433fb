"""A manifest in; the main track of every video, the frames of it that are wanted, and where they go, out."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dfdet.data import clips as clip_choice
from dfdet.data import sources
from dfdet.data.clips import ClipSpec
from dfdet.data.sources import MEDIA, Items, Source
from dfdet.data.wanted import EvalVisit, tracks_of, usable_runs
from dfdet.errors import UserError
from dfdet.video import Media

COLUMNS = ("video_id", "corpus", "method", "compression", "split", "group", "status", "reason", "face_status")
NO_FACE = "no face was found"
LONGEST = 120  # characters of a name; file systems allow 255 bytes


@dataclass
class Picked:
    """One video of an export.

    Attributes:
        item: Its number among the items.
        row: :data:`COLUMNS` of its manifest row.
        label: 0 real, 1 fake, -1 unknown.
        track: Its main track, -1 where it has none.
        frames: Frame numbers that are wanted, rising; empty where ``reason`` says why.
        reason: Why nothing of it can be exported, or could be.
    """

    item: int
    row: dict[str, Any]
    label: int
    track: int
    frames: tuple[int, ...] = ()
    reason: str | None = None

    @property
    def visit(self) -> EvalVisit:
        """What the data module is asked for: all frames as one clip, so that one rule cuts them all."""
        return EvalVisit(self.item, ((self.track, 0, self.frames),))


def pick(manifest: str, split: str, frames: int | None, spread: bool) -> tuple[Items, list[Picked]]:
    """The videos of a manifest and their frames.

    Args:
        manifest: ``x.parquet``.
        split: ``train``, ``val``, ``test`` or ``all``.
        frames: Frames a video, at most; None: all.
        spread: Evenly over the track, in equal cells; else the first ones.

    Raises:
        UserError: The manifest cannot be read, or holds nothing of that split.
    """
    items = sources.load([Source(manifest, split=split)], split, whole_if_unsplit=False)  # type: ignore[arg-type]
    if len(items) == 0:
        raise UserError(f"{manifest} holds no video of the split {split}", f"dfdet check {manifest} counts them")
    readable = items.readable
    picked = []
    for item in range(len(items)):
        row = items.row(item, COLUMNS)
        one = Picked(item, row, int(items.label[item]), int(items.main_track[item]))
        if readable[item]:
            _choose(items, one, frames, spread)
        else:
            one.reason = str(row.get("reason") or (NO_FACE if row["status"] in ("ok", "partial") else row["status"]))
        picked.append(one)
    return items, picked


def _choose(items: Items, one: Picked, frames: int | None, spread: bool) -> None:
    """Sets the frames of a video, or the reason why it has none."""
    media = Media.from_row(items.row(one.item, MEDIA))
    try:
        track = tracks_of(items, one.item, media.num_frames).get(one.track)
    except ValueError as error:
        one.reason = str(error)
        return
    runs = usable_runs(track, media) if track is not None else []
    if not runs:
        one.reason = f"no frame of track {one.track} can be used"
    elif frames is not None and spread:
        one.frames = tuple(clip_choice.fixed(ClipSpec(frames, "uniform"), runs, 1)[0].tolist())
    else:
        one.frames = tuple(np.concatenate([np.arange(a, b) for a, b in runs])[:frames].tolist())


def names(picked: Sequence[Picked], family: Callable[[Picked], str], *, short: bool) -> list[str]:
    """A file name for each video, no two of one family equal, whatever the case of letters.

    Args:
        picked: The videos.
        family: Those with the same word get different names.
        short: Take the last part of ``a/b/c`` where that is enough to tell videos apart.
    """
    whole = [_plain(p.row["video_id"]) for p in picked]
    first = [_plain(p.row["video_id"].rpartition("/")[2]) for p in picked] if short else whole
    with_corpus = [f"{_plain(p.row['corpus'])}__{name}" for p, name in zip(picked, whole, strict=True)]
    hashed = [_hashed(p, name) for p, name in zip(picked, whole, strict=True)]
    chosen = list(first)
    for candidates in (whole, with_corpus, hashed):
        taken = Counter((family(p), name.casefold()) for p, name in zip(picked, chosen, strict=True))
        for place, p in enumerate(picked):
            name = chosen[place]
            if taken[(family(p), name.casefold())] > 1 or len(name) > LONGEST:
                chosen[place] = candidates[place]
    return chosen


def _hashed(one: Picked, name: str) -> str:
    """What tells videos apart in any case."""
    identity = repr((one.row["corpus"], one.row["video_id"])).encode()
    return f"{name[: LONGEST - 9]}-{hashlib.blake2b(identity, digest_size=4).hexdigest()}"


def _plain(text: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^\w.-]", "_", text.replace("/", "__")).lstrip(".") or "_"
