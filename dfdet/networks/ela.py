"""RGB images (N, 3, H, W) go in, their error levels or logits (N,) come out: ELA and the small CNN on it.

Error level analysis compresses an image once more as JPEG and takes the absolute difference (Krawetz 2007). Paper 004
uses it with classical classifiers, and with a CNN trained on CASIA v2 which finds nothing in faces (accuracy 53.17 %):
its negative control. The paper states neither quality nor layers; both are those of the code that its lineage goes back
to (agusgun/FakeImageDetector, fake-image-detection.ipynb: quality 90, brightness x 255 / largest difference, reduced to
128 pixels, divided by 255, two convolutions of 5 x 5), with one logit for its two.
"""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F


@torch.compiler.disable
@torch.no_grad()
def ela(images: Tensor, quality: int = 90, scale: Literal["max"] | float = "max") -> Tensor:
    """What a further JPEG compression changes, each image by itself.

    Pillow writes the JPEG, with its colours at half the resolution (4:2:0), on the processor: images of a GPU travel
    there and back. There is no gradient.

    Args:
        images: uint8 RGB (N, 3, H, W), on any device, in any layout.
        quality: JPEG quality, 1..100.
        scale: ``max``: each image is brightened so that its largest difference, over pixels and colours, is 255, which
            makes images comparable and discards how much changed at all; a number: differences are multiplied by it and
            cut at 255.

    Returns:
        float32 (N, 3, H, W) in 0..255, on the device of the images; 0 where nothing changes.

    Raises:
        ValueError: The images are of another type or shape, or quality or scale are out of range.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"ELA wants uint8 (N, 3, H, W), not {images.dtype} {tuple(images.shape)}")
    _check(quality, scale)
    pixels = images.permute(0, 2, 3, 1).cpu().contiguous()
    again = torch.empty_like(pixels)
    for image, copy in zip(pixels.numpy(), again.numpy(), strict=True):
        copy[...] = _compressed(image, quality)
    difference = (pixels.to(images.device).float() - again.to(images.device).float()).abs_().permute(0, 3, 1, 2)
    if scale == "max":
        # where nothing changes, nothing is brightened
        return difference * (255 / difference.amax((1, 2, 3), keepdim=True).clamp(min=1))
    return (difference * scale).clamp_(max=255)


def _check(quality: int, scale: Literal["max"] | float) -> None:
    if not 1 <= quality <= 100:
        raise ValueError(f"a JPEG's quality lies in 1..100, not {quality}")
    if scale != "max" and not (isinstance(scale, int | float) and scale > 0):
        raise ValueError(f"scale={scale!r} is neither 'max' nor a number above 0")


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """uint8 (H, W, 3) as it comes out of a JPEG of this quality."""
    memory = io.BytesIO()
    Image.fromarray(image).save(memory, "JPEG", quality=quality)
    return np.asarray(Image.open(memory))


class ELACNN(nn.Module):
    """Error levels, Conv 32 5x5, ReLU, Conv 32 5x5, ReLU, pooling, dropout .25, Dense 256, ReLU, dropout .5, Dense 1.

    29,519,777 parameters at 128 pixels, all but 28,321 of them in Dense 256. Glorot's initialisation, as Keras'. The
    lineage takes the error levels of the whole picture and then reduces them to 128 pixels; here they are those of the
    crop, which is what there is. They are computed in float32 also under autocast, and cannot be exported to ONNX.

    Args:
        size: Side S of the images, pixels.
        quality: See :func:`ela`.
        scale: See :func:`ela`.

    Raises:
        ValueError: The size is too small, or quality or scale are out of range.
    """

    def __init__(self, size: int = 128, quality: int = 90, scale: Literal["max"] | float = "max") -> None:
        super().__init__()
        if size < 10:
            raise ValueError(
                f"images of {size} pixels are too small for two 5 x 5 convolutions and a pool: at least 10"
            )
        _check(quality, scale)
        self.size, self.quality, self.scale = size, quality, scale
        self.conv1 = nn.Conv2d(3, 32, 5)
        self.conv2 = nn.Conv2d(32, 32, 5)
        self.pool = nn.MaxPool2d(2)
        self.dropout1 = nn.Dropout(0.25)
        self.hidden = nn.Linear(32 * ((size - 8) // 2) ** 2, 256)
        self.dropout2 = nn.Dropout(0.5)
        self.output = nn.Linear(256, 1)
        self.num_features = 256
        for layer in (self.conv1, self.conv2, self.hidden, self.output):
            nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def features(self, images: Tensor) -> Tensor:
        """Features (B, 256) of RGB images 0..255, not normalised, (B, 3, S, S)."""
        if images.shape[-2:] != (self.size, self.size):
            raise ValueError(f"images of {tuple(images.shape[-2:])} meet a network for {self.size} x {self.size}")
        with torch.autocast(images.device.type, enabled=False):
            levels = ela(images.detach().round().clamp(0, 255).to(torch.uint8), self.quality, self.scale) / 255
        maps = F.relu(self.conv2(F.relu(self.conv1(levels))))
        return F.relu(self.hidden(self.dropout1(self.pool(maps)).flatten(1)))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,) of features (B, 256); above 0 is fake."""
        return self.output(self.dropout2(features)).squeeze(-1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) of RGB images 0..255, not normalised, (B, 3, S, S)."""
        return self.classify(self.features(images))
