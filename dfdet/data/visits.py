"""A visit's request in, its clips out: one pass through a file, every wanted frame decoded once and cropped at once.

Who reads (``auto``): decord where the index has proven it right and a visit makes one clip; PyAV's one exact pass
where a visit makes several, which costs a third to a seventh there (reference decode.md §2). Both give the same bits.

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
from dfdet.errors import UserError
from dfdet.faces.dense import DenseTrack, dense
from dfdet.manifest import Tracks
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
    """One visit of evaluation: (track, clip number, frames) for each clip of one item; no frames: none can be used."""

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


def has_landmarks(tracks: Tracks) -> bool:
    """Whether the face detector of these tracks gives points."""
    points = tracks.columns.get("k0")
    return points is not None and bool(np.isfinite(points).any())


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

    Raises:
        UserError: The crop needs landmarks, and the face detector of a source gives none.
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
        for name, tracks in zip(items.names, items.tracks, strict=True):
            if crop.align != "none" and not has_landmarks(tracks):
                raise UserError(
                    f"crop align={crop.align!r} needs landmarks, which the face detector of {name} does not give",
                    "index with the detector yunet, or choose a crop without alignment",
                )

    def __call__(self, visit: TrainVisit | EvalVisit) -> list[ClipSample]:
        """The clips of a visit; for a pair (fake, real) of the first clip, then (fake, real) of the second."""
        if isinstance(visit, EvalVisit):
            names = [(track, clip) for track, clip, _ in visit.clips]
            return self._guarded(visit.item, names, lambda: self._evaluation(visit))
        made = [self._train(visit, item) for item in visit.items]
        return [sample for together in zip(*made, strict=True) for sample in together]

    def blank(self, visit: TrainVisit | EvalVisit, reason: str) -> list[ClipSample]:
        """What stands for the clips of a visit that was never made: weight 0 and the reason."""
        if isinstance(visit, EvalVisit):
            return [self._blank(visit.item, track, clip, reason) for track, clip, _ in visit.clips]
        return [
            self._blank(i, int(self.items.main_track[i]), clip, reason) for clip in visit.clips for i in visit.items
        ]

    def _train(self, visit: TrainVisit, item: int) -> list[ClipSample]:
        names = [(int(self.items.main_track[item]), clip) for clip in visit.clips]
        return self._guarded(item, names, lambda: self._training(visit, item))

    def _guarded(
        self, item: int, names: Sequence[tuple[int, int]], make: Callable[[], list[_Wanted]]
    ) -> list[ClipSample]:
        try:
            return self._read(item, make())
        except (ReadError, OSError, ValueError, cv2.error) as error:
            # ValueError: what crop, dense and numpy say to boxes that are none
            return [self._blank(item, *name, _reason(error)) for name in names]

    def _media(self, item: int) -> Media:
        return Media.from_row(self.items.row(item, MEDIA))

    def _training(self, visit: TrainVisit, item: int) -> list[_Wanted]:
        media = self._media(item)
        number = int(self.items.main_track[item])
        track, runs, keyframes = self._where(visit, item, media)
        if not runs:
            raise ReadError(self.items.path(item), f"no frame of track {number} can be used")
        rng = seeds.generator(self.seed, visit.epoch, f"visit{visit.number}", "frames")
        chosen = clip_choice.draw(self.clip, runs, keyframes, self.clips_per_visit, rng)
        wanted = []
        for clip in visit.clips:
            name = f"visit{visit.number}:clip{clip}"
            window = seeds.generator(self.seed, visit.epoch, name, "window").random(2)
            crop = self._plan(item, track, chosen[clip], media, (float(window[0]), float(window[1])))
            key = seeds.key(self.seed, visit.epoch, name, "augment")
            wanted.append(_Wanted(item, number, clip, chosen[clip], crop, key))
        return wanted

    def _where(self, visit: TrainVisit, item: int, media: Media) -> tuple[DenseTrack, list[Run], Sequence[int]]:
        """The track to follow, its usable runs, and the keyframes.

        Of a pair both take the frames that both have, and the keyframes of the real one, so that one draw gives both
        the same frames; where the two files agree in size and length, the fake is cropped by the track of the real one.
        """
        own = self._main_track(item, media)
        runs = usable_runs(own, media)
        if len(visit.items) == 1:
            return own, runs, media.keyframes
        fake, real = visit.items
        other = real if item == fake else fake
        theirs = self._media(other)
        track = self._main_track(other, theirs)
        common = clip_choice.intersect(runs, usable_runs(track, theirs))
        if not common:
            return own, runs, media.keyframes
        shapes = [(m.width, m.height, m.num_frames) for m in (media, theirs)]
        if item == real:
            return own, common, media.keyframes
        return (track if shapes[0] == shapes[1] else own), common, theirs.keyframes

    def _main_track(self, item: int, media: Media) -> DenseTrack:
        number = int(self.items.main_track[item])
        tracks = tracks_of(self.items, item, media.num_frames)
        if number not in tracks:
            raise ReadError(self.items.path(item), f"the tracks table holds no track {number} of it; index it again")
        return tracks[number]

    def _evaluation(self, visit: EvalVisit) -> list[_Wanted]:
        media = self._media(visit.item)
        tracks = tracks_of(self.items, visit.item, media.num_frames)
        wanted = []
        for number, clip, chosen in visit.clips:
            if not chosen:
                raise ReadError(self.items.path(visit.item), f"no frame of track {number} can be used")
            frames = np.array(chosen)
            crop = self._plan(visit.item, tracks[number], frames, media, (0.5, 0.5))
            wanted.append(_Wanted(visit.item, number, clip, frames, crop, None))
        return wanted

    def _plan(
        self, item: int, track: DenseTrack, frames: np.ndarray, media: Media, window: tuple[float, float]
    ) -> CropPlan:
        where = frames - track.start
        # a track without points among others that have them is cropped by its boxes
        points = np.full((len(where), 5, 2), np.nan) if track.points is None else track.points[where]
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
        several = len(wanted) > 1 and media.reader in ("decord", "decord0")
        choice = "pyav" if several and self.reader == "auto" else self.reader
        for frame, image in open_reader(choice, media).frames(path, sorted(places), media):
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
            mask=np.arange(T) < n,
            frames=frames.astype(np.int64),
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
            mask=np.zeros(T, bool),
            frames=np.zeros(T, np.int64),
            item=item,
            track=track,
            clip=clip,
            label=int(self.items.label[item]),
            weight=0.0,
            error=f"{self.items.path(item)}: {error}",
        )


def _reason(error: Exception) -> str:
    if isinstance(error, ReadError):
        return error.reason
    return " ".join(str(getattr(error, "strerror", None) or error).split())
