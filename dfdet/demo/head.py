"""A seed and a name in; who a head is (Identity), how it is held (Pose), and its relief in face coordinates out.

Face coordinates: u to the image's right, v down, z towards the camera; the unit is half the width of a broad face, the
origin lies between the eyes' line and the nose. The recipe is the project's own (rendered 2.5-D head): an ellipsoid
that narrows towards the chin, plus Gaussians for nose, brows, cheeks, lips and chin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dfdet import seeds

Array = NDArray[Any]  # float32 throughout; the stubs of numpy and OpenCV cannot follow it
Colour = tuple[float, float, float]

HALF_HEIGHT = 1.32
SKIN_TONES = ((236, 205, 185), (224, 180, 150), (205, 160, 128), (168, 120, 90), (122, 84, 62), (245, 216, 200))
HAIR_COLOURS = ((34, 28, 24), (62, 44, 30), (104, 74, 46), (158, 124, 82), (128, 126, 124), (24, 23, 26))
IRIS_COLOURS = ((74, 50, 30), (64, 92, 110), (74, 96, 66))


@dataclass(frozen=True)
class Identity:
    """Who a head is: some twenty numbers. Lengths in face units, colours RGB 0..255."""

    name: str
    width: float
    jaw: float
    eye_x: float
    eye_y: float
    eye_width: float
    eye_height: float
    nose_width: float
    nose_tip: float
    mouth_width: float
    mouth_y: float
    lip: float
    brow: float
    brow_tilt: float
    hairline: float
    lip_red: float
    beard: float
    freckles: float
    glasses: bool
    long_hair: bool
    skin: Colour
    hair: Colour
    iris: Colour


@dataclass(frozen=True)
class Pose:
    """How a head is held in one frame.

    Args:
        x, y: Centre of the head in pixels.
        scale: Pixels per face unit.
        yaw, pitch, roll: Radians; positive yaw turns the nose to the image's right, positive pitch lowers it.
        mouth: 0 closed .. 1 wide open.
        blink: 0 open .. 1 closed.
        gaze: Sideways shift of the irises in face units.
    """

    x: float
    y: float
    scale: float
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    mouth: float = 0.0
    blink: float = 0.0
    gaze: float = 0.0


@dataclass(frozen=True)
class Grid:
    """Face coordinates of a table's cells: ``u`` and ``v`` float32 (h, w); ``step`` cells per face unit."""

    u: Array
    v: Array
    step: float

    def window(self, left: float, right: float, top: float, bottom: float) -> tuple[slice, slice]:
        """The rows and columns that cover u in [left, right] and v in [top, bottom]."""
        column = (np.clip((left, right), self.u[0, 0], self.u[0, -1]) - self.u[0, 0]) * self.step
        row = (np.clip((top, bottom), self.v[0, 0], self.v[-1, 0]) - self.v[0, 0]) * self.step
        return slice(int(row[0]), int(row[1]) + 1), slice(int(column[0]), int(column[1]) + 1)

    def cells(self, u: Array, v: Array) -> tuple[Array, Array]:
        """Column and row (fractional cells) of face coordinates, as :func:`cv2.remap` wants them."""
        return (u - self.u[0, 0]) * np.float32(self.step), (v - self.v[0, 0]) * np.float32(self.step)


@dataclass(frozen=True)
class Relief:
    """The shape of a face: depth (h, w) in face units, unit normals (h, w, 3), hollows (h, w) 0..0.5."""

    depth: Array
    normals: Array
    hollows: Array

    def towards(self, other: Relief, share: float) -> Relief:
        """The relief ``share`` of the way to another one, for a mouth between closed and open."""
        part = np.float32(share)
        return Relief(
            self.depth + part * (other.depth - self.depth),
            self.normals + part * (other.normals - self.normals),
            self.hollows + part * (other.hollows - self.hollows),
        )


def draw_identity(seed: int, name: str) -> Identity:
    """The identity that a seed gives to a name; the same on every machine."""
    rng = seeds.generator(seed, 0, name, "identity")
    skin = np.array(SKIN_TONES[rng.integers(len(SKIN_TONES))]) * rng.uniform(0.92, 1.04)
    return Identity(
        name=name,
        width=rng.uniform(0.88, 1.0),
        jaw=rng.uniform(0.16, 0.36),
        eye_x=rng.uniform(0.35, 0.42),
        eye_y=rng.uniform(-0.22, -0.14),
        eye_width=rng.uniform(0.155, 0.195),
        eye_height=rng.uniform(0.062, 0.088),
        nose_width=rng.uniform(0.85, 1.3),
        nose_tip=rng.uniform(0.25, 0.35),
        mouth_width=rng.uniform(0.25, 0.35),
        mouth_y=rng.uniform(0.60, 0.68),
        lip=rng.uniform(0.8, 1.4),
        brow=rng.uniform(0.028, 0.05),
        brow_tilt=rng.uniform(-0.06, 0.06),
        hairline=rng.uniform(-0.95, -0.74),
        lip_red=rng.uniform(0.62, 0.84),
        beard=float(rng.random() < 0.25) * rng.uniform(0.5, 0.9),
        freckles=rng.uniform(0.02, 0.05),
        glasses=bool(rng.random() < 0.2),
        long_hair=bool(rng.random() < 0.5),
        skin=_colour(skin),
        hair=_colour(np.array(HAIR_COLOURS[rng.integers(len(HAIR_COLOURS))]) * rng.uniform(0.9, 1.1)),
        iris=_colour(np.array(IRIS_COLOURS[rng.integers(len(IRIS_COLOURS))])),
    )


