"""ResNeXt-LSTM (Likith et al.): a clip of face crops in, one logit out. See networks/resnext_lstm.py."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from dfdet.data.batch import ClipBatch
from dfdet.detectors.clips import ClipDetector
from dfdet.errors import UserError
from dfdet.networks.resnext_lstm import LegacyResNeXtLSTM, ResNeXtLSTM


class ResNeXtLSTMDetector(ClipDetector):
    """ResNeXt-50 on every frame and an LSTM on the clip; or, by ``legacy``, what the paper's code computes instead.

    Args:
        size: S, side of the crop in pixels.
        pretrained: Start the trunk from ImageNet, as the paper does; the weights come from a hub or from timm's cache.
        dropout: Share dropped before the linear layer.
        legacy: The network of the published files: an LSTM without bias across the clips of a batch, BGR, dropout on
            logits; ``last`` reads the last frame alone as its web app does, ``mean`` all as its training does. In
            evaluation each clip is judged alone, as there. None: what was meant.
        lr: Learning rate.
        optimizer: A class of torch.optim by name, or any by import path.
        optimizer_args: Its other arguments; None: a weight decay of 1e-3 for AdamW.
        kwargs: Everything of ClipDetector.
    """

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    input_frames = 10

    def __init__(
        self,
        size: int = 112,
        pretrained: bool = False,
        dropout: float = 0.4,
        legacy: Literal["last", "mean"] | None = None,
        lr: float = 1e-5,
        optimizer: str = "AdamW",
        optimizer_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if optimizer == "AdamW" and optimizer_args is None:
            optimizer_args = {"weight_decay": 1e-3}
        super().__init__(
            network=_network(legacy, pretrained, dropout), input_size=size, lr=lr, optimizer=optimizer,
            optimizer_args=optimizer_args, **kwargs,
        )  # fmt: skip
        self.legacy = legacy
        if legacy:  # red is normalised as blue and the other way round: see prepare
            self.mean, self.std = self.mean[::-1], self.std[::-1]

    def prepare(self, video: Tensor) -> Tensor:
        """As BinaryDetector's; for ``legacy`` the colours come out as blue, green, red, with the statistics of RGB."""
        prepared = super().prepare(video)
        return prepared.flip(-3) if self.legacy else prepared

    def forward(self, batch: ClipBatch) -> Tensor:
        """Clip logits (B,)."""
        if self.legacy is None or self.training:
            return super().forward(batch)
        video = self.prepare(batch.video)
        alone = [self.network(video[i : i + 1], batch.mask[i : i + 1]) for i in range(len(batch))]
        return torch.cat(alone) if alone else video.new_zeros(0)


def _network(legacy: Literal["last", "mean"] | None, pretrained: bool, dropout: float) -> nn.Module:
    try:
        if legacy is None:
            return ResNeXtLSTM(pretrained=pretrained, dropout=dropout)
        return LegacyResNeXtLSTM(pretrained=pretrained, dropout=dropout, reduce=legacy)
    except Exception as error:
        # what the hub's client raises without a network depends on its version and on that of its HTTP library
        if not pretrained:
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the ImageNet weights of the trunk could not be had: {reason[:160]}",
            "connect once, or copy timm's cache (HF_HOME, TORCH_HOME) here, or give --model.pretrained false",
        ) from error
