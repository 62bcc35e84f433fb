"""Normalised RGB clips (B, T, 3, S, S) with a mask go in, logits (B,) come out: ResNeXt-50 on frames, an LSTM on them.

Likith et al. (paper 003), whose code is abhijitjadhav1998/Deepfake_detection_using_deep_learning: ResNeXt-50 32x4d of
ImageNet, mean pooling, an LSTM of 2048, dropout .4, one linear layer. What that code computes is another thing than
what the paper says: its LSTM runs across the clips of a batch, without a bias, and drops logits instead of features.
:class:`ResNeXtLSTM` is what was meant; :class:`LegacyResNeXtLSTM` is what was published, for its weights. The paper
names a ReLU, which the code defines (LeakyReLU) and never calls: neither has one.

Parameters of both: ``trunk.*`` as timm and torchvision name them, ``lstm.*``, ``output.{weight,bias}``. The published
files say ``model.{0,1,4,5,6,7}`` for ``trunk.{conv1,bn1,layer1,layer2,layer3,layer4}`` and ``linear1`` for ``output``.
"""

from __future__ import annotations

from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn

from dfdet.networks.noise import last_there

# torchvision's first weights, which the code starts from
TRUNK = "resnext50_32x4d.tv_in1k"
WIDTH = 2048


class _Framewise(nn.Module):
    """What both share: the trunk on every frame.

    Args:
        pretrained: Start the trunk from ImageNet (fetched from a hub, or found in timm's cache).
    """

    lstm: nn.LSTM

    def __init__(self, pretrained: bool) -> None:
        super().__init__()
        self.trunk: Any = timm.create_model(TRUNK, pretrained=pretrained, num_classes=0)

    def frame_features(self, video: Tensor, mask: Tensor) -> Tensor:
        """Pooled features (B, T, 2048) of clips (B, T, 3, S, S); in training, 0 where mask (B, T) is False."""
        if video.ndim != 5 or video.shape[2] != 3:
            raise ValueError(f"the network sees clips (B, T, 3, S, S), not {tuple(video.shape)}")
        if min(video.shape[-2:]) < 32:
            raise ValueError(f"frames of {tuple(video.shape[-2:])} are too small for ResNeXt-50: at least 32 x 32")
        frames = video.flatten(0, 1)
        if not self.training:
            return self.trunk(frames).unflatten(0, mask.shape)
        # a missing frame must not reach batch statistics either
        there = mask.flatten()
        features = frames.new_zeros(len(there), self.lstm.input_size)
        if there.any():
            features = features.index_put((there,), self.trunk(frames[there]).to(features.dtype))
        return features.unflatten(0, mask.shape)


class ResNeXtLSTM(_Framewise):
    """ResNeXt-50 32x4d, an LSTM along the frames, dropout and a linear layer on its state after the last frame.

    56,552,769 parameters: 22,979,904 of the trunk, 33,570,816 of the LSTM. A clip's missing frames stand behind those
    that are there, as ``ClipBatch`` pads them; what they show changes nothing.

    Args:
        pretrained: Start the trunk from ImageNet (fetched from a hub, or found in timm's cache).
        dropout: Share dropped before the linear layer.
    """

    def __init__(self, pretrained: bool = False, dropout: float = 0.4) -> None:
        super().__init__(pretrained)
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(WIDTH, 1)

    def forward(self, video: Tensor, mask: Tensor) -> Tensor:
        """Logits (B,) of RGB clips (B, T, 3, S, S), ImageNet's statistics, and mask bool (B, T); 0 without a frame."""
        states, _ = self.lstm(self.frame_features(video, mask))
        logit = self.output(self.dropout(last_there(states, mask))).squeeze(-1)
        return torch.where(mask.any(1), logit, 0.0)


class LegacyResNeXtLSTM(_Framewise):
    """The network of the published files, flaws and all: 56,538,434 parameters.

    Its LSTM has no bias and takes the clips of a batch for steps in time and their frames for a batch: a clip's logit
    depends on the clips before it, and of a clip alone every frame is judged by itself. Dropout acts on the two logits,
    of which 0 is fake; they become one here, fake minus real. All frames count, whatever the mask says: the code drops
    short videos.

    Args:
        pretrained: Start the trunk from ImageNet (fetched from a hub, or found in timm's cache).
        dropout: Share of the logits that is dropped.
        reduce: ``last``: the last frame alone (the web app and the prediction notebook); ``mean``: the mean of the
            frames (the training notebook).
    """

    def __init__(
        self, pretrained: bool = False, dropout: float = 0.4, reduce: Literal["last", "mean"] = "last"
    ) -> None:
        super().__init__(pretrained)
        if reduce not in ("last", "mean"):
            raise ValueError(f"reduce={reduce!r} is neither 'last' nor 'mean'")
        self.reduce = reduce
        self.lstm = nn.LSTM(WIDTH, WIDTH, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(WIDTH, 2)

    def logits(self, video: Tensor) -> Tensor:
        """The two logits (B, 2), of which 0 is fake, of BGR clips (B, T, 3, S, S)."""
        everything = torch.ones(video.shape[:2], dtype=torch.bool, device=video.device)
        states, _ = self.lstm(self.frame_features(video, everything))
        return self.dropout(self.output(states[:, -1] if self.reduce == "last" else states.mean(1)))

    def forward(self, video: Tensor, mask: Tensor) -> Tensor:
        """Logits (B,) of BGR clips (B, T, 3, S, S) with ImageNet's RGB statistics, and mask bool (B, T)."""
        fake, real = self.logits(video).unbind(1)
        return torch.where(mask.any(1), fake - real, 0.0)
