"""The dense box path of a clip's frames goes in; the same square of every frame comes out, uint8 (S, S, 3).

Geometry is decided once a clip by :func:`plan` and carried out frame by frame by :func:`apply`. One constant square a
clip is the default because the jitter of per-frame boxes alone tells real from fake (reference faces.md §3: AUC .91).

Coordinates are continuous: pixel i covers [i, i+1), so a box that covers a whole W x H frame has its centre at
(W/2, H/2). Boxes are the project's common ones: a centre and a height h (DESIGN.md, "Box").
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from dfdet.data.crop_rule import CropSpec
from dfdet.errors import UserError
from dfdet.video import Region

Floats = npt.NDArray[np.float64]

# ArcFace's five points on a 112 x 112 crop, in the order of the tracks' points: the eye on the image's left, the other
# eye, nose tip, mouth corner on the image's left, the other one.
ARCFACE = np.array([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]]) / 112
# An upright face has .33 h between its eyes; below this it is a profile of some 50 degrees and more, where a
# similarity would blow the crop up (faces.md §4).
PROFILE_EYES = 0.2
# MesoNet's K in pipeline.py: the side before its margin of 1.3.
MESONET_SIDE = 2.2
# Eye-mouth distance of a face in heights of its box: what stands for the landmarks where "upright" has none.
EYES_TO_MOUTH = 0.355
# What cubic interpolation reads around a point.
REACH = 3
# Side of the blocks of JPEG, and of most transforms of video codecs.
GRID = 8


@dataclass(frozen=True)
class CropPlan:
    """Where each frame of one clip is cut. Made by :func:`plan`.

    Attributes:
        spec: The rule.
        frame_width: Width of the frames that it is for, pixels.
        frame_height: Height of the frames, pixels.
        squares: int64 (T, 3): x, y and side of each frame's square in pixels; it may leave the frame.
        matrix: float64 (2, 3) from the crop's to the frame's continuous coordinates, or None where nothing is rotated.
        pad: Share of the crop that lies outside the frame, mean over the clip, 0..1.
    """

    spec: CropSpec
    frame_width: int
    frame_height: int
    squares: npt.NDArray[np.int64]
    matrix: Floats | None
    pad: float

    @property
    def flags(self) -> dict[str, float]:
        """``pad``: share outside the frame; ``aligned``: 1 where the landmarks were used, 0 where the box was."""
        return {"pad": self.pad, "aligned": float(self.matrix is not None)}

    def region(self, t: int) -> Region:
        """The part (x, y, w, h) of frame ``t`` that its crop is made of, whole pixels inside the frame.

        Cutting it out first and calling :func:`apply_region` gives what :func:`apply` gives.
        """
        if self.matrix is None:
            x, y, side = (int(v) for v in self.squares[t])
            x0, x1 = _overlap(x, x + side, self.frame_width)
            y0, y1 = _overlap(y, y + side, self.frame_height)
            return x0, y0, x1 - x0, y1 - y0
        corners = _corners(self.spec.size) @ self.matrix[:, :2].T + self.matrix[:, 2]
        low = np.floor(corners.min(0)).astype(int) - REACH
        high = np.ceil(corners.max(0)).astype(int) + REACH
        mirrored = self.spec.pad == "reflect"
        x0, x1 = _overlap(int(low[0]), int(high[0]), self.frame_width, mirrored)
        y0, y1 = _overlap(int(low[1]), int(high[1]), self.frame_height, mirrored)
        return x0, y0, x1 - x0, y1 - y0


def plan(
    spec: CropSpec,
    cx: npt.ArrayLike,
    cy: npt.ArrayLike,
    h: npt.ArrayLike,
    points: npt.ArrayLike | None,
    frame_width: int,
    frame_height: int,
    window: tuple[float, float] | None = None,
) -> CropPlan:
    """Decides where a clip is cut.

    Args:
        spec: The rule.
        cx: Centres of the face boxes, pixels, (T,).
        cy: The same, downwards.
        h: Heights of the face boxes, pixels, (T,). Their 90th percentile is the clip's height.
        points: Landmarks (T, 5, 2) in pixels, NaN where a frame has none; None where the face detector has none at all.
        frame_width: Width of the frames, pixels.
        frame_height: Height of the frames, pixels.
        window: Only for ``native`` and ``native_grid8``: where in [0, 1]^2 the window lies inside a face crop that is
            larger; drawn at random in training, (.5, .5) = None in evaluation. Along an axis where the crop is smaller
            it is centred.

    Raises:
        UserError: The rule needs landmarks, which this track's face detector does not give.
        ValueError: The boxes are not finite, or empty.
    """
    boxes = np.stack([np.asarray(v, dtype=np.float64).reshape(-1) for v in (cx, cy, h)], axis=1)
    if len(boxes) == 0 or not np.isfinite(boxes).all() or boxes[:, 2].min() <= 0:
        raise ValueError("a clip's boxes must be finite and higher than 0")
    if spec.align != "none" and points is None:
        raise UserError(
            f"crop align={spec.align!r} needs landmarks, which the face detector of this index does not give",
            "index with the detector yunet, or choose a crop without alignment",
        )
    height = float(np.percentile(boxes[:, 2], 90))
    matrix = None
    if points is not None and spec.align != "none":
        matrix = _matrix(spec, np.asarray(points, dtype=np.float64).reshape(-1, 5, 2), height)
    squares = _squares(spec, boxes, height, frame_width, frame_height, window)
    pad = (
        _outside_squares(squares, frame_width, frame_height)
        if matrix is None
        else _outside_matrix(matrix, spec.size, frame_width, frame_height)
    )
    return CropPlan(spec, frame_width, frame_height, squares, matrix, pad)


def apply(plan: CropPlan, t: int, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The crop of one whole frame.

    Args:
        plan: The clip's geometry.
        t: Which frame of the clip it is, 0..T-1.
        frame: uint8 (H, W, 3), any order of colours, of the size that the plan was made for.

    Returns:
        uint8 (S, S, 3). Shrunk by a triangle filter as wide as the pixels that fall into one (Pillow's BILINEAR),
        enlarged by cubic interpolation, copied where neither is needed.
    """
    if frame.shape[:2] != (plan.frame_height, plan.frame_width):
        raise ValueError(
            f"a frame of {frame.shape[1]}x{frame.shape[0]} meets a plan for {plan.frame_width}x{plan.frame_height}"
        )
    x, y, width, height = plan.region(t)
    return apply_region(plan, t, frame[y : y + height, x : x + width])


