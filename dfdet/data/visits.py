"""A visit's request in, its clips out: one pass through a file, every wanted frame decoded once and cropped at once.

This runs in the loader's workers. What fails is a clip of weight 0 with its reason; nobody takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from dfdet import seeds
from dfdet.data import clips as clip_choice
from dfdet.data.augment import Augment
from dfdet.data.batch import ClipSample
from dfdet.data.clips import ClipSpec, Run
from dfdet.data.crop import CropPlan, CropSpec, apply, plan
from dfdet.data.sources import MEDIA, Items
from dfdet.faces.dense import DenseTrack, dense
from dfdet.video import Media, ReadError, open_reader
from dfdet.video.readers import Choice


@dataclass(frozen=True)
class TrainVisit:
    """One visit of training: its items (two: a fake and its real), its name in the epoch, the clips wanted of it."""

    items: tuple[int, ...]
    number: int
    epoch: int
    clips: tuple[int, ...]


@dataclass(frozen=True)
class EvalVisit:
    """One visit of evaluation: (track, clip number, frames) for each clip of one item."""

    item: int
    clips: tuple[tuple[int, int, tuple[int, ...]], ...]


@dataclass(frozen=True)
class _Wanted:
    """One clip to make: its frames, its crop, and the random key of its augmentation (None: none)."""

    item: int
    track: int
    clip: int
    frames: np.ndarray
    crop: CropPlan
    key: int | None


def tracks_of(items: Items, item: int, num_frames: int) -> dict[int, DenseTrack]:
    """The dense tracks of one item by number."""
    tracker = items.faces[int(items.source[item])].get("tracker") or {}
    gap = int(tracker.get("max_gap", 10))
    return {t: dense(rows, num_frames, max_gap=gap) for t, rows in items.tracks_of(item).items()}


def usable_runs(track: DenseTrack, media: Media) -> list[Run]:
    """The frames of a track that may be used: a box near enough, and decoded without an error."""
    runs = clip_choice.runs_of(track.usable, track.start)
    return clip_choice.intersect(runs, media.usable_runs())


class VisitMaker:
    """Makes the clips of visits; holds no open file, so it may be forked or pickled.

    Args:
        items: The videos.
        clip: The shape of a clip.
        crop: How a face is cropped.
        augment: What is drawn upon training clips.
        seed: The run's seed.
        clips_per_visit: Clips that a training visit yields.
        reader: ``auto`` obeys the index; ``decord`` or ``pyav`` insist.
    """

    def __init__(
        self,
        items: Items,
        clip: ClipSpec,
        crop: CropSpec,
        augment: Augment,
        *,
        seed: int,
        clips_per_visit: int = 1,
        reader: Choice = "auto",
    ) -> None:
        self.items, self.clip, self.crop, self.augment = items, clip, crop, augment
        self.seed, self.clips_per_visit, self.reader = seed, clips_per_visit, reader

    def __call__(self, visit: TrainVisit | EvalVisit) -> list[ClipSample]:
        """The clips of a visit; for a pair (fake, real) of the first clip, then (fake, real) of the second."""
        if isinstance(visit, EvalVisit):
            names = [(track, clip) for track, clip, _ in visit.clips]
            return self._guarded(visit.item, names, lambda: self._evaluation(visit))
        made = [self._train(visit, item) for item in visit.items]
        return [sample for together in zip(*made, strict=True) for sample in together]

    def _train(self, visit: TrainVisit, item: int) -> list[ClipSample]:
        names = [(int(self.items.main_track[item]), clip) for clip in visit.clips]
        return self._guarded(item, names, lambda: self._training(visit, item))

    def _guarded(
        self, item: int, names: Sequence[tuple[int, int]], make: Callable[[], list[_Wanted]]
    ) -> list[ClipSample]:
        try:
            return self._read(item, make())
        except (ReadError, OSError, cv2.error) as error:
            reason = error.reason if isinstance(error, ReadError) else " ".join(str(error).split())
            return [self._blank(item, *name, f"{self.items.path(item)}: {reason}") for name in names]

    def _media(self, item: int) -> Media:
        return Media.from_row(self.items.row(item, MEDIA))

    def _training(self, visit: TrainVisit, item: int) -> list[_Wanted]:
        media = self._media(item)
        number = int(self.items.main_track[item])
        track, runs = self._track_and_runs(visit, item, number, media)
        rng = seeds.generator(self.seed, visit.epoch, f"visit{visit.number}", "frames")
        chosen = clip_choice.draw(self.clip, runs, media.keyframes, self.clips_per_visit, rng)
        wanted = []
        for clip in visit.clips:
            name = f"visit{visit.number}:clip{clip}"
            window = seeds.generator(self.seed, visit.epoch, name, "window").random(2)
            crop = self._plan(item, track, chosen[clip], media, (float(window[0]), float(window[1])))
            key = seeds.key(self.seed, visit.epoch, name, "augment")
            wanted.append(_Wanted(item, number, clip, chosen[clip], crop, key))
        return wanted

    def _track_and_runs(self, visit: TrainVisit, item: int, number: int, media: Media) -> tuple[DenseTrack, list[Run]]:
        """The track to follow and where; of a pair of equal size, both look at the same frames with the same box."""
        own = tracks_of(self.items, item, media.num_frames)[number]
        runs = usable_runs(own, media)
        if len(visit.items) == 1:
            return own, runs
        fake, real = visit.items
        other = real if item == fake else fake
        theirs = self._media(other)
        if (theirs.width, theirs.height) != (media.width, media.height):
            return own, runs
        track = tracks_of(self.items, other, theirs.num_frames)[int(self.items.main_track[other])]
        common = clip_choice.intersect(runs, usable_runs(track, theirs)) or runs
        same_length = theirs.num_frames == media.num_frames
        return (track if item == fake and same_length and common is not runs else own), common

    def _evaluation(self, visit: EvalVisit) -> list[_Wanted]:
        media = self._media(visit.item)
        tracks = tracks_of(self.items, visit.item, media.num_frames)
        wanted = []
        for number, clip, chosen in visit.clips:
            frames = np.array(chosen)
            crop = self._plan(visit.item, tracks[number], frames, media, (0.5, 0.5))
            wanted.append(_Wanted(visit.item, number, clip, frames, crop, None))
        return wanted

    def _plan(
        self, item: int, track: DenseTrack, frames: np.ndarray, media: Media, window: tuple[float, float]
    ) -> CropPlan:
        where = frames - track.start
        points = None if track.points is None else track.points[where]
        boxes = track.cx[where], track.cy[where], track.h[where]
        return plan(self._crop_of(item), *boxes, points, media.width or 0, media.height or 0, window)

    def _crop_of(self, item: int) -> CropSpec:
        """The crop rule; an image that is a face crop already (``--cropped``) is taken as it is."""
        if self.items.faces[int(self.items.source[item])].get("name") != "cropped":
            return self.crop
        return replace(self.crop, scale=1.0, shift_y=0.0, align="none")

    def _read(self, item: int, wanted: list[_Wanted]) -> list[ClipSample]:
        """Decodes every wanted frame once and cuts each clip's crop out of it."""
        media = self._media(item)
        path = self.items.path(item)
        size = self.items.table["size"][item].as_py() if "size" in self.items.table.schema.names else None
        if size is not None and path.stat().st_size != size:
            now = path.stat().st_size
            raise ReadError(path, f"it has changed since it was indexed ({size} bytes then, {now} now)")
        S, T = self.crop.size, self.clip.frames
        crops = [np.zeros((T, S, S, 3), np.uint8) for _ in wanted]
        places: dict[int, list[tuple[int, int]]] = {}
        for c, clip in enumerate(wanted):
            for t, frame in enumerate(clip.frames.tolist()):
                places.setdefault(frame, []).append((c, t))
        for frame, image in open_reader(self.reader, media).frames(path, sorted(places), media):
            for c, t in places[frame]:
                crops[c][t] = apply(wanted[c].crop, t, image)
        return [self._sample(clip, crop) for clip, crop in zip(wanted, crops, strict=True)]

    def _sample(self, clip: _Wanted, crop: np.ndarray) -> ClipSample:
        n, T = len(clip.frames), self.clip.frames
        images = crop[:n]
        if clip.key is not None:
            images = self.augment(images, clip.key)
        # a track shorter than T repeats its last frame, masked
        whole = np.concatenate([images, np.repeat(images[-1:], T - n, 0)]) if n < T else images
        frames = np.concatenate([clip.frames, np.full(T - n, clip.frames[-1])])
        return ClipSample(
            video=torch.from_numpy(np.ascontiguousarray(whole.transpose(0, 3, 1, 2))),
            mask=torch.arange(T) < n,
            frames=torch.from_numpy(frames.astype(np.int64)),
            item=clip.item,
            track=clip.track,
            clip=clip.clip,
            label=int(self.items.label[clip.item]),
            pad=float(clip.crop.pad),
        )

    def _blank(self, item: int, track: int, clip: int, error: str) -> ClipSample:
        S, T = self.crop.size, self.clip.frames
        return ClipSample(
            video=torch.zeros(T, 3, S, S, dtype=torch.uint8),
            mask=torch.zeros(T, dtype=torch.bool),
            frames=torch.zeros(T, dtype=torch.int64),
            item=item,
            track=track,
            clip=clip,
            label=int(self.items.label[item]),
            weight=0.0,
            error=error,
        )
