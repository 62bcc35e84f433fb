"""A shape in, memory for a batch out: memory that was used before, where nobody holds it any more.

Fresh memory costs a page fault for every 4 KiB, which for crops takes longer than copying them.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Buffers:
    """Hands out uint8 tensors; one whose last view is gone is handed out again.

    Args:
        pinned: Page-locked memory, so that a copy to a GPU can overlap with work; torch itself uses it again.
    """

    def __init__(self, pinned: bool = False) -> None:
        self.pinned = pinned
        self._maps: list[mmap.mmap] = []

    def take(self, shape: Sequence[int]) -> Tensor:
        """Memory with any content, uint8, of a shape."""
        size = int(np.prod(shape))
        if self.pinned or size == 0:
            return torch.empty(tuple(shape), dtype=torch.uint8, pin_memory=self.pinned)
        whole = next((m for m in self._maps if len(m) >= size and sys.getrefcount(m) == _FREE), None)
        if whole is None:
            whole = mmap.mmap(-1, size)
            self._maps.append(whole)
        return torch.frombuffer(whole, dtype=torch.uint8, count=size).view(tuple(shape))


# references to a map that nobody uses: the list's, the loop's, and getrefcount's own
_FREE = 3
