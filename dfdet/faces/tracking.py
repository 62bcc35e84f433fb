"""Detections of sampled frames in, the tracks of a video and its face summary out (reference/faces.md section 3).

Association by overlap: greedy, longest track first, for few faces; optimal assignment for many. A hard cut ends all
tracks. Nothing is dropped in silence: a video without a face gets a summary that says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from dfdet.faces.boxes import Face, as_array, iou
from dfdet.faces.cuts import CutDetector
from dfdet.faces.dense import MAX_GAP
from dfdet.manifest import TRACKS_COLUMNS

if TYPE_CHECKING:
    from dfdet.faces.detector import DetectorSettings

MIN_IOU = 0.3
MIN_DETECTIONS = 5
MANY_FACES = 4  # from here on greedy association is no longer good enough
OK_COVERAGE, FEW_COVERAGE = 0.8, 0.3


@dataclass(frozen=True)
class StaticRule:
    """When a track is a poster: its centre does not move, and either the detector is unsure of it or it lasts.

    Measured on 52 real clips, and on four photographs pasted into one (crf 23 and 35). A pasted photograph deviates by
    .2-1 %, whatever its score. Living heads do so too for a while: a person at a desk by .3 % over 100 frames. Over 200
    frames and more none stays below 1 %, with either detector (YuNet: 1.06 % at 200 frames, 2.2 % at 300).

    Attributes:
        score: A track with a lower mean score is static from ``detections`` on; None where scores do not tell
            (dlib's: photographs .2-.9, living heads .4-2.7).
        deviation: Standard deviation of the centre below which it does not move, in heights of the box.
        detections: Fewer do not show whether something moves.
        lasting: Frames from the first to the last detection after which a still track is static, however sure.
    """

    score: float | None
    deviation: float = 0.01
    detections: int = 10
    lasting: int = 240


STATIC = {"yunet": StaticRule(0.85), "dlib": StaticRule(None)}


@dataclass
class TrackingResult:
    """What was found in one video.

    Attributes:
        rows: One row a detection, columns of :data:`dfdet.manifest.TRACKS_COLUMNS` but ``video_id``, sorted by track
            and frame; tracks are numbered 0.. by their first frame.
        summary: Values by the names of :data:`dfdet.manifest.FACE_COLUMNS`.
    """

    rows: pd.DataFrame
    summary: dict[str, Any]


@dataclass
class _Track:
    shot: int
    frames: list[int] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)

    def deviation(self) -> float:
        """Standard deviation of the centre (the larger of x and y), in median heights of the box."""
        boxes = as_array(self.faces)
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        return float(centres.std(axis=0).max() / np.median(boxes[:, 3]))

    def is_static(self, rule: StaticRule) -> bool:
        """Whether it is a poster; False while it is too short to tell."""
        if len(self.faces) < rule.detections or self.deviation() >= rule.deviation:
            return False
        unsure = rule.score is not None and float(np.mean([f.score for f in self.faces])) < rule.score
        return unsure or self.frames[-1] - self.frames[0] >= rule.lasting

    def weight(self) -> float:
        """How much of a main track it is: the sum of area times score."""
        return sum(f.w * f.h * max(f.score, 0.0) for f in self.faces)


def max_gap(stride: int) -> int:
    """Frames from one detection of a track to its next: 10, or two samples where these lie further apart."""
    return max(MAX_GAP, 2 * stride)


def identity(name: str, stride: int) -> dict[str, Any]:
    """What the tracker does, for the manifest's metadata."""
    return {
        "min_iou": MIN_IOU,
        "max_gap": max_gap(stride),
        "min_detections": MIN_DETECTIONS,
        "static": asdict(STATIC[name]),
    }


class Tracker:
    """Joins the detections of one video to tracks. One tracker a video.

    Args:
        settings: The detector's settings; name and stride count here.
    """

    def __init__(self, settings: DetectorSettings) -> None:
        self._rule = STATIC[settings.name]
        self._max_gap = max_gap(settings.stride)
        self._cuts = CutDetector()
        self._shot = 0
        self._live: list[_Track] = []
        self._ended: list[_Track] = []
        self._sampled: list[int] = []

    def add(self, frame_index: int, rgb: np.ndarray, faces: Sequence[Face]) -> None:
        """Takes the next sampled frame.

        Args:
            frame_index: Its number in the video; must increase.
            rgb: uint8 (H, W, 3), upright; looked at for cuts only.
            faces: What the detector found in it.

        Raises:
            ValueError: If frames do not come in order.
        """
        if self._sampled and frame_index <= self._sampled[-1]:
            raise ValueError(f"frame {frame_index} after frame {self._sampled[-1]}: sampled frames must come in order")
        self._sampled.append(frame_index)
        cut = self._cuts.add(rgb)
        self._shot += cut
        ended = [t for t in self._live if cut or frame_index - t.frames[-1] > self._max_gap]
        self._ended += ended
        # longest first; of equals the older one, so that the order of faces in a frame does not matter
        self._live = sorted((t for t in self._live if t not in ended), key=lambda t: (-len(t.frames), t.frames[0]))
        taken = _match([t.faces[-1] for t in self._live], faces)
        for i, face in enumerate(faces):
            if i not in taken:
                self._live.append(_Track(self._shot))
            track = self._live[taken[i]] if i in taken else self._live[-1]
            track.frames.append(frame_index)
            track.faces.append(face)

    def finish(self, num_frames: int) -> TrackingResult:
        """The tracks that were kept and the summary of the video.

        A track is kept from min(5, half of the samples, at least 1) detections on: an image has a track of one.

        Args:
            num_frames: Frames of the video.

        Raises:
            ValueError: If a sampled frame lies beyond the video's end.
        """
        if self._sampled and self._sampled[-1] >= num_frames:
            raise ValueError(f"frame {self._sampled[-1]} was sampled of a video with {num_frames} frames")
        enough = min(MIN_DETECTIONS, max(1, len(self._sampled) // 2))
        kept = [t for t in self._ended + self._live if len(t.frames) >= enough]
        kept.sort(key=lambda t: (t.frames[0], -t.weight(), t.faces[0].x))
        static = [t.is_static(self._rule) for t in kept]
        return TrackingResult(_rows(kept, static), _summary(kept, static, len(self._sampled)))


def _match(last: Sequence[Face], faces: Sequence[Face]) -> dict[int, int]:
    """Index of a face -> index of the track that it continues.

    Args:
        last: The latest box of every live track, longest track first.
        faces: The faces of the next frame.
    """
    overlap = iou(as_array(last), as_array(faces))
    if overlap.size == 0:
        return {}
    if max(overlap.shape) >= MANY_FACES:
        # a pair that overlaps too little counts nothing, so it is never preferred to one that may be joined
        gain = np.where(overlap >= MIN_IOU, overlap, 0.0)
        pairs = zip(*linear_sum_assignment(gain, maximize=True), strict=True)
        return {int(j): int(i) for i, j in pairs if gain[i, j] > 0}
    taken: dict[int, int] = {}
    for i, row in enumerate(overlap):
        free = [j for j in range(len(faces)) if j not in taken and row[j] >= MIN_IOU]
        if free:
            taken[max(free, key=lambda j: row[j])] = i
    return taken


def _rows(tracks: Sequence[_Track], static: Sequence[bool]) -> pd.DataFrame:
    """The tracks table of one video without ``video_id``; the points are NaN where the detector has none."""
    faces = [f for t in tracks for f in t.faces]
    lengths = [len(t.faces) for t in tracks]
    none = np.full((5, 2), np.nan, np.float32)
    points = np.array([none if f.points is None else f.points for f in faces], np.float32).reshape(-1, 10)
    values: dict[str, Any] = {
        "track": np.repeat(np.arange(len(tracks)), lengths),
        "shot": np.repeat([t.shot for t in tracks], lengths),
        "frame": [i for t in tracks for i in t.frames],
        "score": [f.score for f in faces],
        **dict(zip("xywh", as_array(faces).T, strict=True)),
        **{f"k{i}": points[:, i] for i in range(10)},
        "static": np.repeat(np.asarray(static, bool), lengths),
    }
    columns = {name: np.asarray(values[name], TRACKS_COLUMNS[name].to_pandas_dtype()) for name in values}
    return pd.DataFrame(columns)[[name for name in TRACKS_COLUMNS if name != "video_id"]]


def _summary(tracks: Sequence[_Track], static: Sequence[bool], num_sampled: int) -> dict[str, Any]:
    """A poster is never the main track unless there are only posters, and then it does not count as coverage either."""
    eligible = [i for i, still in enumerate(static) if not still] or list(range(len(tracks)))
    main = max(eligible, key=lambda i: tracks[i].weight(), default=None)
    covered = {frame for i in eligible for frame in tracks[i].frames}
    coverage = len(covered) / num_sampled if num_sampled else 0.0
    return {
        "face_status": "none" if main is None else face_status(coverage),
        "coverage": coverage,
        "num_sampled": num_sampled,
        "num_tracks": len(tracks),
        "main_track": main,
        "face_height": None if main is None else float(np.median(as_array(tracks[main].faces)[:, 3])),
    }


def face_status(coverage: float) -> str:
    """``ok`` from .8 on, ``few`` from .3 on, else ``none``."""
    return "ok" if coverage >= OK_COVERAGE else "few" if coverage >= FEW_COVERAGE else "none"


def whole_image_track(
    width: int, height: int, num_frames: int = 1, stride: int = 5
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The track of an image (or of a video's every frame) that is a face crop already: its box is the whole of it.

    Args:
        width: Pixels of the upright image.
        height: The same; the height of the box, so that scale 1 without a shift gives the whole image.
        num_frames: 1 for an image.
        stride: Every how many frames a row is written.

    Returns:
        Rows and summary as :class:`TrackingResult` has them, with score 1 and without points.
    """
    frames = list(range(0, num_frames, min(stride, MAX_GAP)))
    track = _Track(0, frames, [Face(0.0, 0.0, float(width), float(height), 1.0)] * len(frames))
    return _rows([track], [False]), _summary([track], [False], len(frames))
