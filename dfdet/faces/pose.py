"""Five face points in, the head's yaw in degrees out (reference/faces.md section 4).

Good to about 4 degrees within +-35; beyond 50 it says only "profile". Pitch cannot be had from five points.
"""

from __future__ import annotations

import numpy as np

DEGREES = 125.0  # per unit of the nose's offset, fitted on rendered heads of known pose


def yaw(points: np.ndarray) -> np.ndarray:
    """Yaw from the nose's offset along the eye axis, in eye distances, times 125 degrees.

    Args:
        points: float (..., 5, 2): right eye, left eye (the subject's), nose, right and left mouth corner, pixels.

    Returns:
        float64 (...): degrees; positive where the nose points to the right of the image, whatever the roll. NaN where
        a point is NaN or the eyes coincide.
    """
    points = np.asarray(points, np.float64)
    eyes = points[..., 1, :] - points[..., 0, :]
    others = points[..., [0, 1, 3, 4], :].mean(axis=-2)
    offset = points[..., 2, :] - others
    square = (eyes * eyes).sum(axis=-1)
    square = np.where(square > 0, square, np.nan)
    return DEGREES * (offset * eyes).sum(axis=-1) / square