def _colour(values: NDArray[np.float64]) -> Colour:
    red, green, blue = np.clip(values, 0, 250).astype(float).tolist()
    return red, green, blue


def blob(u: Array, v: Array, at: tuple[float, float], spread: tuple[float, float]) -> Array:
    """A Gaussian bump of height 1 at ``at`` with standard deviations ``spread`` (face units)."""
    return np.exp(-0.5 * (((u - at[0]) / spread[0]) ** 2 + ((v - at[1]) / spread[1]) ** 2))


def soft_step(x: Array, sharpness: float = 1.0) -> Array:
    """0 far below zero, 1 far above, 1/2 at zero (logistic curve), without overflow."""
    return 0.5 + 0.5 * np.tanh(x * np.float32(0.5 * sharpness))


def grid(step: float) -> Grid:
    """The table of face coordinates with ``step`` cells per unit; it covers the head with a margin."""
    u = np.arange(-1.12, 1.12 + 1 / step, 1 / step, dtype=np.float32)
    v = np.arange(-1.42, 1.42 + 1 / step, 1 / step, dtype=np.float32)
    mesh_u, mesh_v = np.meshgrid(u, v)
    return Grid(mesh_u, mesh_v, step)


def roundness(who: Identity, u: Array, v: Array) -> Array:
    """1 at the centre, 0 on the outline of the face, negative outside."""
    half_width = who.width * (1 - who.jaw * np.clip(v / 1.3, 0, 1) ** 2)
    return 1 - (u / half_width) ** 2 - (v / HALF_HEIGHT) ** 2


def _depth(who: Identity, u: Array, v: Array, mouth: float) -> Array:
    depth = 0.85 * np.sqrt(np.clip(roundness(who, u, v), 0, None))
    along = np.clip((v - who.eye_y) / (who.nose_tip - who.eye_y), 0, 1)
    ridge = np.exp(-0.5 * (u / (0.075 * who.nose_width * (0.7 + 0.7 * along))) ** 2)
    depth += 0.30 * who.nose_width**0.3 * along**1.3 * ridge * soft_step(who.nose_tip + 0.06 - v, 45)
    for side in (-1, 1):
        depth += 0.07 * blob(u, v, (side * 0.11 * who.nose_width, who.nose_tip), (0.055, 0.05))
        depth -= 0.11 * blob(u, v, (side * who.eye_x, who.eye_y), (0.19, 0.12))
        depth += 0.035 * blob(u, v, (side * who.eye_x, who.eye_y), (0.10, 0.07))
        depth += 0.05 * blob(u, v, (side * who.eye_x, who.eye_y - 0.2), (0.22, 0.07))
        depth += 0.06 * blob(u, v, (side * 0.48, 0.25), (0.2, 0.2))
    drop = 0.1 * mouth
    depth += 0.06 * blob(u, v, (0, who.mouth_y - 0.035), (who.mouth_width * 0.6, 0.035))
    depth += 0.07 * blob(u, v, (0, who.mouth_y + 0.06 + drop), (who.mouth_width * 0.5, 0.04))
    depth -= 0.05 * blob(u, v, (0, who.mouth_y + 0.17 + drop), (0.2, 0.045))
    depth += 0.08 * blob(u, v, (0, 1.02), (0.2, 0.14))
    return depth


def relief(who: Identity, cells: Grid, mouth: float) -> Relief:
    """The relief of a face with the mouth open by ``mouth`` (0..1) on a table of face coordinates."""
    depth = _depth(who, cells.u, cells.v, mouth)
    slope_v, slope_u = np.gradient(depth, np.float32(1 / cells.step))
    normals = np.stack([-slope_u, -slope_v, np.ones_like(depth)], axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    hollows = np.clip(3 * (cv2.GaussianBlur(depth, (0, 0), 0.1 * cells.step) - depth), 0, 0.5)
    # The depth ends with a vertical wall: what lies at and outside the outline takes its normal from just inside.
    radius = np.sqrt(np.clip(1 - roundness(who, cells.u, cells.v), 1e-6, None))
    inwards = np.minimum(1, 0.96 / radius).astype(np.float32)
    columns, rows = cells.cells(cells.u * inwards, cells.v * inwards)
    normals = cv2.remap(normals.astype(np.float32), columns, rows, cv2.INTER_LINEAR)
    hollows = cv2.remap(hollows.astype(np.float32), columns, rows, cv2.INTER_LINEAR)
    return Relief(depth.astype(np.float32), normals, hollows)
