"""A video and the scores of its persons in; the video with boxes and scores drawn over time out, H.264 in MP4."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from dfdet import files
from dfdet.studies.drawing import PERSONS, Curve, Scored, font, told, write

SIDE = 960  # the longest side of the film, pixels: enough to see, and quick to make
STRIP = 120
CRF = 20


@dataclass(frozen=True)
class Followed:
    """One person of a video.

    Attributes:
        boxes: The square's (x, y, side) in pixels of the frame, by frame.
        scored: Its scored stretches, in order.
    """

    boxes: Mapping[int, tuple[float, float, float]]
    scored: Sequence[Scored]

    def score(self, frame: int) -> float:
        """The logit of the stretch that is nearest to a frame; NaN where nothing was scored."""
        if not self.scored:
            return float("nan")
        return min(self.scored, key=lambda s: (max(s.first - frame, frame - s.last, 0), s.first)).logit


def write_film(
    path: Path,
    frames: Iterable[tuple[int, np.ndarray]],
    persons: Mapping[int, Followed],
    threshold: float,
    num_frames: int,
    fps: float,
) -> int:
    """Writes the film, whole or not at all; returns how many frames it has.

    Args:
        path: ``x.mp4``.
        frames: (number, uint8 (H, W, 3) RGB) in order, all of one size.
        persons: By number.
        threshold: The logit above which a video is called fake; NaN: not known.
        num_frames: Of the whole video.
        fps: Frames a second.
    """
    with files.replacing(path) as draft:
        count = _encode(draft, _drawn(frames, persons, threshold, num_frames), fps)
    return count


def _drawn(
    frames: Iterable[tuple[int, np.ndarray]], persons: Mapping[int, Followed], threshold: float, num_frames: int
) -> Iterator[np.ndarray]:
    curve: Curve | None = None
    for number, frame in frames:
        scale = min(1.0, SIDE / max(frame.shape[:2]))
        # yuv420p halves both sides
        width, height = (max(2, round(side * scale / 2) * 2) for side in (frame.shape[1], frame.shape[0]))
        picture = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        if curve is None:
            stretches = {n: person.scored for n, person in persons.items()}
            curve = Curve(stretches, threshold, num_frames, width, STRIP)
        for n, person in persons.items():
            if number in person.boxes:
                _box(picture, person.boxes[number], scale, n, person.score(number), threshold)
        yield np.concatenate([picture, curve.at(number)])


def _box(
    picture: np.ndarray, box: tuple[float, float, float], scale: float, person: int, logit: float, threshold: float
) -> None:
    x, y, side = (value * scale for value in box)
    colour = PERSONS[person % len(PERSONS)]
    cv2.rectangle(picture, (round(x), round(y)), (round(x + side), round(y + side)), colour, 2, cv2.LINE_AA)
    size = 14
    verdict = "" if logit != logit or threshold != threshold else ("fake " if logit > threshold else "real ")
    words = f"{verdict}{told(logit)}"
    wide = int(font(size).getlength(words)) + 8
    left = int(np.clip(round(x), 0, max(picture.shape[1] - wide, 0)))
    top = round(y) - size - 8 if y >= size + 8 else min(max(round(y + side), 0), picture.shape[0] - size - 8)
    top = max(top, 0)
    picture[top : top + size + 7, left : left + wide] = colour
    write(picture, words, left + 4, top + 2, size, (255, 255, 255))


def _encode(path: Path, pictures: Iterator[np.ndarray], fps: float) -> int:
    """H.264, yuv420p, its index in front: what browsers play while they load."""
    count = 0
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": str(CRF), "preset": "veryfast"}
        )
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            if not count:
                stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
            count += 1
        container.mux(stream.encode())
    return count
