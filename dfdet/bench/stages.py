"""Visits in, the CPU seconds of each stage of making their clips out, and the frames that were decoded for them.

Measured in this process by doing more and more of the work on the same visits: the difference of two is a stage. CPU
time, because a busy machine stretches the clock on the wall.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dfdet.bench.clips import Shape, VisitClips
from dfdet.bench.competitors import CORNER, reader_of, takes_decord
from dfdet.bench.counting import Count, counted
from dfdet.data.augment import PRESETS, Augment
from dfdet.data.batch import ClipSample
from dfdet.data.crop import apply_region
from dfdet.data.module import VideoDataModule
from dfdet.data.visits import VisitMaker
from dfdet.data.wanted import Visit, clips_in
from dfdet.video.decord_reader import open_decord

STAGES = ("open", "decode", "conversion", "crop", "augmentation", "rest", "transfer")
PRESET_CLIPS = 6  # clips on which each augmentation preset is tried


@dataclass
class Stages:
    """Seconds a clip.

    Attributes:
        seconds: By stage. ``rest``: choosing frames, following the track, padding.
        presets: What each augmentation preset costs.
        decoded_per_used: Frames that came out of the decoder by distinct frames that a visit uses.
    """

    seconds: dict[str, float]
    presets: dict[str, float]
    decoded_per_used: float

    def shares(self) -> dict[str, float]:
        """By stage, 0..1; they sum to 1."""
        whole = sum(self.seconds.values())
        return {name: value / whole for name, value in self.seconds.items()}


def measure(data: VideoDataModule, visits: Sequence[VisitClips]) -> Stages:
    """The stages up to the finished clip; ``transfer`` is left at 0 (:func:`transfer`).

    Args:
        data: The data module; its own augmentation is the one that is measured.
        visits: What its visits want.
    """
    maker, totals = data.maker("train"), dict.fromkeys(STAGES, 0.0)
    clips = decoded = used = 0
    crops: list[np.ndarray] = []
    maker(visits[0].request)  # loads what is loaded once
    data.augment(np.zeros(maker.clip_shape, np.uint8), 0)
    for visit in visits:
        seen = _watched(visit)
        decoded += seen.frames
        used += len(visit.places())
        decoding = _cpu(_exhaust, visit, {frame: [CORNER] for frame in visit.places()})
        converting = _cpu(_exhaust, visit, visit.regions())
        made, cropping = _crops(visit)
        altering = _cpu(_alter, data.augment, visit, made)
        whole = _cpu(maker, visit.request)
        found = [seen.opening, decoding - seen.opening, converting - decoding, cropping, altering]
        for name, spent in zip(STAGES, [*found, whole - converting - cropping - altering], strict=False):
            totals[name] += spent
        clips += len(visit.clips)
        crops += made[: max(PRESET_CLIPS - len(crops), 0)]
    # the difference of two noisy figures may fall below nothing
    seconds = {name: max(value, 0.0) / clips for name, value in totals.items()}
    return Stages(seconds, {name: _preset(name, crops) for name in PRESETS}, decoded / used)


def _cpu(work: Callable[..., object], *given: Any) -> float:
    started = time.process_time()
    work(*given)
    return time.process_time() - started


def _watched(visit: VisitClips) -> Count:
    """One pass through a visit's frames, and what was seen of it.

    Of PyAV's pass every frame that the decoder gives is counted; those that it was told to drop are never decoded.
    decord tells nothing: from the keyframe before the first wanted frame to the last one.
    """
    frames = list(visit.places())
    with counted() as count:
        _exhaust(visit, {frame: [CORNER] for frame in frames})
    if takes_decord(visit):
        start = max(key for key in (0, *visit.media.keyframes) if key <= frames[0])
        count.frames = frames[-1] - start + 1 + (visit.media.reader == "decord0")
        count.opening = _cpu(open_decord, visit.path)
    return count


def _exhaust(visit: VisitClips, regions: dict[int, list[Any]]) -> None:
    for _ in reader_of(visit).patches(visit.path, regions, visit.media):
        pass


def _crops(visit: VisitClips) -> tuple[list[np.ndarray], float]:
    """The clips of a visit, and the seconds that cutting and resizing alone took."""
    made: list[list[np.ndarray]] = [[] for _ in visit.clips]
    places, seconds = visit.places(), 0.0
    for frame, patches in reader_of(visit).patches(visit.path, visit.regions(), visit.media):
        started = time.process_time()
        for (c, t), patch in zip(places[frame], patches, strict=True):
            made[c].append(apply_region(visit.clips[c].crop, t, patch))
        seconds += time.process_time() - started
    return [np.stack(clip) for clip in made], seconds


def _alter(augment: Augment, visit: VisitClips, made: list[np.ndarray]) -> None:
    for clip, pixels in zip(visit.clips, made, strict=True):
        augment(pixels, clip.draw or 0)


def _preset(name: str, crops: Sequence[np.ndarray]) -> float:
    augment = Augment(name)
    augment(crops[0], 0)  # loads albumentations
    return sum(_cpu(augment, pixels, key) for key, pixels in enumerate(crops)) / len(crops)


class _ReadyMaker(VisitMaker):
    """Clips that cost nothing to make: what is left is their way from the worker into a batch."""

    def __call__(self, visit: Visit, out: np.ndarray | None = None) -> list[ClipSample]:
        pixels = np.empty((clips_in(visit), *self.clip_shape), np.uint8) if out is None else out
        frames = self.clip.frames
        mask, numbers = np.ones(frames, bool), np.arange(frames)
        return [ClipSample(clip, mask, numbers, item=0, track=0, clip=0, label=0) for clip in pixels]


class ReadyModule(VideoDataModule):
    """The data module with clips that cost nothing to make."""

    def maker(self, stage: Any) -> VisitMaker:
        """See :meth:`VideoDataModule.maker`."""
        like = super().maker(stage)
        return _ReadyMaker(like.items, like.clip, like.crop, like.augment, seed=0, clips_per_visit=self.clips_per_visit)


def transfer(data: VideoDataModule, shape: Shape) -> float:
    """Wall-clock seconds a clip from a worker into a batch; ``data`` is a :class:`ReadyModule`."""
    loader = data.train_dataloader()
    for _ in loader.batches(0, len(loader) - 1):  # starts the workers
        pass
    started = time.perf_counter()
    batches = sum(1 for _ in loader.batches(0))
    return (time.perf_counter() - started) / (batches * shape.batch_size)
