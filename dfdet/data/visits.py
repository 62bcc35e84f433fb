"""A visit's request in, its clips out: one pass through a file, every wanted frame decoded once and cropped at once.

Clips that a store holds are read from it, and what is decoded is put into it. This runs in the loader's workers. What
fails is a clip of weight 0 with its reason; nobody takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from dfdet.data.augment import Augment
from dfdet.data.batch import ClipSample
from dfdet.data.clips import ClipSpec
from dfdet.data.crop import apply_region
from dfdet.data.crop_rule import CropSpec
from dfdet.data.keeping import Keeper, Unchanged
from dfdet.data.sources import Items
from dfdet.data.wanted import Chooser, EvalVisit, TrainVisit, Visit, Wanted, clips_in
from dfdet.errors import UserError
from dfdet.manifest import Tracks
from dfdet.store import CropStore
from dfdet.video import ReadError, Region, open_reader
from dfdet.video.readers import Choice

# what a visit may take before it is given up: far above the slowest exact pass (a 1080p frame decodes in 10 to 20 ms)
PATIENCE, PATIENCE_A_FRAME = 30.0, 0.2


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
        clip_pool: Training clips are drawn from that many fixed ones a track; None: from anywhere in it.
        reader: ``auto`` takes the fastest reader that the index has proven right; ``decord`` or ``pyav`` insist.
        store: Where crops are kept, as they are before augmentation.

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
        clip_pool: int | None = None,
        reader: Choice = "auto",
        store: CropStore | None = None,
    ) -> None:
        self.items, self.clip, self.crop, self.augment = items, clip, crop, augment
        self.choose = Chooser(items, clip, crop, seed, clips_per_visit, clip_pool)
        self.reader = reader
        self.unchanged = Unchanged(items)
        self.keeper = None if store is None else Keeper(items, store)
        for name, tracks in zip(items.names, items.tracks, strict=True):
            if crop.align != "none" and not has_landmarks(tracks):
                raise UserError(
                    f"crop align={crop.align!r} needs landmarks, which the face detector of {name} does not give",
                    "index with the detector yunet, or choose a crop without alignment",
                )

    # What a loader asks --------------------------------------------------------------------------------------------

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, S, S, 3) of every clip, uint8."""
        return self.clip.frames, self.crop.size, self.crop.size, 3

    def __call__(self, visit: Visit, out: np.ndarray | None = None) -> list[ClipSample]:
        """The clips of a visit; for a pair (fake, real) of the first clip, then (fake, real) of the second.

        Args:
            visit: The request.
            out: uint8 (clips, T, S, S, 3) to write their pixels into, but those that lie in a store as they shall be;
                None: memory of their own.
        """
        if out is None:
            out = np.empty((clips_in(visit), *self.clip_shape), np.uint8)
        if isinstance(visit, EvalVisit):
            return self._evaluate(visit, out)
        width = len(visit.items)
        made = [self._train(visit, item, out[place::width]) for place, item in enumerate(visit.items)]
        return [sample for together in zip(*made, strict=True) for sample in together]

    def blank(self, visit: Visit, reason: str) -> list[ClipSample]:
        """What stands for the clips of a visit that was never made: weight 0 and the reason."""
        out = np.zeros((clips_in(visit), *self.clip_shape), np.uint8)
        if isinstance(visit, EvalVisit):
            names = [_Name(visit.item, track, clip) for track, clip, _ in visit.clips]
        else:
            names = [_Name(i, int(self.items.main_track[i]), clip) for clip in visit.clips for i in visit.items]
        return [self._blank(name, reason, pixels) for name, pixels in zip(names, out, strict=True)]

    def patience(self, visit: Visit) -> float:
        """Seconds that a visit may take, at most."""
        items = visit.items if isinstance(visit, TrainVisit) else (visit.item,)
        return PATIENCE + PATIENCE_A_FRAME * float(sum(self.items.num_frames[list(items)]))

    def begin_pass(self) -> None:
        """Sees what others have put into the store."""
        if self.keeper is not None:
            self.keeper.refresh()

    def end_pass(self) -> None:
        """Makes what this process has put into the store visible to others."""
        if self.keeper is not None:
            self.keeper.flush()

    def placed(self, sample: ClipSample) -> ClipSample:
        """A clip of which another process says only where the store holds it, with its pixels."""
        if sample.place is None or self.keeper is None:
            return sample
        try:
            return replace(sample, pixels=self.keeper.at(sample.place))
        except OSError as error:
            name = _Name(sample.item, sample.track, sample.clip)
            return self._blank(name, f"in the crop store: {_reason(error)}", np.zeros(self.clip_shape, np.uint8))

    def notes(self) -> list[str]:
        """What the user should be told of, once."""
        return [] if self.keeper is None else self.keeper.notes()

    # How clips are made --------------------------------------------------------------------------------------------

    def _train(self, visit: TrainVisit, item: int, out: np.ndarray) -> list[ClipSample]:
        names = [_Name(item, int(self.items.main_track[item]), clip) for clip in visit.clips]

        def make() -> list[ClipSample]:
            keys = self.choose.training_keys(visit, item) if self.keeper is not None else None
            draws = [self.choose.draw_of(visit, clip) for clip in visit.clips]
            return self._stored(keys, names, draws, out) or self._made(item, self.choose.training(visit, item), out)

        return self._guarded(names, make, out)

    def _evaluate(self, visit: EvalVisit, out: np.ndarray) -> list[ClipSample]:
        names = [_Name(visit.item, track, clip) for track, clip, _ in visit.clips]

        def make() -> list[ClipSample]:
            keys = self.choose.evaluation_keys(visit) if self.keeper is not None else None
            stored = self._stored(keys, names, [None] * len(names), out)
            return stored or self._made(visit.item, self.choose.evaluation(visit), out)

        return self._guarded(names, make, out)

    def _guarded(
        self, names: Sequence[_Name], make: Callable[[], list[ClipSample]], out: np.ndarray
    ) -> list[ClipSample]:
        try:
            return make()
        except (ReadError, OSError, ValueError, MemoryError, cv2.error) as error:
            # ValueError: what crop, dense and numpy say to boxes that are none
            out[:] = 0
            return [self._blank(name, _reason(error), pixels) for name, pixels in zip(names, out, strict=True)]

    def _stored(
        self, keys: list[bytes] | None, names: Sequence[_Name], draws: Sequence[int | None], out: np.ndarray
    ) -> list[ClipSample] | None:
        """The clips of a visit where the store has all of them: nothing else is worked out then."""
        if self.keeper is None or keys is None:
            return None
        samples = []
        for key, name, draw, pixels in zip(keys, names, draws, out, strict=True):
            clip = self.keeper.clip(key)
            if clip is None:
                return None
            if len(clip.frames) == self.clip.frames and (draw is None or not self.augment.steps):
                sample = self._sample(name, clip.frames, clip.pad, None, clip.pixels)
                samples.append(replace(sample, place=clip.place))
                continue
            pixels[: len(clip.frames)] = clip.pixels
            samples.append(self._sample(name, clip.frames, clip.pad, draw, pixels))
        return samples

    def _made(self, item: int, wanted: list[Wanted], out: np.ndarray) -> list[ClipSample]:
        """Decodes what the store does not have, and puts it there."""
        keeper, sha256 = self.keeper, self.items.sha256(item)
        if keeper is None or sha256 is None:
            self._decode(item, list(zip(wanted, out, strict=True)))
        else:
            self._complete(keeper, item, sha256, wanted, out)
        return [
            self._sample(_Name(item, clip.track, clip.clip), clip.frames, float(clip.crop.pad), clip.draw, pixels)
            for clip, pixels in zip(wanted, out, strict=True)
        ]

    def _complete(self, keeper: Keeper, item: int, sha256: str, wanted: list[Wanted], out: np.ndarray) -> None:
        missing: dict[bytes, list[int]] = {}
        for number, clip in enumerate(wanted):
            found = keeper.clip(key := clip.key(sha256))
            if found is None:
                missing.setdefault(key, []).append(number)
            else:
                out[number, : len(clip.frames)] = found.pixels
        if missing:
            self._decode(item, [(wanted[numbers[0]], out[numbers[0]]) for numbers in missing.values()])
        for key, (first, *again) in missing.items():
            for number in again:
                out[number] = out[first]
            keeper.keep(key, wanted[first], out[first], sha256)

    def _decode(self, item: int, clips: list[tuple[Wanted, np.ndarray]]) -> None:
        """Decodes every wanted frame once and cuts each clip's crop out of it."""
        media, path = self.choose.media(item), self.items.path(item)
        self.unchanged.check(item, path)
        places: dict[int, list[tuple[Wanted, np.ndarray, int]]] = {}
        for clip, pixels in clips:
            for t, frame in enumerate(clip.frames.tolist()):
                places.setdefault(frame, []).append((clip, pixels, t))
        regions: dict[int, list[Region]] = {
            frame: [clip.crop.region(t) for clip, _, t in uses] for frame, uses in places.items()
        }
        for frame, patches in open_reader(self.reader, media, path).patches(path, regions, media):
            for (clip, pixels, t), patch in zip(places[frame], patches, strict=True):
                pixels[t] = apply_region(clip.crop, t, patch)

    def _sample(self, name: _Name, frames: np.ndarray, pad: float, draw: int | None, pixels: np.ndarray) -> ClipSample:
        n, T = len(frames), self.clip.frames
        if draw is not None:
            whole = pixels[:n]
            altered = self.augment(whole, draw)
            if altered is not whole:
                pixels[:n] = altered
        if n < T:  # a track shorter than T repeats its last frame, masked
            pixels[n:] = pixels[n - 1]
        return ClipSample(
            pixels=pixels,
            mask=np.arange(T) < n,
            frames=np.concatenate([frames, np.full(T - n, frames[-1])]).astype(np.int64),
            item=name.item,
            track=name.track,
            clip=name.clip,
            label=int(self.items.label[name.item]),
            pad=pad,
        )

    def _blank(self, name: _Name, error: str, pixels: np.ndarray) -> ClipSample:
        T = self.clip.frames
        return ClipSample(
            pixels=pixels,
            mask=np.zeros(T, bool),
            frames=np.zeros(T, np.int64),
            item=name.item,
            track=name.track,
            clip=name.clip,
            label=int(self.items.label[name.item]),
            weight=0.0,
            error=f"{self.items.path(name.item)}: {error}",
        )


class _Name(NamedTuple):
    """Which clip: of which video and track, and its number within the visit."""

    item: int
    track: int
    clip: int


def _reason(error: Exception) -> str:
    if isinstance(error, ReadError):
        return error.reason
    if isinstance(error, MemoryError):
        return f"out of memory {error}".strip()
    return " ".join(str(getattr(error, "strerror", None) or error).split())
