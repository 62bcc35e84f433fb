"""A network of whole clips in, a detector out."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from dfdet.data.batch import ClipBatch
from dfdet.detectors.binary import BinaryDetector


class ClipDetector(BinaryDetector):
    """A network that sees a clip's frames together.

    Args:
        network: float RGB (B, T, 3, S, S) and mask bool (B, T) in, logit (B,) out.
        kwargs: Everything of BinaryDetector.
    """

    def __init__(self, network: nn.Module, **kwargs: Any) -> None:
        super().__init__(network=network, **kwargs)

    def forward(self, batch: ClipBatch) -> Tensor:
        """Clip logits (B,)."""
        return self.network(self.prepare(batch.video), batch.mask)
