"""A manifest in, the data module under test and what each of its visits wants out: the same clips for every rival."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfdet import manifest
from dfdet.data.clips import ClipSpec
from dfdet.data.crop_rule import CropOptions
from dfdet.data.module import Stage, VideoDataModule
from dfdet.data.sources import Source
from dfdet.data.wanted import TrainVisit, Visit, Wanted
from dfdet.errors import UserError
from dfdet.video import Media, Region

PROVEN = ("decord", "decord0")  # verdicts of files that plain readers get right as well


@dataclass(frozen=True)
class Shape:
    """What a bench makes: clips of ``clip_length`` frames of ``size`` pixels, ``clips_per_visit`` from one pass."""

    clip_length: int
    size: int
    clips_per_visit: int
    batch_size: int

    @property
    def clip(self) -> tuple[int, int, int, int]:
        """(T, S, S, 3)."""
        return self.clip_length, self.size, self.size, 3

    @property
    def clip_bytes(self) -> int:
        """Bytes of one clip's pixels."""
        return int(np.prod(self.clip))


@dataclass(frozen=True)
class Files:
    """Which files of a manifest are measured.

    Attributes:
        manifest: ``x.parquet``.
        root: Where the files lie now, if not where they lay when indexed.
        where: Those that are measured, in pandas' query form.
        measured: How many.
        left_out: Sound files that plain readers get wrong.
        frames: Frames of all sound files of the manifest, for extrapolation.
        proven: Whether decord is exact for those that are measured.
    """

    manifest: Path
    root: Path | None
    where: str
    measured: int
    left_out: int
    frames: int
    proven: bool

    def source(self, more: str = "") -> Source:
        """What the data module reads."""
        where = f"({self.where}) and ({more})" if more else self.where
        return Source(str(self.manifest), where=where, root=str(self.root) if self.root else None, split="all")


def choose(path: Path, root: Path | None, where: str | None) -> Files:
    """The undamaged videos of a manifest that can be trained on; of these, those that plain readers get right.

    Where decord is right for none (it is not installed, say), all are taken, and decord is not measured.

    Raises:
        UserError: If there is none.
    """
    sound = "kind == 'video' and status == 'ok' and main_track >= 0 and label >= 0"
    sound = f"({where}) and {sound}" if where else sound
    table = manifest.read(path).table
    try:
        rows = table.query(sound, engine="python")
    except Exception as error:
        raise UserError(f"--where {where!r} cannot be read: {error}", "name manifest columns only") from error
    if not len(rows):
        raise UserError(f"{path} holds no undamaged video with a face and a label", "dfdet check counts what there is")
    right = rows["reader"].isin(PROVEN)
    frames = int(rows["num_frames"].sum())
    if not right.any():
        return Files(path, root, sound, len(rows), 0, frames, False)
    return Files(
        path, root, f"{sound} and reader in {list(PROVEN)}", int(right.sum()), int((~right).sum()), frames, True
    )


def module(
    files: Files, shape: Shape, *, more: str = "", kind: type[VideoDataModule] = VideoDataModule, **options: Any
) -> VideoDataModule:
    """The data module of these files and clips.

    Args:
        files: The files.
        shape: The clips.
        more: A further filter.
        kind: Its class.
        **options: Other arguments of VideoDataModule.
    """
    return kind(
        train=files.source(more),
        clip=ClipSpec(frames=shape.clip_length),
        crop=CropOptions(size=shape.size),
        balance="none",
        clips_per_visit=shape.clips_per_visit,
        batch_size=shape.batch_size,
        **options,
    )


@dataclass(frozen=True)
class Settings:
    """What ``dfdet bench loader`` measures.

    Attributes:
        files: The files.
        shape: The clips.
        workers: Loader workers; rivals get as many.
        visits: Visits of one timed pass.
        rounds: Timed passes of each.
        memory_clips: Clips after which memory is looked at.
        store: Folder for the bench's crop store; None: a temporary one.
        feed_seconds: How long a GPU is fed, each way.
    """

    files: Files
    shape: Shape
    workers: int
    visits: int
    rounds: int
    memory_clips: int
    store: Path | None = None
    feed_seconds: float = 30.0

    def module(self, augment: str = "flip", **options: Any) -> VideoDataModule:
        """A data module of these settings."""
        own = {"num_workers": self.workers, "epoch_visits": self.visits} | options
        return module(self.files, self.shape, augment=augment, **own)


@dataclass(frozen=True)
class VisitClips:
    """What one visit wants of one file.

    Attributes:
        request: The visit.
        item: Which video.
        path: The file.
        media: What the index says of it.
        clips: The clips.
    """

    request: Visit
    item: int
    path: Path
    media: Media
    clips: list[Wanted]

    def places(self) -> dict[int, list[tuple[int, int]]]:
        """For each wanted frame, ascending, where it goes: (clip, place in the clip)."""
        found: dict[int, list[tuple[int, int]]] = {}
        for c, clip in enumerate(self.clips):
            for t, frame in enumerate(clip.frames.tolist()):
                found.setdefault(frame, []).append((c, t))
        return dict(sorted(found.items()))

    def regions(self) -> dict[int, list[Region]]:
        """For each wanted frame the parts that its crops are made of, in the order of :meth:`places`."""
        return {f: [self.clips[c].crop.region(t) for c, t in uses] for f, uses in self.places().items()}


def visits(data: VideoDataModule, epoch: int = 0) -> list[VisitClips]:
    """What the visits of an epoch want, in order; nothing is decoded."""
    plan = data.plan(epoch)
    maker, items = data.maker("train"), data.items("train")
    found = []
    for v, clips in plan.wanted(0):
        own = tuple(plan.visits[v].tolist())
        request = TrainVisit(own, int(plan.numbers[v]), epoch, tuple(clips), int(plan.laps[v]))
        for item in own:
            wanted = maker.choose.training(request, item)
            found.append(VisitClips(request, item, items.path(item), maker.choose.media(item), wanted))
    return found


def eval_visits(data: VideoDataModule, stage: Stage) -> list[VisitClips]:
    """What the visits of an evaluation want, in order; videos without a usable face are left out."""
    maker, items = data.maker(stage), data.items(stage)
    found = []
    for visit in data.eval_visits(stage):
        if all(frames for _, _, frames in visit.clips):
            wanted, media = maker.choose.evaluation(visit), maker.choose.media(visit.item)
            found.append(VisitClips(visit, visit.item, items.path(visit.item), media, wanted))
    return found
