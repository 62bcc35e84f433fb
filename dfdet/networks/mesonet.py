"""Float RGB images in [0, 1] (B, 3, S, S) go in, logits (B,) come out: Meso4 and MesoInception4.

Afchar et al., "MesoNet: a Compact Facial Video Forgery Detection Network" (WIFS 2018), after the authors' Keras code
(DariusAf/MesoNet, classifiers.py), which papers 001 and 002 use. What common ports lose and these keep: batch
normalisation stands *behind* the ReLU and each stage has its own (eps 1e-3), convolutions have biases, every
convolution inside an inception block has its ReLU, dropout acts on single elements of the flattened vector.

The published nets say real where the sigmoid is high; here, as everywhere in the project, a logit above 0 says fake,
and ``dfdet.weights.mesonet`` turns the published weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SamePool(nn.Module):
    """Keras' MaxPooling2D(k, padding="same"): (B, C, H, W) to (B, C, ceil(H/k), ceil(W/k)).

    What is missing is split over both sides, the odd one at the end. ``ceil_mode`` puts all of it at the end, which is
    the same for k = 2 but not for k = 4 (18 pixels: one on each side).
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, maps: Tensor) -> Tensor:
        """The largest value of each window; what is added at the sides never is."""
        down, across = (-int(length) % self.kernel for length in maps.shape[-2:])
        if down or across:
            margins = (across // 2, across - across // 2, down // 2, down - down // 2)
            maps = F.pad(maps, margins, value=float("-inf"))
        return F.max_pool2d(maps, self.kernel)


class Inception(nn.Module):
    """Four branches on one input, concatenated: 1x1 | 1x1, 3x3 | 1x1, 3x3 dilated 2 | 1x1, 3x3 dilated 3.

    Args:
        inputs: Channels in.
        widths: Channels (a, b, c, d) of the branches; a+b+c+d channels come out.
    """

    def __init__(self, inputs: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        a, b, c, d = widths
        # In the order in which Keras made them: the published files are read by that order.
        self.a = nn.Conv2d(inputs, a, 1)
        self.b1 = nn.Conv2d(inputs, b, 1)
        self.b2 = nn.Conv2d(b, b, 3, padding=1)
        self.c1 = nn.Conv2d(inputs, c, 1)
        self.c2 = nn.Conv2d(c, c, 3, padding=2, dilation=2)
        self.d1 = nn.Conv2d(inputs, d, 1)
        self.d2 = nn.Conv2d(d, d, 3, padding=3, dilation=3)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, a+b+c+d, H, W), before the last ReLU, which the net applies to all four at once."""
        a = self.a(maps)
        b = self.b2(F.relu(self.b1(maps)))
        c = self.c2(F.relu(self.c1(maps)))
        d = self.d2(F.relu(self.d1(maps)))
        return torch.cat([a, b, c, d], dim=1)


class _MesoNet(nn.Module):
    """What both nets share: the stages' loop and the head Dropout, 16, LeakyReLU(.1), Dropout, 1."""

    def __init__(self, convolutions: list[nn.Module], widths: list[int], size: int, dropout: float) -> None:
        super().__init__()
        self.size = size
        self.convolutions = nn.ModuleList(convolutions)
        # Keras' momentum .99 is torch's .01.
        self.norms = nn.ModuleList([nn.BatchNorm2d(width, eps=1e-3, momentum=0.01) for width in widths])
        self.pools = nn.ModuleList([SamePool(kernel) for kernel in (2, 2, 2, 4)])
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(widths[-1] * self.side**2, 16)
        # The code has this slope; the published Meso4 files list no layer between the two, which says nothing (a
        # function without weights). Keras' default .3 gives other outputs.
        self.leaky = nn.LeakyReLU(0.1)
        self.output = nn.Linear(16, 1)
        self.num_features = 16
        self.apply(_keras_initialisation)

    @property
    def side(self) -> int:
        """Side of the last maps, pixels: 8 at 256, 5 at 150."""
        side = self.size
        for kernel in (2, 2, 2, 4):
            side = -(-side // kernel)
        return side

    def features(self, images: Tensor) -> Tensor:
        """Features (B, 16) of RGB images in [0, 1], nothing subtracted, (B, 3, S, S)."""
        if images.shape[-2:] != (self.size, self.size):
            raise ValueError(f"images of {tuple(images.shape[-2:])} meet a network for {self.size} x {self.size}")
        maps = images
        for convolution, norm, pool in zip(self.convolutions, self.norms, self.pools, strict=True):
            maps = pool(norm(F.relu(convolution(maps))))
        return self.leaky(self.hidden(self.dropout(maps.flatten(1))))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,) of features (B, 16); above 0 is fake."""
        return self.output(self.dropout(features)).squeeze(-1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) of RGB images in [0, 1], nothing subtracted, (B, 3, S, S)."""
        return self.classify(self.features(images))


class Meso4(_MesoNet):
    """Four stages of convolution, ReLU, normalisation, pooling: 27,977 parameters at 256 pixels, 17,993 at 150.

    Args:
        size: Side S of the images: 256 in the original, 150 in paper 001.
        dropout: Share dropped before both linear layers: .5 in the original, .25 in paper 001.
    """

    def __init__(self, size: int = 256, dropout: float = 0.5) -> None:
        stages: list[nn.Module] = [
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 8, 5, padding=2),
            nn.Conv2d(8, 16, 5, padding=2),
            nn.Conv2d(16, 16, 5, padding=2),
        ]
        super().__init__(stages, [8, 8, 16, 16], size, dropout)


class MesoInception4(_MesoNet):
    """Meso4 with inception blocks for its first two convolutions: 28,615 parameters at 256 pixels.

    Args:
        size: Side S of the images, 256 in the original.
        dropout: Share dropped before both linear layers.
    """

    def __init__(self, size: int = 256, dropout: float = 0.5) -> None:
        stages: list[nn.Module] = [
            Inception(3, (1, 4, 4, 2)),
            Inception(11, (2, 4, 4, 2)),
            nn.Conv2d(12, 16, 5, padding=2),
            nn.Conv2d(16, 16, 5, padding=2),
        ]
        super().__init__(stages, [11, 12, 16, 16], size, dropout)


def _keras_initialisation(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
