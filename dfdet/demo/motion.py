"""A seed, an item and a number of frames in; the poses of a head that talks, looks round and blinks out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dfdet import seeds
from dfdet.demo.head import Pose

FPS = 25
BLINK_SECONDS = 0.16


@dataclass(frozen=True)
class Stage:
    """Where a head is on average: centre in pixels and pixels per face unit."""

    x: float
    y: float
    scale: float


def poses(seed: int, item: str, frames: int, stage: Stage) -> list[Pose]:
    """One pose a frame: sums of two sines for each freedom, and blinks every two to five seconds.

    Args:
        seed: The corpus' seed.
        item: What moves; another item moves otherwise.
        frames: How many frames, at 25 a second.
        stage: Where it is on average.

    Returns:
        ``frames`` poses.
    """
    rng = seeds.generator(seed, 0, item, "motion")
    seconds = np.arange(frames) / FPS

    def wave(amplitude: float, hertz: float) -> np.ndarray:
        first = np.sin(2 * np.pi * hertz * rng.uniform(0.7, 1.3) * seconds + rng.uniform(0, 2 * np.pi))
        second = np.sin(2 * np.pi * 2.3 * hertz * seconds + rng.uniform(0, 2 * np.pi))
        return amplitude * (first + 0.4 * second)

    yaw = rng.uniform(-0.12, 0.12) + wave(0.17, 0.25)
    pitch = rng.uniform(-0.05, 0.05) + wave(0.06, 0.2)
    roll = wave(0.05, 0.15)
    x = stage.x + wave(0.14 * stage.scale, 0.2)
    y = stage.y + wave(0.08 * stage.scale, 0.3)
    scale = stage.scale * (1 + wave(0.02, 0.2))
    mouth = np.clip(rng.uniform(0.1, 0.3) + wave(0.45, 1.6) * np.clip(0.6 + wave(0.6, 0.3), 0, 1), 0, 1)
    gaze = np.clip(wave(0.025, 0.5), -0.04, 0.04)
    blink = _blinks(rng, seconds)
    table = np.column_stack([x, y, scale, yaw, pitch, roll, mouth, blink, gaze])
    return [Pose(*row) for row in table.tolist()]


def _blinks(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    closed = np.zeros_like(seconds)
    moment = rng.uniform(0, 3)
    while moment < seconds[-1] + 1:
        closed = np.maximum(closed, np.clip(1.6 * (1 - np.abs(seconds - moment) / BLINK_SECONDS), 0, 1))
        moment += rng.uniform(2, 5)
    return closed


def other_mouth(seed: int, item: str, track: list[Pose]) -> list[float]:
    """What a reenactment says instead: mouth openings of another talk, mirrored about the original where they agree.

    Returns:
        One opening (0..1) a frame.
    """
    talk = poses(seed, f"{item}/reenacted", len(track), Stage(0, 0, 1))
    openings = []
    for own, new in zip(track, talk, strict=True):
        differs = abs(own.mouth - new.mouth) >= 0.2
        openings.append(new.mouth if differs else float(np.clip(0.9 - own.mouth, 0, 1)))
    smooth = np.convolve(np.pad(openings, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    return [float(opening) for opening in smooth]


def entering(track: list[Pose], share: float, width: int) -> list[Pose]:
    """The same motion, but absent (out of the picture) for the first ``share`` and then sliding in from the right."""
    frames = len(track)
    start, glide = int(share * frames), max(1, frames // 6)
    shifted = []
    for index, pose in enumerate(track):
        missing = 1 - float(np.clip((index - start) / glide, 0, 1))
        shifted.append(replace(pose, x=pose.x + missing**2 * (width - pose.x + 2.6 * pose.scale)))
    return shifted
