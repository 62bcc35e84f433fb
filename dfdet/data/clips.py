"""Which frames a clip takes: drawn at random in training, fixed and evenly spread in evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dfdet.errors import UserError

# a visit's clips lie in one stretch between keyframes, so that one seek serves them all; where keyframes are dense,
# stretches are joined up to this many frames, or the clips of a visit would be near copies
MIN_STRETCH = 64

# on the other side a stretch of hundreds of frames would be decoded for a few clips: a visit takes its clips from a
# part of it, at least this long, and half as long again as the clips together: half of a keyframe distance of 250, the
# usual one, for four clips of sixteen frames
MIN_PART = 125

Run = tuple[int, int]


@dataclass(frozen=True)
class ClipSpec:
    """The shape of a clip in time.

    Attributes:
        frames: T, frames a clip; 1 for a detector of single frames, and for one of clips the number that it was made
            for.
        sampling: ``consecutive`` (T neighbours), ``strided`` (every ``stride``-th), ``uniform`` (T frames spread over
            the whole track).
        stride: Step between frames for ``strided``.
        eval_frame: In evaluation, take one clip a face, which begins at this frame of the video (0-based), or at the
            nearest with a face: of a shorter video, its last. None: evenly spread clips. Training is not touched.
    """

    frames: int = 1
    sampling: Literal["consecutive", "strided", "uniform"] = "consecutive"
    stride: int = 1
    eval_frame: int | None = None

    def __post_init__(self) -> None:
        if self.eval_frame is None:
            return
        if self.eval_frame < 0:
            raise UserError(f"data.clip.eval_frame is {self.eval_frame}", "frames are counted from 0")
        if self.sampling == "uniform" and self.frames > 1:
            raise UserError(
                "data.clip.eval_frame says where a clip begins, data.clip.sampling uniform spreads it over the track",
                "leave one of them out",
            )

    @property
    def step(self) -> int:
        """Frames from one frame of a clip to the next."""
        return self.stride if self.sampling == "strided" else 1

    @property
    def extent(self) -> int:
        """Frames from the first to the last of a clip, both counted."""
        return (self.frames - 1) * self.step + 1


def runs_of(usable: np.ndarray, start: int = 0) -> list[Run]:
    """Maximal half-open runs of True in ``usable`` (bool (n,)), whose first element is frame ``start``."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], usable.astype(np.int8), [0]])))
    return [(int(a) + start, int(b) + start) for a, b in edges.reshape(-1, 2)]


def intersect(runs: Sequence[Run], others: Sequence[Run]) -> list[Run]:
    """The parts of ``runs`` that lie in ``others``."""
    parts = [(max(a, c), min(b, d)) for a, b in runs for c, d in others]
    return [(a, b) for a, b in parts if b > a]


def _starts(spec: ClipSpec, runs: Sequence[Run]) -> list[Run]:
    """Where a whole clip may begin: half-open, one a run that holds one; nothing where no run does."""
    return [(a, b - spec.extent + 1) for a, b in runs if b - a >= spec.extent]


def _longest(runs: Sequence[Run]) -> Run:
    return max(runs, key=lambda run: run[1] - run[0])


def _stretches(runs: Sequence[Run], keyframes: Sequence[int]) -> list[Run]:
    """Runs cut at keyframes, short pieces joined to a neighbour."""
    found: list[Run] = []
    for start, stop in runs:
        cuts = [start]
        for key in keyframes:
            if key - cuts[-1] >= MIN_STRETCH and stop - key >= MIN_STRETCH:
                cuts.append(key)
        found += zip(cuts, [*cuts[1:], stop], strict=True)
    return found


