"""A noisy target frame, its pose and a head in; the same frame with a swapped face or a reenacted mouth out.

Both leave what real manipulations leave: pixels that never met the camera (no sensor noise), resampling of a generator
that works at a fixed size, a blended boundary, and a little flicker. ``strength`` says how much of each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from dfdet.demo.head import Array, Pose
from dfdet.demo.render import Box, Head, Light, face_box
from dfdet.demo.scene import Camera

GENERATOR_SIDE = 64


@dataclass(frozen=True)
class Forger:
    """A manipulation of one video.

    Args:
        head: Swap: the donor. Reenactment: the target's own head.
        light: The light in the target's footage.
        camera: Gives the noise that is added again (a share of it) to what was generated.
        strength: In (0, 1]. 1: 64-pixel generator, no noise, plain jitter. Near 0: full size, noise as in the footage.
        rng: Where the jitter comes from.
    """

    head: Head
    light: Light
    camera: Camera
    strength: float
    rng: np.random.Generator

    def swap(self, target: Array, pose: Pose) -> Array:
        """The target with the donor's face between brows and chin.

        Args:
            target: float32 (H, W, 3), 0..255.
            pose: How the target holds the head.

        Returns:
            A new frame, float32 (H, W, 3); the target itself where the head is out of the picture.
        """
        box = face_box(pose, (target.shape[1], target.shape[0]))
        jitter = self.strength * self.rng.normal(size=4)
        if box.empty:
            return target
        shaken = replace(
            pose,
            x=pose.x + 0.012 * pose.scale * jitter[0],
            y=pose.y + 0.012 * pose.scale * jitter[1],
            yaw=pose.yaw + 0.015 * jitter[2],
            roll=pose.roll + 0.012 * jitter[3],
        )
        patch = self.head.face(shaken, self.light, box)
        generated = _resample(patch.rgb, self._generator_side(patch.rgb.shape))
        softness = pose.scale * (0.03 + 0.05 * (1 - self.strength))
        mask = cv2.GaussianBlur(patch.inner, (0, 0), softness)[..., None]
        generated = _recolour(generated, target[box.window], mask, 0.75 + 0.2 * (1 - self.strength))
        return self._blend(target, box, generated, mask)

    def reenact(self, target: Array, pose: Pose, mouth: float) -> Array:
        """The target with its own mouth rendered again, opened by ``mouth`` (0..1), and softened.

        Args:
            target: float32 (H, W, 3), 0..255.
            pose: How the target holds the head.
            mouth: The new opening.
        """
        box = face_box(pose, (target.shape[1], target.shape[0]))
        if box.empty:
            return target
        patch = self.head.face(replace(pose, mouth=mouth), self.light, box)
        generated = cv2.GaussianBlur(patch.rgb, (0, 0), max(0.028 * pose.scale * self.strength, 0.1))
        mask = cv2.GaussianBlur(patch.mouth, (0, 0), 0.03 * pose.scale)[..., None]
        return self._blend(target, box, generated, mask)

    def _generator_side(self, shape: tuple[int, ...]) -> float:
        full = max(shape[:2])
        return min(full, GENERATOR_SIDE * (full / GENERATOR_SIDE) ** (1 - self.strength))

    def _blend(self, target: Array, box: Box, generated: Array, mask: Array) -> Array:
        share = 1 - self.strength
        grain = self.camera.noise * share * self.camera.field(generated.shape)
        forged = target.copy()
        area = forged[box.window]
        area += mask * (generated + grain - area)
        return np.clip(forged, 0, 255)


def _resample(picture: Array, side: float) -> Array:
    """Down to ``side`` pixels on the longer edge and back, as a generator of that size leaves a face."""
    height, width = picture.shape[:2]
    ratio = side / max(height, width)
    small = (max(2, round(width * ratio)), max(2, round(height * ratio)))
    if small == (width, height):
        return picture
    return cv2.resize(
        cv2.resize(picture, small, interpolation=cv2.INTER_AREA), (width, height), interpolation=cv2.INTER_CUBIC
    )


def _recolour(generated: Array, target: Array, mask: Array, share: float) -> Array:
    """Moves the mean colour under the mask towards the target's by ``share``, as a gain, so that shadows stay dark."""
    weight = mask / (mask.sum() + 1e-6)
    own, wanted = (generated * weight).sum((0, 1)), (target * weight).sum((0, 1))
    return generated * (1 + share * (wanted / np.maximum(own, 1) - 1)).astype(np.float32)
