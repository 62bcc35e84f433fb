"""A crop's geometry and a map on the crop in, the map on the whole frame out."""

from __future__ import annotations

import cv2
import numpy as np

from dfdet.data.crop import CropPlan


def on_frame(plan: CropPlan, t: int, heat: np.ndarray) -> np.ndarray:
    """A map of the crop of frame ``t``, laid where the crop was cut.

    Args:
        plan: The clip's geometry.
        t: Which frame of the clip, 0..T-1.
        heat: float32 (h, w), of any size; it covers the whole crop.

    Returns:
        float32 (H, W) of the frame, 0 outside the crop.
    """
    size = plan.spec.size
    heat = resized(heat, size)
    if plan.matrix is not None:
        # the matrix speaks of continuous coordinates, in which pixel i covers [i, i + 1)
        pixels = plan.matrix.copy()
        pixels[:, 2] += pixels[:, :2] @ np.full(2, 0.5) - 0.5
        whole = cv2.warpAffine(heat, pixels, (plan.frame_width, plan.frame_height), flags=cv2.INTER_LINEAR)
        return np.asarray(whole, np.float32)
    left, top, side = (int(v) for v in plan.squares[t])
    x, y, width, height = plan.region(t)
    square = resized(heat, side)
    frame = np.zeros((plan.frame_height, plan.frame_width), np.float32)
    frame[y : y + height, x : x + width] = square[y - top : y - top + height, x - left : x - left + width]
    return frame


def corners(plan: CropPlan, t: int) -> np.ndarray:
    """The four corners of the crop of frame ``t`` in the frame, float (4, 2), pixels, in the order of a walk."""
    size = float(plan.spec.size)
    if plan.matrix is not None:
        square = np.array([[0, 0], [size, 0], [size, size], [0, size]])
        return np.asarray(square @ plan.matrix[:, :2].T + plan.matrix[:, 2])
    x, y, side = plan.squares[t].tolist()
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], np.float64)


def resized(heat: np.ndarray, side: int) -> np.ndarray:
    """A map, brought to side x side; what shrinks is averaged."""
    if heat.shape == (side, side):
        return heat
    how = cv2.INTER_AREA if max(heat.shape) > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(heat, (side, side), interpolation=how), np.float32)
