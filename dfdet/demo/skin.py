"""An identity in; the colours of its face and hair without light (albedo) in face coordinates out.

What does not move is painted once (:func:`still`); eyes and mouth are painted for every frame into their windows
(:func:`paint_eyes`, :func:`paint_mouth`).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike

from dfdet import seeds
from dfdet.demo.head import Array, Grid, Identity, Pose, blob, soft_step


def lay(canvas: Array, weight: Array, colour: ArrayLike) -> None:
    """Paints a colour over ``canvas`` (h, w, 3) in place, with weight (h, w) clipped to 0..1."""
    canvas += np.clip(weight, 0, 1)[..., None] * (np.asarray(colour, dtype=np.float32) - canvas)


def tinted(colour: ArrayLike, factors: ArrayLike) -> Array:
    """A colour multiplied channel by channel (or as a whole), float32 (3,)."""
    return np.asarray(colour, dtype=np.float32) * np.asarray(factors, dtype=np.float32)


def strands(u: Array, v: Array, seed: int, name: str) -> Array:
    """Hair: brightness about 1 that varies across strands which fall from the crown, float32 like ``u``."""
    rng = seeds.generator(seed, 0, name, "strands")
    fine: Array = rng.standard_normal((8, 512)).astype(np.float32)
    fine = cv2.GaussianBlur(fine, (0, 0), sigmaX=0.8, sigmaY=1.2, borderType=cv2.BORDER_REFLECT)
    angle = np.arctan2(u, v + 2.0)
    wave = 0.03 * np.sin(5 * v) * np.tanh(4 * u)
    columns = (256 + 200 * (angle + wave)).astype(np.float32)
    rows = np.clip(2.5 * (v + 1.5), 0, 7).astype(np.float32)
    field = cv2.remap(fine, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.clip(1 + 0.45 * field, 0.5, 1.7)


def still(who: Identity, cells: Grid, seed: int) -> Array:
    """Everything of the albedo that does not move: skin, cheeks, brows, nostrils, beard, hairline.

    Returns:
        float32 (h, w, 3), RGB 0..255, on the table ``cells``.
    """
    u, v = cells.u, cells.v
    canvas = np.ones((*u.shape, 3), dtype=np.float32) * np.asarray(who.skin, dtype=np.float32)
    canvas *= _grain(who, u.shape, seed)[..., None]
    for side in (-1, 1):
        lay(canvas, 0.22 * blob(u, v, (side * 0.5, 0.3), (0.22, 0.2)), tinted(who.skin, (1.0, 0.72, 0.72)))
        lay(canvas, 0.30 * blob(u, v, (side * who.eye_x, who.eye_y + 0.14), (0.16, 0.05)), tinted(who.skin, 0.7))
        lay(canvas, 0.20 * blob(u, v, (side * who.eye_x, who.eye_y - 0.09), (0.2, 0.06)), tinted(who.skin, 0.6))
        nostril = (side * 0.085 * who.nose_width, who.nose_tip + 0.045)
        lay(canvas, 0.8 * blob(u, v, nostril, (0.032, 0.018)), tinted(who.skin, 0.25))
        lay(canvas, 0.25 * _nose_fold(who, side, u, v), tinted(who.skin, 0.55))
    if who.beard:
        chin = soft_step(v - 0.42 - 0.12 * np.cos(5 * u), 12)
        spare = 1 - blob(u, v, (0, who.mouth_y + 0.02), (who.mouth_width * 0.9, 0.10))
        stubble = 0.75 + 0.25 * strands(3 * u, v, seed, who.name + "/beard")
        lay(canvas, who.beard * chin * spare * stubble, tinted(who.hair, 0.9) + 12)
    hair = strands(u, v, seed, who.name)
    for side in (-1, 1):
        lay(canvas, 0.9 * _brow(who, side, u, v) * np.clip(hair, 0.7, 1.1), tinted(who.hair, 0.8))
    fringe = who.hairline + 0.24 * u**2 + 0.025 * np.sin(9 * u + 40 * who.width) + 0.05 * (hair - 1)
    temples = soft_step(np.abs(u) - 0.80 - 0.10 * soft_step(v + 0.35, 8) - 0.6 * soft_step(v - 0.1, 12), 30)
    cap = np.maximum(soft_step(fringe - v, 26), temples)
    canvas += cap[..., None] * (np.asarray(who.hair, dtype=np.float32) * hair[..., None] - canvas)
    return canvas


def _grain(who: Identity, shape: tuple[int, ...], seed: int) -> Array:
    """Pores, freckles and blotches: a factor about 1, float32 of ``shape``."""
    rng = seeds.generator(seed, 0, who.name, "grain")
    factor = np.ones(shape, dtype=np.float32)
    for sigma, amount in ((0.8, 0.45 * who.freckles), (2.5, 0.45 * who.freckles), (14.0, 0.6 * who.freckles)):
        field = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), sigma)
        factor += np.float32(amount / field.std()) * field
    return factor


def _nose_fold(who: Identity, side: int, u: Array, v: Array) -> Array:
    middle = side * (0.2 * who.nose_width + 0.5 * (v - who.nose_tip))
    reach = blob(u, v, (side * 0.28, 0.5 * (who.nose_tip + who.mouth_y)), (0.3, 0.1))
    return np.exp(-0.5 * ((u - middle) / 0.03) ** 2) * reach


def _brow(who: Identity, side: int, u: Array, v: Array) -> Array:
    outwards = (u - side * who.eye_x) * side
    height = who.eye_y - 0.21 - who.brow_tilt * outwards + 0.45 * (outwards - 0.05) ** 2
    thickness = who.brow * np.clip(1.05 - 1.4 * outwards, 0.5, 1.3)
    return np.exp(-0.5 * ((v - height) / thickness) ** 2) * soft_step(0.24 - np.abs(outwards), 26)


def paint_eyes(canvas: Array, who: Identity, cells: Grid, pose: Pose) -> None:
    """Paints both eyes (and glasses) for one frame into the albedo in place."""
    for side in (-1, 1):
        centre = side * who.eye_x
        window = cells.window(centre - 0.34, centre + 0.34, who.eye_y - 0.26, who.eye_y + 0.30)
        _paint_eye(canvas[window], who, cells.u[window] - centre, cells.v[window] - who.eye_y, pose)


def _paint_eye(canvas: Array, who: Identity, u: Array, v: Array, pose: Pose) -> None:
    opening = who.eye_height * max(0.06, 1 - pose.blink)
    across = u / who.eye_width
    arch = opening * np.sqrt(np.clip(1 - across**2, 0, 1))
    white = soft_step(1 - across**2 - (v / opening) ** 2 * (1 + 0.4 * across**2), 9)
    shade = 1 - 0.35 * np.exp(-0.5 * ((v + arch) / 0.03) ** 2)
    lay(canvas, white * shade, (226, 220, 214))
    radius = np.hypot(u - pose.gaze, v)
    lay(canvas, white * soft_step(0.074 - radius, 90), tinted(who.iris, 1.0))
    lay(canvas, white * soft_step(0.036 - radius, 110), (10, 9, 9))
    lay(canvas, white * soft_step(0.014 - np.hypot(u - pose.gaze + 0.025, v + 0.028), 160), (255, 255, 255))
    lid = np.exp(-0.5 * ((v + arch) / 0.018) ** 2) * soft_step(1.05 - np.abs(across), 14)
    lay(canvas, 0.85 * lid, (34, 24, 22))
    crease = np.exp(-0.5 * ((v + who.eye_height * 1.6) / 0.018) ** 2) * soft_step(1 - np.abs(across), 8)
    lay(canvas, 0.35 * crease, tinted(who.skin, 0.5))
    lower = np.exp(-0.5 * ((v - arch) / 0.014) ** 2) * soft_step(0.95 - np.abs(across), 14)
    lay(canvas, 0.35 * lower, tinted(who.skin, 0.45))
    if who.glasses:
        rim = np.abs(np.hypot(u / 0.25, (v - 0.03) / 0.19) - 1)
        lay(canvas, 0.85 * np.exp(-0.5 * (rim / 0.065) ** 2), (26, 24, 26))


def paint_mouth(canvas: Array, who: Identity, cells: Grid, mouth: float) -> None:
    """Paints lips, the dark of an open mouth and the upper teeth for one frame into the albedo in place."""
    window = cells.window(-0.5, 0.5, who.mouth_y - 0.2, who.mouth_y + 0.36)
    area, u, v = canvas[window], cells.u[window], cells.v[window] - who.mouth_y
    red = tinted(who.skin, (0.88, 0.84 * who.lip_red, 0.86 * who.lip_red))
    upper = soft_step(1 - (u / who.mouth_width) ** 2 - ((v + 0.03 - 0.02 * np.cos(14 * u)) / (0.05 * who.lip)) ** 2, 6)
    lay(area, 0.9 * upper, 0.9 * red)
    lower_width = who.mouth_width * 0.9
    lower = soft_step(1 - (u / lower_width) ** 2 - ((v - 0.05 - 0.10 * mouth) / (0.06 * who.lip)) ** 2, 6)
    lay(area, 0.9 * lower, red)
    gape = 0.012 + 0.075 * mouth
    gape_width = who.mouth_width * (0.96 - 0.25 * mouth)
    dark = soft_step(1 - (u / gape_width) ** 2 - ((v - 0.01 - 0.05 * mouth) / gape) ** 2, 8)
    lay(area, dark, (52, 22, 22))
    if mouth > 0.25:
        teeth = soft_step(1 - (u / (who.mouth_width * 0.55)) ** 2 - ((v + 0.005) / 0.022) ** 2, 8)
        lay(area, min(1.0, 4 * (mouth - 0.25)) * 0.8 * teeth * dark, (222, 216, 206))
