"""Which frames a clip takes: drawn at random in training, fixed and evenly spread in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

# a visit's clips lie in one stretch between keyframes, so that one seek serves them all; where keyframes are dense,
# stretches are joined up to this many frames, or the clips of a visit would be near copies
MIN_STRETCH = 64

Run = tuple[int, int]


@dataclass(frozen=True)
class ClipSpec:
    """The shape of a clip in time.

    Attributes:
        frames: T, frames a clip; 1 for a detector of single frames.
        sampling: ``consecutive`` (T neighbours), ``strided`` (every ``stride``-th), ``uniform`` (T frames spread over
            the whole track).
        stride: Step between frames for ``strided``.
    """

    frames: int = 1
    sampling: Literal["consecutive", "strided", "uniform"] = "consecutive"
    stride: int = 1

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


def _stretches(runs: Sequence[Run], keyframes: Sequence[int]) -> list[Run]:
    """Runs cut at keyframes, short neighbours joined."""
    found: list[Run] = []
    for start, stop in runs:
        cuts = [start, *(k for k in keyframes if start < k < stop), stop]
        begin = start
        for cut in cuts[1:]:
            if cut - begin >= MIN_STRETCH or cut == stop:
                found.append((begin, cut))
                begin = cut
    return found


def draw(
    spec: ClipSpec, runs: Sequence[Run], keyframes: Sequence[int], clips: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Random clips of one visit: int (t,) frame numbers each, t <= T where the track is shorter than a clip.

    Args:
        spec: The shape of a clip.
        runs: Usable stretches of the track, half-open.
        keyframes: Where decoding can start.
        clips: How many clips.
        rng: Whence all choices come.
    """
    if spec.sampling == "uniform":
        return [_spread(spec, runs, rng.random(spec.frames)) for _ in range(clips)]
    stretches = _stretches(runs, keyframes)
    length = np.array([b - a for a, b in stretches], np.float64)
    start, stop = stretches[int(rng.choice(len(stretches), p=length / length.sum()))]
    end = next(b for a, b in runs if a <= start < b)
    # the first frame lies in the stretch; the last may lie past it, but within the run
    starts = max(min(stop, end - spec.extent + 1) - start, 1)
    cell = starts / clips
    places = [start + int((j + rng.random()) * cell) for j in range(clips)]
    order = rng.permutation(clips)
    return [_from(spec, places[j], end) for j in order]


def fixed(spec: ClipSpec, runs: Sequence[Run], clips: int) -> list[np.ndarray]:
    """Evenly spread clips: the same in every epoch; as many as ``clips``, fewer where the track holds fewer."""
    if spec.sampling == "uniform":
        return [_spread(spec, runs, np.full(spec.frames, (j + 1) / (clips + 1))) for j in range(clips)]
    starts = [np.arange(a, b - spec.extent + 1) for a, b in runs]
    candidates = np.concatenate(starts) if starts else np.zeros(0, np.int64)
    if len(candidates) == 0:
        longest = max(runs, key=lambda run: run[1] - run[0])
        return [_from(spec, longest[0], longest[1])]
    places = np.unique(np.round(np.linspace(0, len(candidates) - 1, min(clips, len(candidates)))).astype(int))
    first = candidates[places]
    return [_from(spec, int(s), int(s) + spec.extent) for s in first]


def _from(spec: ClipSpec, first: int, end: int) -> np.ndarray:
    return np.arange(first, min(first + spec.extent, end), spec.step)


def _spread(spec: ClipSpec, runs: Sequence[Run], places: np.ndarray) -> np.ndarray:
    """One frame in each of T equal cells of the usable frames, at ``places`` (float (T,) in [0, 1)) of its cell."""
    usable = np.concatenate([np.arange(a, b) for a, b in runs])
    if len(usable) <= spec.frames:
        return usable
    cells = np.arange(spec.frames) + places
    return usable[(cells * len(usable) / spec.frames).astype(int)]
