"""A room, heads with their poses and a light in; the clean frames of a shot out, and the camera that adds its noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dfdet import seeds
from dfdet.demo.head import Array, Pose, soft_step
from dfdet.demo.render import Head, Light, face_box
from dfdet.demo.skin import strands, tinted


class Sprite:
    """A flat, soft-edged picture in head-plane units, laid onto frames by a similarity.

    Args:
        rgb: float32 (h, w, 3), 0..255.
        alpha: float32 (h, w), 0..1.
        left, top: Position of its first cell in face units.
        step: Cells per face unit.
    """

    def __init__(self, rgb: Array, alpha: Array, left: float, top: float, step: float) -> None:
        self._layers = np.dstack([rgb * alpha[..., None], alpha]).astype(np.float32)
        self._left, self._top, self._step = left, top, step

    def lay(self, frame: Array, pose: Pose, weight: float = 1.0) -> None:
        """Lays the sprite onto a frame (H, W, 3) in place, at the pose's place, scale and roll."""
        ratio = pose.scale / self._step
        cosine, sine = np.cos(pose.roll), np.sin(pose.roll)
        turn = np.array([[cosine, -sine], [sine, cosine]])
        shift = np.array([pose.x, pose.y]) + pose.scale * turn @ np.array([self._left, self._top])
        rows, columns = self._layers.shape[:2]
        corners = (ratio * turn @ np.array([[0, columns, 0, columns], [0, 0, rows, rows]])).T + shift
        limits = np.array(frame.shape[1::-1])
        left, top = np.clip(np.floor(corners.min(0)), 0, limits).astype(int).tolist()
        right, bottom = np.clip(np.ceil(corners.max(0)), 0, limits).astype(int).tolist()
        if right <= left or bottom <= top:
            return
        matrix = np.column_stack([ratio * turn, shift - (left, top)])
        layers = cv2.warpAffine(self._layers, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
        area = frame[top:bottom, left:right]
        area *= 1 - np.float32(weight) * layers[..., 3:]
        area += np.float32(weight) * layers[..., :3]


class Actor:
    """A head with its bust under one light, and where it is in every frame of a shot.

    Args:
        head: The head.
        light: The light on it.
        poses: One a frame.
        seed: Seed of hair and clothes.
    """

    def __init__(self, head: Head, light: Light, poses: Sequence[Pose], seed: int) -> None:
        self.head, self.light, self.poses = head, light, poses
        step = max(pose.scale for pose in poses)
        self._body, self._hair = _body(head, light, seed, step), _hair(head, light, seed, step)
        self._ear = _ear(head, light, step)

    def lay(self, frame: Array, index: int) -> None:
        """Paints the actor at frame ``index`` onto a frame (H, W, 3) in place."""
        pose = self.poses[index]
        self._hair.lay(frame, pose)
        self._body.lay(frame, Pose(pose.x, pose.y, pose.scale, roll=0.25 * pose.roll))
        for side in (-1, 1):
            out = side * self.head.who.width * np.cos(pose.yaw) * pose.scale
            at = (pose.x + out * np.cos(pose.roll), pose.y + out * np.sin(pose.roll))
            visible = float(soft_step(np.array(0.12 - side * pose.yaw), 25))
            self._ear.lay(frame, Pose(*at, pose.scale, roll=pose.roll), visible)
        box = face_box(pose, (frame.shape[1], frame.shape[0]))
        if not box.empty:
            patch = self.head.face(pose, self.light, box)
            area = frame[box.window]
            area += patch.alpha[..., None] * (patch.rgb - area)


@dataclass(frozen=True)
class Shot:
    """An unbroken stretch of a video: a background float32 (H, W, 3), and actors from back to front."""

    background: Array
    actors: tuple[Actor, ...]
    frames: int

    def frame(self, index: int) -> Array:
        """The clean frame ``index``: float32 (H, W, 3), 0..255, before the camera."""
        picture = self.background.copy()
        for actor in self.actors:
            actor.lay(picture, index)
        return picture


class Camera:
    """Adds a fresh field of sensor noise to every frame; more in the light than in the dark, none beyond 0..255.

    Args:
        noise: Standard deviation at middle grey, in grey levels.
        rng: Where the noise comes from.
    """

    def __init__(self, noise: float, rng: np.random.Generator) -> None:
        self.noise = noise
        self._rng = rng

    def field(self, shape: tuple[int, ...]) -> Array:
        """One field of unit noise, float32 (H, W, 1): the same for the three colours, as luma noise is."""
        return self._rng.standard_normal((*shape[:2], 1), dtype=np.float32)

    def expose(self, clean: Array, field: Array) -> Array:
        """The frame with noise, float32 (H, W, 3), 0..255."""
        deviation = self.noise * (0.6 + 0.4 / 128 * clean.mean(axis=2, keepdims=True))
        return np.clip(clean + deviation * field, 0, 255)


def background(seed: int, item: str, size: tuple[int, int]) -> Array:
    """A room out of focus: a wall with a gradient, frames and furniture; float32 (H, W, 3), 0..255."""
    rng = seeds.generator(seed, 0, item, "background")
    width, height = size
    x, y = np.meshgrid(np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32))
    angle = rng.uniform(0, 2 * np.pi)
    mix = 0.5 + 0.35 * (x * np.cos(angle) + y * np.sin(angle))[..., None]
    wall, other = _muted(rng, 90, 200), _muted(rng, 60, 170)
    picture = (wall + np.clip(mix, 0, 1) * (other - wall)).astype(np.float32)
    for _ in range(int(rng.integers(3, 7))):
        corner = rng.integers((-width // 8, -height // 8), (width, height))
        extent = rng.integers((width // 20, height // 12), (width // 3, height // 2))
        colour = _muted(rng, 30, 215).tolist()
        first, last = tuple(corner.tolist()), tuple((corner + extent).tolist())
        cv2.rectangle(picture, first, last, colour, cv2.FILLED)
        if rng.random() < 0.5:
            cv2.rectangle(picture, first, last, [0.6 * c for c in colour], max(2, height // 80))
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 2.2) * height / 240)
    grain = cv2.GaussianBlur(rng.standard_normal((height, width)).astype(np.float32), (0, 0), 1.2)
    return picture * (1 + rng.uniform(0.02, 0.07) * grain[..., None])


def _muted(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    grey = rng.uniform(low, high)
    return np.clip(grey + rng.uniform(-35, 35, 3), 15, 240)


def _plane(left: float, right: float, top: float, bottom: float, step: float) -> tuple[Array, Array]:
    x = np.arange(left, right, 1 / step, dtype=np.float32)
    y = np.arange(top, bottom, 1 / step, dtype=np.float32)
    across, down = np.meshgrid(x, y)
    return across, down


def _falloff(x: Array, y: Array, light: Light) -> Array:
    """Light on a round body seen from the front, float32 (h, w, 3)."""
    depth = np.sqrt(np.clip(1 - 0.7 * x**2 - 0.3 * y**2, 0.05, 1))
    lamp = np.array(light.direction) / np.linalg.norm(light.direction)
    lambert = np.clip(0.8 * x * lamp[0] + 0.5 * y * lamp[1] + depth * lamp[2], 0, 1)
    shade = light.ambient + light.strength * lambert
    return (shade[..., None] * np.asarray(light.tint)).astype(np.float32)


def _body(head: Head, light: Light, seed: int, step: float) -> Sprite:
    rng = seeds.generator(seed, 0, head.who.name, "clothes")
    left, top = -2.4, 0.5
    x, y = _plane(left, 2.4, top, 5.2, step)
    cloth = _muted(rng, 30, 200)
    weave = 1 + 0.06 * np.sin(2 * np.pi * rng.uniform(3, 9) * (x if rng.random() < 0.5 else y))
    rgb = weave[..., None] * cloth.astype(np.float32) * _falloff(x / 2.2, np.zeros_like(y), light)
    trunk = np.where(
        y < 3, soft_step(1 - (x / 2.05) ** 2 - ((y - 3.0) / 1.32) ** 2, 12), soft_step(2.05 - np.abs(x), 9)
    )
    throat = soft_step(0.44 + 0.08 * np.clip(y - 1.2, 0, 1) ** 2 - np.abs(x), 30) * soft_step(y - 0.6, 10)
    throat *= soft_step(1.86 - 0.5 * x**2 - y, 18)
    shadow = 0.58 + 0.3 * np.clip(y - 1.25, 0, 0.6)
    neck = tinted(head.who.skin, 1.0) * shadow[..., None] * _falloff(x / 0.5, np.zeros_like(y), light)
    rgb = rgb + throat[..., None] * (neck - rgb)
    return Sprite(rgb, np.maximum(trunk, throat), left, top, step)


def _hair(head: Head, light: Light, seed: int, step: float) -> Sprite:
    who = head.who
    left, top = -1.5, -1.8
    bottom = 2.2 if who.long_hair else 1.6
    x, y = _plane(left, 1.5, top, bottom, step)
    if who.long_hair:
        width = 1.16 + 0.08 * np.clip(y, 0, 1.4)
        shape = 1 - (x / width) ** 2 - (np.where(y < 0, y / 1.5, y / 1.85)) ** 2
    else:
        shape = 1 - (x / 1.10) ** 2 - (np.where(y < -0.1, (y + 0.1) / 1.38, (y + 0.1) / 0.85)) ** 2
    texture = strands(x, y, seed, who.name)
    alpha = soft_step(shape + 0.12 * (texture - 1), 16)
    inside = 0.55 + 0.45 * soft_step(np.hypot(x, 0.8 * y) - 0.95, 10)
    rgb = tinted(who.hair, 1.0) * (texture * inside)[..., None] * _falloff(x / 1.2, y / 1.6, light)
    return Sprite(rgb, alpha, left, top, step)


def _ear(head: Head, light: Light, step: float) -> Sprite:
    x, y = _plane(-0.24, 0.24, -0.34, 0.40, step)
    alpha = soft_step(1 - (x / 0.13) ** 2 - ((y - 0.02) / 0.25) ** 2, 9)
    dent = 1 - 0.35 * np.exp(-0.5 * ((x / 0.05) ** 2 + ((y - 0.0) / 0.12) ** 2))
    shade = 0.80 * dent[..., None] * _falloff(np.zeros_like(x), np.zeros_like(y), light)
    return Sprite(tinted(head.who.skin, (1.0, 0.93, 0.92)) * shade, alpha, -0.24, -0.34, step)
