"""Noise networks (Li et al.): the noise of a clip of face crops in, one logit out. See networks/noise.py."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from dfdet.data.batch import ClipBatch
from dfdet.detectors.clips import ClipDetector
from dfdet.errors import UserError
from dfdet.networks.noise import Noise3D, NoiseGRU, Residual


class Noise3DDetector(ClipDetector):
    """The 3-D CNN on the noise of 20 frames.

    Args:
        frames: T, frames a clip; matters for ``flatten`` alone.
        size: S, side of the crop in pixels.
        head: ``gap``: global average pooling, for any number of frames, or ``flatten``; the paper names both.
        residual: The noise: ``signed`` differences to the blur, their ``abs``, or ``uint8_wrap``, which is probably
            what the paper computed.
        kernel: Side of the blur in pixels, odd.
        sigma: Its standard deviation in pixels.
        kwargs: Everything of ClipDetector.
    """

    std = (1 / 255, 1 / 255, 1 / 255)  # the noise is that of 0..255

    def __init__(
        self,
        frames: int = 20,
        size: int = 100,
        head: Literal["gap", "flatten"] = "gap",
        residual: Residual = "signed",
        kernel: int = 3,
        sigma: float = 0.8,
        **kwargs: Any,
    ) -> None:
        network = Noise3D(frames=frames, size=size, head=head, residual=residual, kernel=kernel, sigma=sigma)
        super().__init__(network=network, input_size=size, **kwargs)
        self.input_frames = frames
        self.head = head

    def forward(self, batch: ClipBatch) -> Tensor:
        """Clip logits (B,)."""
        frames = batch.video.shape[1]
        if self.head == "flatten" and frames != self.input_frames:
            raise UserError(
                f"data.clip.frames is {frames}, but the detector was built for {self.input_frames}",
                f"set --model.frames {frames}, or take --model.head gap",
            )
        return super().forward(batch)


class NoiseGRUDetector(ClipDetector):
    """The GRU on the mean noise of each of 20 frames.

    Args:
        size: S, side of the crop in pixels.
        hidden: Width of the GRU.
        residual: The noise: ``abs`` differences to the blur, ``signed`` ones, whose mean is next to 0, or
            ``uint8_wrap``, which is probably what the paper computed.
        kernel: Side of the blur in pixels, odd.
        sigma: Its standard deviation in pixels.
        kwargs: Everything of ClipDetector.
    """

    std = (1 / 255, 1 / 255, 1 / 255)  # the noise is that of 0..255
    input_frames = 20

    def __init__(
        self,
        size: int = 100,
        hidden: int = 32,
        residual: Residual = "abs",
        kernel: int = 3,
        sigma: float = 0.8,
        **kwargs: Any,
    ) -> None:
        network = NoiseGRU(hidden=hidden, residual=residual, kernel=kernel, sigma=sigma)
        super().__init__(network=network, input_size=size, **kwargs)
