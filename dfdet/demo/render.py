"""A head, a pose and a light in; the pixels of its face and the masks that a forger needs out."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dfdet.demo import skin
from dfdet.demo.head import Array, Identity, Pose, Relief, blob, grid, relief, roundness, soft_step

SOLVER_STEPS = 6


@dataclass(frozen=True)
class Light:
    """One lamp and its surroundings.

    Args:
        direction: From the head to the lamp: image right, down, towards the camera; any length.
        ambient: Light from everywhere, as a share of white.
        strength: The lamp's own share.
        tint: Factors of red, green and blue.
    """

    direction: tuple[float, float, float] = (-0.35, -0.45, 0.85)
    ambient: float = 0.38
    strength: float = 0.58
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels inside a frame, half-open."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def empty(self) -> bool:
        """Whether no pixel lies inside."""
        return self.right - self.left < 8 or self.bottom - self.top < 8

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns, to index an image."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True)
class FacePatch:
    """A rendered face inside a box: ``rgb`` float32 (h, w, 3) 0..255; masks float32 (h, w) 0..1.

    ``alpha`` is where the face covers what is behind it, ``inner`` brows to chin (what a swap replaces), ``mouth`` the
    mouth and its surroundings (what a reenactment replaces).
    """

    box: Box
    rgb: Array
    alpha: Array
    inner: Array
    mouth: Array


def face_box(pose: Pose, size: tuple[int, int]) -> Box:
    """The part of a frame of ``size`` (width, height) that a head at ``pose`` can cover with its face."""
    reach_x, reach_y = 1.25 * pose.scale, 1.5 * pose.scale
    left, right = np.clip((pose.x - reach_x, pose.x + reach_x), 0, size[0]).astype(int).tolist()
    top, bottom = np.clip((pose.y - reach_y, pose.y + reach_y), 0, size[1]).astype(int).tolist()
    return Box(left, top, right, bottom)


class Head:
    """An identity with all that is the same in every frame: relief with closed and with open mouth, still albedo.

    Args:
        who: The identity.
        seed: Seed of its grain and hair.
        scale: The largest number of pixels per face unit that it will be rendered at.
    """

    def __init__(self, who: Identity, seed: int, scale: float) -> None:
        self.who = who
        self.seed = seed
        self.cells = grid(1.5 * scale)
        self._closed = relief(who, self.cells, 0.0)
        self._open = relief(who, self.cells, 1.0)
        self._still = skin.still(who, self.cells, seed)

    def face(self, pose: Pose, light: Light, box: Box) -> FacePatch:
        """Renders the face into a box (not empty) of the frame."""
        shape = self._closed.towards(self._open, pose.mouth)
        across, down = head_plane(pose, box)
        u, v = _surface_under(across, down, shape.depth, self, pose)
        columns, rows = self.cells.cells(u, v)
        rgb = cv2.remap(self._lit(shape, pose, light), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        outline = soft_step(roundness(self.who, u, v), 22)
        alpha = cv2.GaussianBlur(outline.astype(np.float32), (0, 0), 0.8)
        inner = soft_step(1 - (u / 0.74) ** 2 - ((v - 0.18) / 0.86) ** 2, 7) * alpha
        mouth = np.clip(1.6 * blob(u, v, (0, self.who.mouth_y + 0.04), (0.27, 0.17)), 0, 1) * alpha
        return FacePatch(box, rgb, alpha, inner, mouth)

    def _lit(self, shape: Relief, pose: Pose, light: Light) -> Array:
        """Albedo times light on the table, float32 (h, w, 3)."""
        albedo = self._still.copy()
        skin.paint_mouth(albedo, self.who, self.cells, pose.mouth)
        skin.paint_eyes(albedo, self.who, self.cells, pose)
        lamp = _unit(np.array(light.direction))
        halfway = _unit(lamp + np.array([0.0, 0.0, 1.0]))
        turn = rotation(pose)
        lambert = np.clip(shape.normals @ (turn.T @ lamp).astype(np.float32), 0, 1)
        gloss = np.clip(shape.normals @ (turn.T @ halfway).astype(np.float32), 0, 1)
        highlight = ((gloss**2) ** 2) ** 4  # a power of 16, by squares: np.power is ten times slower
        shade = (light.ambient + light.strength * lambert) * (1 - shape.hollows) + 0.08 * highlight
        return albedo * shade[..., None] * np.asarray(light.tint, dtype=np.float32)


def rotation(pose: Pose) -> np.ndarray:
    """The rotation from face to image axes, float64 (3, 3)."""
    cos_yaw, sin_yaw = np.cos(pose.yaw), np.sin(pose.yaw)
    cos_pitch, sin_pitch = np.cos(pose.pitch), np.sin(pose.pitch)
    cos_roll, sin_roll = np.cos(pose.roll), np.sin(pose.roll)
    turn = np.array([[cos_yaw, 0, sin_yaw], [0, 1, 0], [-sin_yaw, 0, cos_yaw]])
    nod = np.array([[1, 0, 0], [0, cos_pitch, sin_pitch], [0, -sin_pitch, cos_pitch]])
    tilt = np.array([[cos_roll, -sin_roll, 0], [sin_roll, cos_roll, 0], [0, 0, 1]])
    return tilt @ nod @ turn


def head_plane(pose: Pose, box: Box) -> tuple[Array, Array]:
    """Position of each pixel of a box relative to the head, roll undone, in face units: two float32 (h, w)."""
    x = ((np.arange(box.left, box.right) - pose.x) / pose.scale).astype(np.float32)
    y = ((np.arange(box.top, box.bottom) - pose.y) / pose.scale).astype(np.float32)
    cos_roll, sin_roll = np.float32(np.cos(pose.roll)), np.float32(np.sin(pose.roll))
    across, down = np.meshgrid(x, y)
    return across * cos_roll + down * sin_roll, down * cos_roll - across * sin_roll


def _surface_under(across: Array, down: Array, depth: Array, head: Head, pose: Pose) -> tuple[Array, Array]:
    """Face coordinates of the surface point under each pixel, by damped fixed-point steps (good to +-35 degrees)."""
    cos_yaw, sin_yaw = np.float32(np.cos(pose.yaw)), np.float32(np.sin(pose.yaw))
    cos_pitch, sin_pitch = np.float32(np.cos(pose.pitch)), np.float32(np.sin(pose.pitch))
    u, v = across, down
    for _ in range(SOLVER_STEPS):
        z = cv2.remap(depth, *head.cells.cells(u, v), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        u, v = (
            0.5 * (u + (across - sin_yaw * z) / cos_yaw),
            0.5 * (v + (down - sin_pitch * (cos_yaw * z - sin_yaw * u)) / cos_pitch),
        )
    return u, v


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