def apply_region(plan: CropPlan, t: int, patch: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The crop of one frame of which only ``plan.region(t)`` was converted: uint8 (h, w, 3) in, (S, S, 3) out."""
    x, y, width, height = plan.region(t)
    if patch.shape[:2] != (height, width):
        raise ValueError(f"region {t} of the plan is {width}x{height}, not {patch.shape[1]}x{patch.shape[0]}")
    border = cv2.BORDER_CONSTANT if plan.spec.pad == "zero" else cv2.BORDER_REFLECT_101
    if plan.matrix is not None:
        return _warp(patch, plan.matrix - np.array([[0, 0, x], [0, 0, y]]), plan.spec.size, border)
    left, top, side = (int(v) for v in plan.squares[t])
    edges = (y - top, top + side - y - height, x - left, left + side - x - width)
    if any(edges):
        patch = np.asarray(cv2.copyMakeBorder(patch, *edges, border, value=(0, 0, 0)), dtype=np.uint8)
    return _resize(patch, plan.spec.size)


def _squares(
    spec: CropSpec, boxes: Floats, height: float, width: int, depth: int, window: tuple[float, float] | None
) -> npt.NDArray[np.int64]:
    unit = MESONET_SIDE * EYES_TO_MOUTH if spec.align == "upright" else 1.0
    side = max(1, _whole(spec.scale * unit * height))
    centres = boxes[:, :2] + [0.0, spec.shift_y * height]
    if spec.box == "constant":
        centres = np.repeat(centres.mean(0, keepdims=True), len(boxes), axis=0)
    corners = np.floor(centres - side / 2 + 0.5).astype(np.int64)
    corners = _inside(corners, side, width, depth)
    if spec.mode != "resize":
        place = np.asarray(window or (0.5, 0.5), dtype=np.float64)
        if not ((place >= 0) & (place <= 1)).all():
            raise ValueError(f"window {window} lies outside [0, 1]^2")
        room = side - spec.size
        corners = corners + np.floor(room * (place if room > 0 else 0.5) + 0.5).astype(np.int64)
        side = spec.size
        corners = _inside(corners, side, width, depth)
        if spec.mode == "native_grid8":
            # towards the frame's corner: what lies inside the frame stays inside, what covers it covers it
            corners = np.sign(corners) * (np.abs(corners) // GRID * GRID)
    return np.concatenate([corners, np.full((len(corners), 1), side, dtype=np.int64)], axis=1)


def _inside(corners: npt.NDArray[np.int64], side: int, width: int, height: int) -> npt.NDArray[np.int64]:
    """Shifts squares into the frame; along an axis on which one does not fit, until it covers the frame."""
    limits = np.array([width - side, height - side])
    return np.clip(corners, np.minimum(limits, 0), np.maximum(limits, 0))


def _matrix(spec: CropSpec, points: Floats, height: float) -> Floats | None:
    """Crop to frame from the mean of the clip's landmarks; None where they do not carry it and the box has to."""
    seen = points[np.isfinite(points).all((1, 2))]
    if len(seen) == 0:
        return None
    mean = seen.mean(0)
    eyes, mouth = mean[:2].mean(0), mean[3:].mean(0)
    apart, along = float(np.linalg.norm(mean[1] - mean[0])), float(np.linalg.norm(mouth - eyes))
    if spec.align == "similarity":
        if apart < PROFILE_EYES * height:
            return None
        template = (ARCFACE - 0.5) / spec.scale + 0.5 - [0.0, spec.shift_y / spec.scale]
        return _similarity(template * spec.size, mean)
    if along < PROFILE_EYES * height:
        return None
    side = spec.scale * MESONET_SIDE * max(apart, along)
    down = (mouth - eyes) / along
    turn = np.array([[down[1], down[0]], [-down[0], down[1]]])
    centre = mean[2] + spec.shift_y * height * down
    linear = turn * (side / spec.size)
    return np.concatenate([linear, (centre - linear @ np.full(2, spec.size / 2))[:, None]], axis=1)


def _similarity(source: Floats, target: Floats) -> Floats:
    """The rotation, scale and shift (2, 3) that maps points onto points with the least squared error."""
    a, b = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    p, q = a - a.mean(), b - b.mean()
    factor = (p.conj() * q).sum() / (np.abs(p) ** 2).sum()
    shift = b.mean() - factor * a.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def _warp(patch: npt.NDArray[np.uint8], matrix: Floats, size: int, border: int) -> npt.NDArray[np.uint8]:
    # warpAffine does not average when it shrinks: it is asked for a whole multiple, finer than the frame (where linear
    # interpolation is as good as cubic and three times as fast), which is then shrunk.
    times = max(1, int(np.ceil(np.hypot(*matrix[:, 0]) - 1e-6)))
    pixels = matrix / np.array([times, times, 1.0])
    pixels[:, 2] += pixels[:, :2] @ np.full(2, 0.5) - 0.5
    how = cv2.INTER_CUBIC if times == 1 else cv2.INTER_LINEAR
    wanted = (size * times, size * times)
    warped = cv2.warpAffine(patch, pixels, wanted, flags=how | cv2.WARP_INVERSE_MAP, borderMode=border)
    return _resize(np.asarray(warped, dtype=np.uint8), size)


def _resize(image: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    side = image.shape[0]
    if side == size:
        return np.ascontiguousarray(image)
    if side < size:
        return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    # OpenCV's area filter takes four times as long where the factor is no whole number
    whole = torch.from_numpy(np.ascontiguousarray(image))[None].permute(0, 3, 1, 2)
    shrunk = F.interpolate(whole, (size, size), mode="bilinear", antialias=True)
    return np.ascontiguousarray(shrunk.permute(0, 2, 3, 1)[0].numpy())


def _overlap(low: int, high: int, length: int, mirrored: bool = False) -> tuple[int, int]:
    """[low, high) cut to [0, length), never empty; mirrored: with what its mirror image outside the frame shows."""
    if mirrored:
        low, high = min(low, 2 * length - high - 2), max(high, -low + 2)
    low = min(max(low, 0), length - 1)
    return low, max(min(high, length), low + 1)


def _outside_squares(squares: npt.NDArray[np.int64], width: int, height: int) -> float:
    x, y, side = squares.T
    across = np.clip(np.minimum(x + side, width) - np.maximum(x, 0), 0, None)
    down = np.clip(np.minimum(y + side, height) - np.maximum(y, 0), 0, None)
    return float((1 - across * down / (side * side)).mean())


def _outside_matrix(matrix: Floats, size: int, width: int, height: int) -> float:
    """Counted on a lattice of 64 x 64 points of the crop."""
    ticks = (np.arange(64) + 0.5) * size / 64
    lattice = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2) @ matrix[:, :2].T + matrix[:, 2]
    inside = ((lattice >= 0) & (lattice <= [width, height])).all(1)
    return float(1 - inside.mean())


def _corners(size: int) -> Floats:
    return np.array([[0, 0], [size, 0], [0, size], [size, size]], dtype=np.float64)


def _whole(value: float) -> int:
    return int(np.floor(value + 0.5))
