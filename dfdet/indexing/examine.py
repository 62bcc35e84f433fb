"""One file in, its facts out: decode once in order, look for faces on the way, then judge the readers.

Runs in a child process (:mod:`dfdet.indexing.pool`): a decoder may hang or crash here and costs its file only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dfdet import files
from dfdet.faces.detector import DetectorSettings, FaceDetector, open_detector, retry_settings
from dfdet.faces.tracking import Tracker, TrackingResult, whole_image_track
from dfdet.manifest import USABLE
from dfdet.video import Media, judge, probe

Beat = Callable[[], None]


@dataclass(frozen=True)
class Task:
    """What to look at.

    Attributes:
        path: Where the file lies.
        key: Its path relative to the root, as the manifest has it.
        detector: The face detector, or None where the image is the crop (``--cropped``).
    """

    path: Path
    key: str
    detector: DetectorSettings | None


def size_of(path: Path) -> int | None:
    """Bytes; None where the file is gone or its folder cannot be entered."""
    try:
        return path.stat().st_size
    except OSError:
        return None


@cache
def _detector(settings: DetectorSettings) -> FaceDetector:
    return open_detector(settings)


def examine(task: Task, beat: Beat) -> tuple[dict[str, Any], Media]:
    """Everything but the verdict on the readers.

    Args:
        task: What to look at.
        beat: Called again and again while frames come, so that a hang can be told from work.

    Returns:
        A JSON-like record (``row``: manifest columns, ``tracks``: columns of detections), and the media facts.
    """
    try:
        return _examined(task, beat)
    except OSError as error:  # gone or forbidden since the corpus was read
        reason = f"cannot be read: {error.strerror or error}"
        row = {"num_frames": 0, "reader": "none", "status": "unreadable", "reason": reason}
        return {"row": row, "tracks": {}}, Media(kind="video", status="unreadable", reason=reason)


def _examined(task: Task, beat: Beat) -> tuple[dict[str, Any], Media]:
    media, found = _decode(task, task.detector, beat)
    row: dict[str, Any] = {"size": task.path.stat().st_size, "sha256": files.sha256(task.path)}
    retry = retry_settings(task.detector) if task.detector is not None else None
    if media.status in USABLE and found is not None and found.summary["face_status"] == "none" and retry is not None:
        _, again = _decode(task, retry, beat)
        if again is not None and again.summary["face_status"] != "none":
            found = again
            row["face_retry"] = True
    row |= media.to_row()
    tracks: dict[str, list[Any]] = {}
    if found is not None:
        row |= found.summary
        tracks = {str(name): _plain(found.rows[name].tolist()) for name in found.rows}
    return {"row": row, "tracks": tracks}, media


def verdict(task: Task, media: Media) -> dict[str, Any]:
    """The reader that was proven right for the file; may hang, so the caller keeps a clock."""
    if media.status not in USABLE or media.kind == "image":
        return {"reader": media.reader, "reader_reason": media.reader_reason}
    judged = judge(task.path, media).to_row()
    return {name: judged[name] for name in ("reader", "reader_reason", "pts_start", "pts_step", "pts")}


def _plain(values: list[Any]) -> list[Any]:
    return [None if isinstance(v, float) and v != v else v for v in values]


def _decode(task: Task, settings: DetectorSettings | None, beat: Beat) -> tuple[Media, TrackingResult | None]:
    """One pass through the file with face detection on every stride-th frame."""
    if settings is None:
        media = probe(task.path, on_frame=lambda *_: beat(), wanted=lambda index: index % 25 == 0)
        if media.status not in USABLE:
            return media, None
        return media, TrackingResult(*whole_image_track(media.width or 0, media.height or 0, media.num_frames))
    tracker = Tracker(settings)
    detector = _detector(settings)

    def look(index: int, rgb: np.ndarray) -> None:
        beat()
        tracker.add(index, rgb, detector.detect(rgb))

    media = probe(task.path, on_frame=look, wanted=lambda index: index % settings.stride == 0)
    return media, tracker.finish(media.num_frames) if media.status in USABLE else None
