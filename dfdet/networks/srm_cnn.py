"""Float RGB images 0..255 (B, 3, S, S) go in, logits (B,) come out: noise residuals and a CNN of two layers.

Hadi et al., "Deepfake detection by SRM filters and a CNN" (paper 000), sec. III-IV; the three filters are those of
Zhou et al., "Learning Rich Features for Image Manipulation Detection" (CVPR 2018), after Fridrich & Kodovsky (2012).
Paper 000 gives two convolutions, one max pooling, batch 64, Adam, 30 epochs. It is silent about widths, kernel sizes,
input size, learning rate, truncation and initialisation: those are our choices (32 and 64 maps, 3 x 3, 128 pixels,
torch's default initialisation).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Whole numbers and their divisors. Kept apart since whole numbers are exact in every format, also in TF32, to which
# cuDNN rounds a convolution's operands: -1/12 rounded no longer sums to 0, and white would have a residual.
KERNELS = (
    ((0, 0, 0, 0, 0), (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0, 0, 0, 0, 0)),
    ((-1, 2, -2, 2, -1), (2, -6, 8, -6, 2), (-2, 8, -12, 8, -2), (2, -6, 8, -6, 2), (-1, 2, -2, 2, -1)),
    # RGB-N has this one lying in its fusion network, standing in its noise-only network; ours lies.
    ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, -2, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
)
DIVISORS = (4.0, 12.0, 2.0)


class SRMResidual(nn.Module):
    """Three fixed high-pass filters K_o / q_o, truncated. No parameters; computed in float32 even under autocast.

    Under bfloat16 (8 bits) a residual of images up to 255 would be lost.

    Args:
        mode: ``sum``: each filter sees R + G + B, 3 maps, as in RGB-N, whose weight is K_o for every input channel;
            ``per_channel``: each filter on each colour, 9 maps in the order R K1, R K2, R K3, G K1, ...
        truncate: T: residuals are clamped to [-T, T] and divided by T, so that the maps lie in [-1, 1]. RGB-N does not
            truncate, Luo et al. (CVPR 2021) take 3; on 0..255 it acts on 6-36 % of the pixels. None leaves them raw.
    """

    kernel: Tensor
    divisor: Tensor

    def __init__(self, mode: Literal["sum", "per_channel"] = "sum", truncate: float | None = 3.0) -> None:
        super().__init__()
        if mode not in ("sum", "per_channel"):
            raise ValueError(f"mode={mode!r} is neither 'sum' nor 'per_channel'")
        if truncate is not None and not truncate > 0:
            raise ValueError(f"truncate={truncate} is not above 0; None does not truncate")
        self.mode = mode
        self.truncate = truncate
        single = torch.tensor(KERNELS, dtype=torch.float32)[:, None]
        divisor = torch.tensor(DIVISORS)
        if mode == "sum":
            self.register_buffer("kernel", single.repeat(1, 3, 1, 1))
            self.register_buffer("divisor", divisor[:, None, None])
        else:
            self.register_buffer("kernel", single.repeat(3, 1, 1, 1))
            self.register_buffer("divisor", divisor.repeat(3)[:, None, None])

    @property
    def channels(self) -> int:
        """Number of maps: 3 or 9."""
        return int(self.kernel.shape[0])

    def forward(self, images: Tensor) -> Tensor:
        """Noise residuals.

        Args:
            images: RGB 0..255, (B, 3, H, W), any real dtype.

        Returns:
            float32 (B, 3 or 9, H, W), in [-1, 1] where truncated, in grey levels where not. The border is mirrored:
            zeros around it would draw a frame of strong residuals.
        """
        with torch.autocast(images.device.type, enabled=False):
            padded = F.pad(images.float(), (2, 2, 2, 2), mode="reflect")
            groups = 1 if self.mode == "sum" else 3
            residual = F.conv2d(padded, self.kernel.float(), groups=groups) / self.divisor.float()
            if self.truncate is None:
                return residual
            return residual.clamp(-self.truncate, self.truncate) / self.truncate


class _RGB(nn.Module):
    """The control's front: RGB 0..255 to [-1, 1]."""

    channels = 3

    def forward(self, images: Tensor) -> Tensor:
        return images / 127.5 - 1


class _Fused(nn.Module):
    """Residuals and RGB, both in [-1, 1], side by side: 6 or 12 maps."""

    def __init__(self, residual: SRMResidual) -> None:
        super().__init__()
        self.residual = residual
        self.rgb = _RGB()
        self.channels = residual.channels + self.rgb.channels

    def forward(self, images: Tensor) -> Tensor:
        residual = self.residual(images)
        return torch.cat([residual, self.rgb(images).to(residual.dtype)], dim=1)


def _front(name: str, mode: Literal["sum", "per_channel"], truncate: float | None) -> SRMResidual | _RGB | _Fused:
    if name == "rgb":
        return _RGB()
    residual = SRMResidual(mode, truncate)
    return residual if name == "srm" else _Fused(residual)


class SRMCNN(nn.Module):
    """Residuals, Conv 32, ReLU, Conv 64, ReLU, max pooling, one linear layer.

    281,537 parameters at 128 pixels, 19,457 with ``head="gap"``, 864 more when fused. With one torch seed the fronts
    ``srm`` and ``rgb`` start from the same trainable weights, so that a difference in convergence (the paper's claim)
    is the front's.

    Args:
        front: ``srm``, the paper's; ``rgb``, its control: the image itself in [-1, 1]; ``fused``: both, since the paper
            wants residuals "alone or with the RGB contents" and says no more. Ours: their maps side by side in front of
            the first convolution, whose initialisation follows the same rule.
        head: ``flatten``, our reading of the paper; ``gap``: global average pooling, which takes any size.
        size: Side S of the images, pixels; matters for ``flatten`` alone.
        mode: See :class:`SRMResidual`; not used with ``rgb``.
        truncate: See :class:`SRMResidual`; not used with ``rgb``.
    """

    def __init__(
        self,
        front: Literal["srm", "rgb", "fused"] = "srm",
        head: Literal["flatten", "gap"] = "flatten",
        size: int = 128,
        mode: Literal["sum", "per_channel"] = "sum",
        truncate: float | None = 3.0,
    ) -> None:
        super().__init__()
        if front not in ("srm", "rgb", "fused"):
            raise ValueError(f"front={front!r} is none of 'srm', 'rgb', 'fused'")
        if head not in ("flatten", "gap"):
            raise ValueError(f"head={head!r} is neither 'flatten' nor 'gap'")
        self.size = size
        self.head = head
        self.front = _front(front, mode, truncate)
        self.conv1 = nn.Conv2d(self.front.channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.num_features = 64 * (size // 2) ** 2 if head == "flatten" else 64
        self.output = nn.Linear(self.num_features, 1)

    def features(self, images: Tensor) -> Tensor:
        """Features (B, D) of RGB images 0..255, not normalised, (B, 3, S, S)."""
        if self.head == "flatten" and images.shape[-2:] != (self.size, self.size):
            raise ValueError(f"images of {tuple(images.shape[-2:])} meet a network for {self.size} x {self.size}")
        maps = F.relu(self.conv1(self.front(images)))
        maps = self.pool(F.relu(self.conv2(maps)))
        return maps.flatten(1) if self.head == "flatten" else maps.mean((2, 3))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,) of features (B, D); above 0 is fake."""
        return self.output(features).squeeze(-1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) of RGB images 0..255, not normalised, (B, 3, S, S)."""
        return self.classify(self.features(images))
