"""RGB clips 0..255 (B, T, 3, S, S) with a mask go in, logits (B,) come out: noise residuals, a 3-D CNN and a GRU.

Li et al. (paper 001), sec. III: the difference between a face and its Gaussian blur, averaged over the colours, of 20
faces at 100 pixels, one every 5 frames; a 3-D CNN on the (20, 100, 100) differences, or a GRU on the 20 means.

The paper is silent about the blur (ours: 3 x 3, sigma .8, mirrored border, as OpenCV mirrors it), about kernels and
pools (3 x 3 x 3, padded to keep the size; 2 x 2 x 2) and the GRU's width (32). The per-face values that it prints,
49-55, are no mean of signed differences: those are below .1. Subtraction of uint8 arrays that wraps around gives
30-120, the share of negative pixels times 256, and is the likely original: ``uint8_wrap``. The default is the
difference itself, without the trap; the GRU, whose mean of it would be empty, takes its absolute value.

A clip's missing frames stand behind those that are there, as ``ClipBatch`` pads them; what they show changes nothing.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Residual = Literal["signed", "abs", "uint8_wrap"]
# Grey levels that make a 1 in the networks: a residual's usual size, or the range of the wrapped one. Our choice.
SCALE: dict[str, float] = {"signed": 10.0, "abs": 10.0, "uint8_wrap": 255.0}


def gaussian(kernel: int, sigma: float) -> list[float]:
    """The weights of a Gaussian of ``kernel`` pixels, whose sum is 1."""
    weights = [math.exp(-((i - kernel // 2) ** 2) / (2 * sigma**2)) for i in range(kernel)]
    return [weight / sum(weights) for weight in weights]


def fixed_point(weights: list[float]) -> list[int]:
    """The weights in 256ths, whose sum is 256, as OpenCV rounds them for uint8 pictures.

    From the outside in; what rounding one leaves over goes to the next, and the middle takes the rest.
    """
    half: list[int] = []
    left = 0.0
    for weight in weights[: len(weights) // 2]:
        exact = 256 * weight + left
        half.append(round(exact))
        left = exact - half[-1]
    return [*half, 256 - 2 * sum(half), *reversed(half)]


def _blurred(images: Tensor, weights: list[float] | list[int]) -> Tensor:
    """The weighted sums along both axes of float (N, 3, H, W), mirrored at the border."""
    margin = len(weights) // 2
    height, width = images.shape[-2:]
    # sums of shifted pictures, not a convolution: in TF32 that would round its operands
    padded = F.pad(images, (margin, margin, margin, margin), mode="reflect")
    across = sum(weight * padded[..., i : i + width] for i, weight in enumerate(weights))
    assert isinstance(across, Tensor)
    down = sum(weight * across[..., i : i + height, :] for i, weight in enumerate(weights))
    assert isinstance(down, Tensor)
    return down


def check_residual(kind: str, kernel: int, sigma: float) -> None:
    """Raises ValueError if :func:`residual` cannot be had in this way."""
    if kind not in SCALE:
        raise ValueError(f"residual={kind!r} is none of {', '.join(SCALE)}")
    if kernel % 2 == 0 or kernel < 3 or sigma <= 0:
        raise ValueError(f"a blur of {kernel} pixels and sigma {sigma} cannot be made: odd, at least 3, above 0")


def residual(images: Tensor, kind: Residual = "signed", kernel: int = 3, sigma: float = 0.8) -> Tensor:
    """Noise of pictures: each minus its Gaussian blur, averaged over the colours; in float32 also under autocast.

    Args:
        images: RGB 0..255, (..., 3, H, W), any real dtype. For ``uint8_wrap`` they are rounded.
        kind: ``signed``: the mean of the colours' differences; ``abs``: of their absolute values; ``uint8_wrap``: of
            what numpy's uint8 subtraction of OpenCV's uint8 blur gives, where -1 is 255.
        kernel: Side of the blur in pixels, odd.
        sigma: Its standard deviation in pixels.

    Returns:
        float32 (..., H, W), in grey levels.

    Raises:
        ValueError: Another shape, an unknown kind, or a kernel that is even or too large for the pictures.
    """
    if images.ndim < 4 or images.shape[-3] != 3:
        raise ValueError(f"noise is taken of (..., 3, H, W), not {tuple(images.shape)}")
    check_residual(kind, kernel, sigma)
    if min(images.shape[-2:]) <= kernel // 2:
        raise ValueError(f"pictures of {tuple(images.shape[-2:])} are too small for a blur of {kernel} pixels")
    with torch.autocast(images.device.type, enabled=False):
        flat = images.float().flatten(0, -4)
        weights = gaussian(kernel, sigma)
        if kind == "signed":  # a difference to a linear blur: the same, at a third of the work
            flat = flat.mean(1, keepdim=True)
        if kind == "uint8_wrap":
            flat = flat.round()
            # sums stay below 2^24, where float32 is exact; the half rounds as OpenCV does
            blurred = torch.floor((_blurred(flat, fixed_point(weights)) + 2**15) / 2**16)
            difference = torch.remainder(flat - blurred, 256)
        else:
            difference = flat - _blurred(flat, weights)
            difference = difference.abs() if kind == "abs" else difference
        return difference.mean(1).unflatten(0, images.shape[:-3])


def _there(mask: Tensor, logit: Tensor) -> Tensor:
    """Logits (B,), 0 and without a gradient where a clip has no frame."""
    return torch.where(mask.any(1), logit, 0.0)


class Noise3D(nn.Module):
    """Noise residuals, Conv3d 20, tanh, pooling, Conv3d 16, ReLU, Conv3d 8, ReLU, one linear layer.

    12,689 parameters with ``head="gap"``, 212,681 with ``flatten`` at 20 frames of 100 pixels. With ``gap``, a short
    clip gives what it would give without its padding.

    Args:
        frames: T of the clips; matters for ``flatten`` alone.
        size: Side S of the frames, pixels; matters for ``flatten`` alone.
        head: ``gap``: global average pooling, or ``flatten``; the paper says "Global Pooling / Flatten".
        residual: See :func:`residual`.
        kernel: Side of the blur, pixels.
        sigma: Its standard deviation, pixels.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        frames: int = 20,
        size: int = 100,
        head: Literal["gap", "flatten"] = "gap",
        residual: Residual = "signed",
        kernel: int = 3,
        sigma: float = 0.8,
    ) -> None:
        super().__init__()
        if head not in ("gap", "flatten"):
            raise ValueError(f"head={head!r} is neither 'gap' nor 'flatten'")
        if frames < 1 or size < 3:
            raise ValueError(f"noise of {frames} frames of {size} pixels cannot be judged: at least 1 of 3")
        check_residual(residual, kernel, sigma)
        self.frames, self.size, self.head = frames, size, head
        self.residual, self.kernel, self.sigma = residual, kernel, sigma
        self.conv1 = nn.Conv3d(1, 20, 3, padding=1)
        self.conv2 = nn.Conv3d(20, 16, 3, padding=1)
        self.conv3 = nn.Conv3d(16, 8, 3, padding=1)
        side = -(-size // 2)
        self.output = nn.Linear(8 if head == "gap" else 8 * -(-frames // 2) * side * side, 1)

    def forward(self, video: Tensor, mask: Tensor) -> Tensor:
        """Logits (B,) of RGB clips 0..255, not normalised, (B, T, 3, S, S), and mask bool (B, T)."""
        wanted = (self.frames, self.size, self.size)
        if self.head == "flatten" and (video.shape[1], *video.shape[-2:]) != wanted:
            raise ValueError(f"a clip of {_shape(video)} meets a network for {self.frames} x {self.size} x {self.size}")
        noise = residual(video, self.residual, self.kernel, self.sigma)[:, None] / SCALE[self.residual]
        # on a CPU in float32 also under autocast: there torch's bfloat16 gradients of a 3-D convolution's weights hold
        # what was never written, for small maps (seen with 2.15)
        with torch.autocast("cpu", enabled=False):
            return _there(mask, self._judged(noise, mask))

    def _judged(self, noise: Tensor, mask: Tensor) -> Tensor:
        """Logits (B,) of noise (B, 1, T, S, S)."""
        there = mask[:, None, :, None, None]
        # -1 is below every tanh: a missing frame loses against its neighbour in the pool
        maps = torch.tanh(self.conv1(noise.masked_fill(~there, 0.0))).masked_fill(~there, -1.0)
        maps = F.max_pool3d(maps, 2, ceil_mode=True)
        kept = F.max_pool1d(mask[:, None].float(), 2, ceil_mode=True)[:, :, :, None, None].to(maps.dtype)
        maps = F.relu(self.conv2(maps * kept)) * kept
        maps = F.relu(self.conv3(maps)) * kept
        if self.head == "flatten":
            features = maps.flatten(1)
        else:
            features = maps.mean((3, 4)).sum(2) / kept.sum((2, 3, 4)).clamp(min=1)
        logit: Tensor = self.output(features).squeeze(-1)
        return logit


class NoiseGRU(nn.Module):
    """A GRU on each frame's mean noise, and one linear layer on its state after the last frame: 3,393 parameters.

    Args:
        hidden: Width of the GRU.
        residual: See :func:`residual`; of ``signed``, the mean is next to 0 whatever the picture.
        kernel: Side of the blur, pixels.
        sigma: Its standard deviation, pixels.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, hidden: int = 32, residual: Residual = "abs", kernel: int = 3, sigma: float = 0.8) -> None:
        super().__init__()
        if hidden < 1:
            raise ValueError(f"a GRU of width {hidden} cannot be made")
        check_residual(residual, kernel, sigma)
        self.residual, self.kernel, self.sigma = residual, kernel, sigma
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.output = nn.Linear(hidden, 1)

    def forward(self, video: Tensor, mask: Tensor) -> Tensor:
        """Logits (B,) of RGB clips 0..255, not normalised, (B, T, 3, S, S), and mask bool (B, T)."""
        noise = residual(video, self.residual, self.kernel, self.sigma).mean((2, 3)) / SCALE[self.residual]
        states, _ = self.gru(noise.masked_fill(~mask, 0.0)[:, :, None])
        return _there(mask, self.output(last_there(states, mask)).squeeze(-1))


def last_there(states: Tensor, mask: Tensor) -> Tensor:
    """States (B, T, D) and mask bool (B, T) to the states (B, D) at the last frame that is there; the first if none."""
    last = (mask * torch.arange(mask.shape[1], device=mask.device)).amax(1)
    return states.gather(1, last[:, None, None].expand(-1, 1, states.shape[2])).squeeze(1)


def _shape(video: Tensor) -> str:
    return " x ".join(str(video.shape[i]) for i in (1, -2, -1))