def _parts(start: int, stop: int, wanted: int) -> list[Run]:
    """A stretch in equal parts, each with room for more frames than are wanted of it."""
    count = max((stop - start) // max(MIN_PART, wanted + wanted // 2), 1)
    edges = np.linspace(start, stop, count + 1).round().astype(int).tolist()
    return list(itertools.pairwise(edges))


def draw(
    spec: ClipSpec, runs: Sequence[Run], keyframes: Sequence[int], clips: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Random clips of one visit: int (t,) frame numbers each; t < T only where no run is as long as a clip.

    The first frames of the clips lie in one stretch between keyframes, or in one of the equal parts of a long one; the
    last clip may reach across its end. Every place of the track is as likely as any other.

    Args:
        spec: The shape of a clip.
        runs: Usable stretches of the track, half-open.
        keyframes: Where decoding can start.
        clips: How many clips.
        rng: Whence all choices come.
    """
    if spec.sampling == "uniform":
        return [_spread(spec, runs, rng.random(spec.frames)) for _ in range(clips)]
    whole = _starts(spec, runs)
    if not whole:
        return [_from(spec, *_longest(runs))] * clips
    stretches = [part for stretch in _stretches(whole, keyframes) for part in _parts(*stretch, spec.extent * clips)]
    length = np.array([b - a for a, b in stretches], np.float64)
    start, stop = stretches[int(rng.choice(len(stretches), p=length / length.sum()))]
    cell = (stop - start) / clips
    places = [start + int((j + rng.random()) * cell) for j in range(clips)]
    order = rng.permutation(clips)
    return [_from(spec, places[j], places[j] + spec.extent) for j in order]


def fixed(spec: ClipSpec, runs: Sequence[Run], clips: int) -> list[np.ndarray]:
    """Evenly spread clips: the same in every epoch; as many as ``clips``, fewer where the track holds fewer."""
    if spec.sampling == "uniform":
        spread = [_spread(spec, runs, np.full(spec.frames, (j + 1) / (clips + 1))) for j in range(clips)]
        return [np.array(frames) for frames in dict.fromkeys(tuple(clip.tolist()) for clip in spread)]
    whole = _starts(spec, runs)
    if not whole:
        return [_from(spec, *_longest(runs))]
    candidates = np.concatenate([np.arange(a, b) for a, b in whole])
    places = np.unique(np.round(np.linspace(0, len(candidates) - 1, min(clips, len(candidates)))).astype(int))
    first = candidates[places]
    return [_from(spec, int(s), int(s) + spec.extent) for s in first]


def evaluated(
    spec: ClipSpec, tracks: Mapping[int, Sequence[Run]], clips: int
) -> list[tuple[int, int, tuple[int, ...]]]:
    """The clips of a video in evaluation: (track, number, frames).

    :func:`fixed` ones of each track; with ``spec.eval_frame`` one of each track that has a face where clips begin
    nearest to it (of two places that are equally near, at the earlier).

    Args:
        spec: The shape of a clip.
        tracks: Usable runs by track; a track without any gives nothing.
        clips: How many of each track, without ``spec.eval_frame``.
    """
    seen = {track: runs for track, runs in tracks.items() if runs}
    if spec.eval_frame is None:
        found = [(track, list(enumerate(fixed(spec, runs, clips)))) for track, runs in seen.items()]
        return [(track, number, tuple(clip.tolist())) for track, own in found for number, clip in own]
    nearest = {track: _nearest(spec, runs, spec.eval_frame) for track, runs in seen.items()}
    asked = spec.eval_frame
    first = min((int(clip[0]) for clip in nearest.values()), key=lambda f: (abs(f - asked), f), default=asked)
    return [(track, 0, tuple(clip.tolist())) for track, clip in nearest.items() if clip[0] == first]


def _nearest(spec: ClipSpec, runs: Sequence[Run], frame: int) -> np.ndarray:
    whole = _starts(spec, runs)
    if not whole:
        return _from(spec, *_longest(runs))
    first = min((min(max(frame, a), b - 1) for a, b in whole), key=lambda f: (abs(f - frame), f))
    return _from(spec, first, first + spec.extent)


def turn(places: int, clips: int, lap: int, order_of: Callable[[int], np.random.Generator]) -> list[int]:
    """Which clips of a pool one visit takes; successive visits go through the pool.

    A visit takes neighbours, so that one short pass serves it; the pool has been gone through once after
    ``places / clips`` visits.

    Args:
        places: Clips in the pool.
        clips: How many clips a visit takes.
        lap: How often the video was visited before.
        order_of: Whence the order of one going through comes, by its number.
    """
    groups = -(-places // clips)
    group = int(order_of(lap // groups).permutation(groups)[lap % groups])
    return [(group * clips + j) % places for j in range(clips)]


def _from(spec: ClipSpec, first: int, end: int) -> np.ndarray:
    return np.arange(first, min(first + spec.extent, end), spec.step)


def _spread(spec: ClipSpec, runs: Sequence[Run], places: np.ndarray) -> np.ndarray:
    """One frame in each of T equal cells of the usable frames, at ``places`` (float (T,) in [0, 1)) of its cell."""
    usable = np.concatenate([np.arange(a, b) for a, b in runs])
    if len(usable) <= spec.frames:
        return usable
    cells = np.arange(spec.frames) + places
    return usable[(cells * len(usable) / spec.frames).astype(int)]
