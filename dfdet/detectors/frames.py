"""A network of single frames in, a detector of clips out: every frame is scored, and their logits become one."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from dfdet.data.batch import ClipBatch
from dfdet.detectors.binary import BinaryDetector
from dfdet.errors import UserError

Pool = Literal["mean", "median", "max", "attention"]


def pool_frames(logit: Tensor, mask: Tensor, how: Literal["mean", "median", "max"]) -> Tensor:
    """Pools frame logits (B, T) over the frames that are there (mask bool (B, T)) into clip logits (B,); 0 if none."""
    if how == "mean":
        return (logit * mask).sum(1) / mask.sum(1).clamp(min=1)
    if how == "max":
        pooled = logit.masked_fill(~mask, -torch.inf).amax(1)
    else:
        there = mask.sum(1, keepdim=True)
        ordered = logit.masked_fill(~mask, torch.inf).sort(1).values
        middle = torch.cat([(there - 1).clamp(min=0) // 2, there // 2], 1).clamp(max=mask.shape[1] - 1)
        pooled = ordered.gather(1, middle).mean(1)
    return torch.where(mask.any(1), pooled, 0.0)


class AttentionPool(nn.Module):
    """Features of frames in, their weighted mean out; the weights are learned from the features.

    Ilse et al., "Attention-based Deep Multiple Instance Learning" (ICML 2018), equation 8; 128 hidden units.

    Args:
        features: D.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(features, 128), nn.Tanh(), nn.Linear(128, 1))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """(B, T, D) and bool (B, T) -> (B, D); 0 where no frame is there."""
        score = self.score(features).squeeze(2).masked_fill(~mask, -torch.inf)
        weight = torch.where(mask.any(1, keepdim=True), score, 0.0).softmax(1) * mask
        return (weight[:, :, None] * features).sum(1)


class FrameDetector(BinaryDetector):
    """A network that scores single frames.

    Args:
        network: float RGB (N, 3, S, S) in, logit (N,) out; for ``attention`` also ``features``, ``num_features`` and
            ``classify`` (see ``dfdet.networks``).
        pool: How a clip's frames become one logit: mean, median or max of theirs, or the logit of their features'
            mean, weighted by learned attention.
        kwargs: Everything of BinaryDetector.
    """

    def __init__(self, network: nn.Module, pool: Pool = "mean", **kwargs: Any) -> None:
        super().__init__(network=network, **kwargs)
        self.attention: AttentionPool | None = None
        if pool == "attention":
            features: Any = getattr(network, "num_features", None)
            if features is None:
                raise UserError(f"{type(network).__name__} tells no features to pool by attention", "take pool mean")
            self.attention = AttentionPool(int(features))
        else:
            self.pool = pool

    def forward(self, batch: ClipBatch) -> Tensor:
        """Clip logits (B,)."""
        frames = self.prepare(batch.video.flatten(0, 1))
        if self.attention is None:
            return pool_frames(self.network(frames).view(batch.mask.shape), batch.mask, self.pool)
        network: Any = self.network
        pooled = self.attention(network.features(frames).unflatten(0, batch.mask.shape), batch.mask)
        return network.classify(pooled)
