"""Float RGB images (B, 3, S, S) with mean and std .5 go in, logits (B,) come out: the MesoNets of DeepfakeBench.

Other networks than MesoNet's, under its names, for their published weights alone: DeepfakeBench (SCLBD/DeepfakeBench,
training/networks/mesonet.py) took them from a port (HongguLiu/MesoNet-Pytorch) whose convolutions have no bias, whose
stages share their batch normalisations in pairs (eps 1e-5), and whose inception blocks have no ReLU inside or behind.
Train :mod:`dfdet.networks.mesonet` instead.

There are two logits, of which 1 is fake, so that a published file loads as it is; they become one here, fake minus
real. Dropout acts on single elements: the port's Dropout2d, given vectors, does the same.

Parameters of Meso4: ``conv1..4.weight``, ``bn1`` (behind conv1 and conv2), ``bn2`` (behind conv3 and conv4), ``fc1``,
``fc2``, as in the published file behind ``backbone.``. Of MesoInception4: ``inception1``, ``inception2`` with ``a, b1,
b2, c1, c2, d1, d2`` and ``bn`` (published: ``Incption1_conv1, _conv2_1, _conv2_2, _conv3_1, _conv3_2, _conv4_1,
_conv4_2, _bn``), ``conv1``, ``conv2``, ``bn1`` (behind both), ``fc1``, ``fc2``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Inception(nn.Module):
    """Four linear branches on one input, concatenated, normalised and pooled: (B, inputs, H, W) to half the side."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        a, b, c, d = widths
        self.a = nn.Conv2d(inputs, a, 1, bias=False)
        self.b1 = nn.Conv2d(inputs, b, 1, bias=False)
        self.b2 = nn.Conv2d(b, b, 3, padding=1, bias=False)
        self.c1 = nn.Conv2d(inputs, c, 1, bias=False)
        self.c2 = nn.Conv2d(c, c, 3, padding=2, dilation=2, bias=False)
        self.d1 = nn.Conv2d(inputs, d, 1, bias=False)
        self.d2 = nn.Conv2d(d, d, 3, padding=3, dilation=3, bias=False)
        self.bn = nn.BatchNorm2d(a + b + c + d)

    def forward(self, maps: Tensor) -> Tensor:
        branches = [self.a(maps), self.b2(self.b1(maps)), self.c2(self.c1(maps)), self.d2(self.d1(maps))]
        return F.max_pool2d(self.bn(torch.cat(branches, dim=1)), 2)


class _Port(nn.Module):
    """What both share: the head Dropout, 16, LeakyReLU(.1), Dropout, 2."""

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 32 or size % 32:
            raise ValueError(f"the MesoNets of DeepfakeBench see a multiple of 32 pixels, not {size}")
        self.size = size
        self.dropout = nn.Dropout(0.5)
        self.fc1 = nn.Linear(16 * (size // 32) ** 2, 16)
        self.fc2 = nn.Linear(16, 2)
        self.num_features = 16 * (size // 32) ** 2

    def maps(self, images: Tensor) -> Tensor:
        """The last maps (B, 16, S/32, S/32)."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Tensor:
        """Features (B, D) of RGB images (B, 3, S, S), mean and std .5."""
        if images.shape[-2:] != (self.size, self.size):
            raise ValueError(f"images of {tuple(images.shape[-2:])} meet a network for {self.size} x {self.size}")
        return self.maps(images).flatten(1)

    def logits(self, features: Tensor) -> Tensor:
        """The two logits (B, 2), of which 1 is fake, of features (B, D)."""
        return self.fc2(self.dropout(F.leaky_relu(self.fc1(self.dropout(features)), 0.1)))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,) of features (B, D); above 0 is fake."""
        real, fake = self.logits(features).unbind(1)
        return fake - real

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) of RGB images (B, 3, S, S), mean and std .5."""
        return self.classify(self.features(images))


class DeepfakeBenchMeso4(_Port):
    """Four stages of convolution, ReLU, a shared normalisation and pooling: 27,898 parameters at 256 pixels.

    Args:
        size: Side S of the images, a multiple of 32; 256 in the published files.
    """

    def __init__(self, size: int = 256) -> None:
        super().__init__(size)
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(8, 8, 5, padding=2, bias=False)
        self.conv3 = nn.Conv2d(8, 16, 5, padding=2, bias=False)
        self.conv4 = nn.Conv2d(16, 16, 5, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.bn2 = nn.BatchNorm2d(16)

    def maps(self, images: Tensor) -> Tensor:
        """The last maps (B, 16, S/32, S/32)."""
        maps = images
        stages = ((self.conv1, self.bn1, 2), (self.conv2, self.bn1, 2), (self.conv3, self.bn2, 2))
        for convolution, norm, pool in (*stages, (self.conv4, self.bn2, 4)):
            maps = F.max_pool2d(norm(F.relu(convolution(maps))), pool)
        return maps


class DeepfakeBenchMesoInception4(_Port):
    """Two linear inception blocks, then two stages of convolution, ReLU, one shared normalisation and pooling.

    28,525 parameters at 256 pixels.

    Args:
        size: Side S of the images, a multiple of 32; 256 in the published files.
    """

    def __init__(self, size: int = 256) -> None:
        super().__init__(size)
        self.inception1 = _Inception(3, (1, 4, 4, 2))
        self.inception2 = _Inception(11, (2, 4, 4, 2))
        self.conv1 = nn.Conv2d(12, 16, 5, padding=2, bias=False)
        self.conv2 = nn.Conv2d(16, 16, 5, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(16)

    def maps(self, images: Tensor) -> Tensor:
        """The last maps (B, 16, S/32, S/32)."""
        maps = self.inception2(self.inception1(images))
        maps = F.max_pool2d(self.bn1(F.relu(self.conv1(maps))), 2)
        return F.max_pool2d(self.bn1(F.relu(self.conv2(maps))), 4)
