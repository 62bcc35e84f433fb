"""Raw detector output in, the common face box out; resizing a frame for detection, and overlap of boxes.

The common box is YuNet's: its height h runs from the hairline to the chin, its centre is the face's centre. The crop
rules of all papers are written in units of h, so another detector's box is mapped to this one by mean ratios that were
measured on the same faces (reference/faces.md section 2.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

CONVENTION = "xywh float32, pixels of the decoded upright frame, YuNet's centre and height, unexpanded, may leave it"
INTERPOLATION = "area when shrinking, linear when growing"

# dlib's square box in units of the common height h: its side, and how far its centre lies below the common centre
DLIB_SIDE = 0.83
DLIB_DOWN = 0.06
# mean width of YuNet's box in units of its height
WIDTH = 0.735


@dataclass(frozen=True)
class Face:
    """One detected face in the common box.

    Attributes:
        x: Left edge, pixels of the upright full-size frame; may be negative.
        y: Top edge, the same.
        w: Width, pixels.
        h: Height, pixels.
        score: The detector's confidence, on a scale of its own: YuNet 0..1, dlib the distance from its hyperplane.
        points: float32 (5, 2), x and y in pixels: the subject's right eye (left in the image), left eye, tip of the
            nose, right and left corner of the mouth. None where the detector has none.
    """

    x: float
    y: float
    w: float
    h: float
    score: float
    points: np.ndarray | None = None


def from_dlib(left: float, top: float, side: float, score: float) -> Face:
    """The common box of dlib's square one: h = side / .83, centre up by .06 h, w = .735 h.

    Args:
        left: Left edge, pixels of the full-size frame.
        top: Top edge.
        side: Side of the square.
        score: dlib's score.
    """
    h = side / DLIB_SIDE
    w = WIDTH * h
    cx, cy = left + side / 2, top + side / 2 - DLIB_DOWN * h
    return Face(cx - w / 2, cy - h / 2, w, h, score)


def resized(rgb: np.ndarray, size: int) -> tuple[np.ndarray, float, float]:
    """A frame at the detection size, and the factors that bring its coordinates back.

    All frames are brought to one long side, since boxes differ systematically with the size at which they were found.

    Args:
        rgb: uint8 (H, W, 3).
        size: Pixels of the long side.

    Returns:
        The resized frame, uint8; W / its width; H / its height.

    Raises:
        ValueError: If the frame is not uint8 (H, W, 3).
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"a frame is uint8 (H, W, 3), not {rgb.dtype} {rgb.shape}")
    height, width = rgb.shape[:2]
    scale = size / max(height, width)
    to = (max(1, round(width * scale)), max(1, round(height * scale)))
    if to != (width, height):
        rgb = cv2.resize(rgb, to, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return rgb, width / to[0], height / to[1]


def as_array(faces: Sequence[Face]) -> np.ndarray:
    """Boxes as float64 (N, 4): x, y, w, h."""
    return np.array([(f.x, f.y, f.w, f.h) for f in faces], np.float64).reshape(-1, 4)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of every box of ``a`` with every box of ``b``.

    Args:
        a: float (N, 4): x, y, w, h.
        b: float (M, 4).

    Returns:
        float64 (N, M), 0..1.
    """
    a, b = np.asarray(a, np.float64)[:, None], np.asarray(b, np.float64)[None]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=-1)
    either = np.prod(a[..., 2:], axis=-1) + np.prod(b[..., 2:], axis=-1) - both
    return both / np.maximum(either, 1e-12)
