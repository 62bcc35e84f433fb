"""Visits in, their crops as picture files out, as rivals extract them; and such files in, clips out."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from dfdet.bench.clips import VisitClips
from dfdet.bench.competitors import ClipShape, turned
from dfdet.data.crop import apply
from dfdet.data.wanted import Wanted
from dfdet.errors import UserError
from dfdet.video.stream import opened

QUALITY = {".png": [], ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95]}
HOUR = 3600.0


@dataclass
class Cost:
    """What extraction took.

    Attributes:
        crops: Pictures written.
        bytes: Their size on disk.
        frames: Frames decoded.
        decode_seconds: Time of decoding.
        write_seconds: Time of conversion, crop and writing.
    """

    crops: int = 0
    bytes: int = 0
    frames: int = 0
    decode_seconds: float = 0.0
    write_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def hours_for(self, frames: int) -> float:
        """Hours, in one process, for a crop of each of so many frames."""
        return frames * (self.decode_seconds / self.frames + self.write_seconds / self.crops) / HOUR

    def gib_for(self, frames: int) -> float:
        """GiB of a crop of each of so many frames."""
        return frames * self.bytes / self.crops / 2**30


def place(folder: Path, clip: Wanted, t: int, suffix: str) -> Path:
    """Where one crop lies: a folder a clip, as the trackers of the field write them."""
    return (
        folder
        / f"{clip.item}"
        / f"{clip.track}_{clip.frames[0]}_{clip.frames[-1]}_{len(clip.frames)}"
        / f"{t:03d}{suffix}"
    )


def extract(visits: Sequence[VisitClips], folder: Path, suffixes: Sequence[str], workers: int = 1) -> dict[str, Cost]:
    """Decodes each video in order, once, and writes every crop of its clips; the cost of each format alone.

    Args:
        visits: What is wanted.
        folder: Where the crops go.
        suffixes: ``.png`` or ``.jpg``.
        workers: Processes, each at a video of its own.
    """
    by_item: dict[int, list[VisitClips]] = {}
    for visit in visits:
        by_item.setdefault(visit.item, []).append(visit)
    tasks = [(group, folder, suffixes) for group in by_item.values()]
    if workers > 1:
        with multiprocessing.Pool(workers, _one_thread) as pool:
            found = pool.starmap(_extract_one, tasks, chunksize=1)
    else:
        found = [_extract_one(*task) for task in tasks]
    return {suffix: sum((costs[suffix] for costs in found), Cost()) for suffix in suffixes}


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _extract_one(group: Sequence[VisitClips], folder: Path, suffixes: Sequence[str]) -> dict[str, Cost]:
    costs = {suffix: Cost() for suffix in suffixes}
    uses: dict[int, list[tuple[Wanted, int]]] = {}
    for visit in group:
        for clip in visit.clips:
            for t, frame in enumerate(clip.frames.tolist()):
                uses.setdefault(frame, []).append((clip, t))
    for crops, decoding, converting, frames in _pictures(group[0], uses):
        for suffix, cost in costs.items():
            cost.frames += frames
            cost.decode_seconds += decoding
            cost.write_seconds += converting
            for clip, t, picture in crops:
                started = time.perf_counter()
                cost.bytes += _write(place(folder, clip, t, suffix), picture)
                cost.write_seconds += time.perf_counter() - started
                cost.crops += 1
    return costs


_Crops = list[tuple[Wanted, int, np.ndarray]]


def _pictures(
    visit: VisitClips, uses: dict[int, list[tuple[Wanted, int]]]
) -> Iterator[tuple[_Crops, float, float, int]]:
    """Crops of one frame after the other, the seconds of decoding up to it and of its conversion, frames decoded."""
    times = visit.media.times()
    last = max(uses)
    decoding, since, index, decoded = 0.0, time.perf_counter(), -1, 0
    with opened(visit.path) as (container, stream):
        if stream is None or times is None:
            raise UserError(f"{visit.path} has no frames with times", "leave it out with --where")
        for index, frame in enumerate(container.decode(stream)):
            decoded += 1
            if index in uses:
                now = time.perf_counter()
                decoding = now - since
                picture = turned(frame.to_ndarray(format="rgb24"), visit.media.rotation)
                crops = [(clip, t, apply(clip.crop, t, picture)) for clip, t in uses[index]]
                yield crops, decoding, time.perf_counter() - now, decoded
                since, decoded = time.perf_counter(), 0
            if index == last:
                return
    raise UserError(f"{visit.path} ends at frame {index}, before {last}", "index it again")


def _write(path: Path, picture: np.ndarray) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), QUALITY[path.suffix]):
        raise OSError(f"{path} could not be written")
    return path.stat().st_size


class Pictures:
    """Reads clips from such files with OpenCV.

    Args:
        folder: Where they lie.
        suffix: ``.png`` or ``.jpg``.
    """

    def __init__(self, folder: Path, suffix: str) -> None:
        self.folder, self.suffix = folder, suffix

    def __call__(self, visit: VisitClips, shape: ClipShape) -> np.ndarray:
        """The clips of a visit, uint8 (clips, T, S, S, 3)."""
        return np.stack([self.clip(clip, shape) for clip in visit.clips])

    def clip(self, clip: Wanted, shape: ClipShape) -> np.ndarray:
        """One clip, uint8 (T, S, S, 3)."""
        out = np.empty(shape, np.uint8)
        for t in range(len(clip.frames)):
            path = place(self.folder, clip, t, self.suffix)
            picture = cv2.imread(str(path))
            if picture is None:
                raise OSError(f"{path} could not be read")
            cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=out[t])
        out[len(clip.frames) :] = out[len(clip.frames) - 1]
        return out
