"""What travels from the loader to a detector: a typed batch of clips; uint8 until the device.

Pixels lie in memory as they were decoded, colours innermost (torch's ``channels_last``), and are never transposed:
tensors of shape (B, T, 3, S, S) are views of them. Convolutions take that layout as fast or faster than the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfdet.data.buffers import Buffers
from dfdet.store import Place


@dataclass
class ClipSample:
    """One clip as a worker made it.

    Attributes:
        pixels: uint8 (T, S, S, 3), RGB, maybe read-only; one that comes from a loader is overwritten when its next one
            is taken.
        mask: bool (T,), False where the clip was padded because the track is shorter than T.
        frames: int64 (T,), frame numbers.
        item: Index into the data module's items (``VideoDataModule.describe``).
        track: The face followed.
        clip: Number of the clip within its visit.
        label: 0 real, 1 fake, -1 unknown.
        weight: 1, or 0 where the clip could not be made.
        pad: Share of the crop that lies outside the frame, 0..1.
        error: Why it could not be made, else None.
        place: Where a crop store holds these very pixels; None: nowhere.
    """

    pixels: np.ndarray
    mask: np.ndarray
    frames: np.ndarray
    item: int
    track: int
    clip: int
    label: int
    weight: float = 1.0
    pad: float = 0.0
    error: str | None = None
    place: Place | None = None


@dataclass
class ClipBatch:
    """B clips. Every field but ``errors`` is a tensor and moves with :meth:`to`.

    Attributes:
        video: uint8 (B, T, 3, S, S), RGB, colours innermost in memory.
        mask: bool (B, T), False on padded frames.
        label: int64 (B,), 0 real, 1 fake, -1 unknown.
        weight: float32 (B,), 0 for a clip that could not be made: it must count nowhere.
        item: int64 (B,), index into the data module's items.
        track: int64 (B,).
        clip: int64 (B,).
        frames: int64 (B, T), frame numbers.
        pad: float32 (B,), share of the crop outside the frame.
        errors: One line for each clip that could not be made: (item, reason).
    """

    video: Tensor
    mask: Tensor
    label: Tensor
    weight: Tensor
    item: Tensor
    track: Tensor
    clip: Tensor
    frames: Tensor
    pad: Tensor
    errors: list[tuple[int, str]]

    def __len__(self) -> int:
        return len(self.label)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ClipBatch:
        """The same batch on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ClipBatch:
        """The same batch in page-locked memory, so that a copy to a GPU can overlap with work."""
        return self._map(lambda tensor: tensor if tensor.is_pinned() else tensor.pin_memory())

    def select(self, keep: Tensor) -> ClipBatch:
        """The clips where ``keep`` (bool (B,)) is true."""
        return self._map(lambda tensor: tensor[keep.to(tensor.device)])

    def _map(self, function: Any) -> ClipBatch:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: function(v) for k, v in values.items() if isinstance(v, Tensor)})


class BatchBuilder:
    """A batch that is filled clip by clip, in any order; each clip's pixels are copied once, to their place.

    Args:
        size: B, clips in the batch.
        buffers: Whence its memory comes.
    """

    def __init__(self, size: int, buffers: Buffers) -> None:
        self._buffers = buffers
        self._samples: list[ClipSample | None] = [None] * size
        self._pixels: Tensor | None = None
        self._left = size

    @property
    def full(self) -> bool:
        """Whether every clip is there."""
        return self._left == 0

    def put(self, row: int, sample: ClipSample) -> None:
        """Takes one clip; its pixels may be overwritten afterwards."""
        if self._pixels is None:
            shape = (len(self._samples), *sample.pixels.shape)
            self._pixels = self._buffers.take(shape)
        self._pixels.numpy()[row] = sample.pixels
        self._left -= self._samples[row] is None
        self._samples[row] = replace(sample, pixels=_NONE)

    def batch(self) -> ClipBatch:
        """The batch, once it is full."""
        samples = [sample for sample in self._samples if sample is not None]
        if self._pixels is None or len(samples) < len(self._samples):
            raise ValueError(f"{self._left} clips of the batch are missing")
        integers = {
            name: torch.tensor([getattr(s, name) for s in samples], dtype=torch.int64)
            for name in ("label", "item", "track", "clip")
        }
        made = ClipBatch(
            video=self._pixels.permute(0, 1, 4, 2, 3),
            mask=torch.from_numpy(np.stack([s.mask for s in samples])),
            frames=torch.from_numpy(np.stack([s.frames for s in samples])),
            weight=torch.tensor([s.weight for s in samples], dtype=torch.float32),
            pad=torch.tensor([s.pad for s in samples], dtype=torch.float32),
            errors=[(s.item, s.error) for s in samples if s.error is not None],
            **integers,
        )
        return made.pin_memory() if self._buffers.pinned else made


def collate(samples: Sequence[ClipSample]) -> ClipBatch:
    """Clips of equal shape as a batch."""
    builder = BatchBuilder(len(samples), Buffers())
    for row, sample in enumerate(samples):
        builder.put(row, sample)
    return builder.batch()


_NONE = np.empty(0, np.uint8)
