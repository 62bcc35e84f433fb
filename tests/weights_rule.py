"""The rule of reference weights.md §2.2: it fills a published network without its file, and makes its input."""

from __future__ import annotations

import zlib

import numpy as np
import torch

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def empty_state(shapes):
    """Zeros of these shapes."""
    return {key: torch.zeros(shape, dtype=getattr(torch, dtype)) for key, (dtype, shape) in shapes.items()}


def filled_state(shapes):
    """A state dict filled by the rule of reference weights.md §2.2, from the keys as their authors spell them."""
    return {key: filled(key, shape) for key, (_, shape) in shapes.items()}


def filled(key, shape):
    """The value of one parameter, by its name there."""
    random = np.random.RandomState(zlib.crc32(key.encode()))
    last = key.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.tensor(0)
    if last == "running_var":
        value = 0.5 + random.random_sample(shape)
    elif last == "running_mean" or last.startswith("bias"):
        value = 0.1 * random.standard_normal(shape)
    elif len(shape) == 1:
        value = 0.5 + random.random_sample(shape)
    else:
        value = np.sqrt(_gain(key, shape) / np.prod(shape[1:])) * random.standard_normal(shape)
    return torch.from_numpy(np.asarray(value, np.float32))


def _gain(key, shape):
    if len(shape) == 4 and shape[1] == 1 and shape[2] > 1:
        return 2.0
    if len(shape) == 2 or "_se_" in key or "attconv" in key:
        return 1.0
    if key.startswith("efficientnet"):
        return 1.55
    return 1.65 if "efficientnet" in key else 0.7


def reference_images(count, size, statistics):
    """The input of reference weights.md §2.2, normalised: float32 (count, 3, size, size)."""
    n, c, y, x = np.ogrid[:count, :3, :size, :size]
    wave = np.sin(2 * np.pi * ((n + 1) * x / 97 + (c + 1) * y / 131)) * np.cos(2 * np.pi * (x - (n + 2) * y) / 57)
    noise = np.random.RandomState(size).random_sample((count, 3, size, size)) - 0.5
    mean, std = (np.array(v)[:, None, None] for v in statistics)
    return torch.from_numpy(((0.5 + 0.3 * wave + 0.2 * noise - mean) / std).astype(np.float32))
