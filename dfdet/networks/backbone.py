"""Float images (B, 3, S, S) go in, logits (B,) come out: any timm network as a detector, with an attention map or not.

Paper 004 uses the nets of Bonettini et al., "Video Face Manipulation Detection Through Ensemble of CNNs" (ICPR 2020),
whose code (polimi-ispl/icpr2020dfdc, architectures/fornet.py) settles what the paper leaves open: EfficientNet-B4 with
dropout .4 before one linear layer, Xception without dropout, attention after MBConv block 9 of EfficientNet. Xception
has no published attention; it stands after block 2 here, where map and stride are EfficientNet's (our choice).

Names of parameters: ``trunk.<timm's own>`` throughout; attention adds ``trunk.blocks.2.4.{weight,bias}`` to
EfficientNet-B4 and ``trunk.block2.gate.{weight,bias}`` to Xception, and moves nothing. The classifier is
``output.{weight,bias}``, or, with ``head="batchnorm"``, ``output.0.*`` (BatchNorm1d) and ``output.1.{weight,bias}``.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.models import group_parameters
from timm.models.xception import Block
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from dfdet.networks.tuning import Tune, hold_statistics, tune

PadCompat = Literal["tf", "en06", "en07", "deepfakebench"]

# Where the stride-2 convolutions of EfficientNet-B4 pad, (left, right) and (top, bottom) alike, as efficientnet_pytorch
# fixes them when it is made for 380 pixels, whatever is fed later. Of its two lines only one layer differs;
# DeepfakeBench (0.7.1) puts a convolution without padding in the stem's place.
_EN06 = {
    "conv_stem": (0, 1),
    "blocks.1.0.conv_dw": (0, 1),
    "blocks.2.0.conv_dw": (1, 2),
    "blocks.3.0.conv_dw": (0, 1),
    "blocks.5.0.conv_dw": (1, 2),
}
_EN07 = _EN06 | {"blocks.2.0.conv_dw": (2, 2)}
_PADS = {"en06": _EN06, "en07": _EN07, "deepfakebench": _EN07 | {"conv_stem": (0, 0)}}


class StaticPadConv2d(nn.Conv2d):
    """A convolution that pads by fixed amounts which may differ between the sides.

    Args:
        like: The convolution whose weights it takes over.
        pad: (left, right), and (top, bottom) alike.
    """

    def __init__(self, like: nn.Conv2d, pad: tuple[int, int]) -> None:
        super().__init__(
            like.in_channels, like.out_channels, like.kernel_size, like.stride,  # type: ignore[arg-type]
            groups=like.groups, bias=like.bias is not None,
        )  # fmt: skip
        self.weight, self.bias = like.weight, like.bias
        self.pad = (*pad, *pad)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        return super().forward(F.pad(maps, self.pad))


class Gate(nn.Conv2d):
    """Weights maps by one map in [0, 1] that is computed from them: attention as icpr2020dfdc has it.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 1, 1)

    def map(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 1, H, W)."""
        return torch.sigmoid(super().forward(maps))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return maps * self.map(maps)


class _GatedBlock(Block):
    """A block of Xception with a gate after it; its own parameters keep their names."""

    def __init__(self, like: Block, channels: int) -> None:
        nn.Module.__init__(self)
        self.rep, self.skip, self.skipbn = like.rep, like.skip, like.skipbn
        self.gate = Gate(channels)

    def forward(self, maps: Tensor) -> Tensor:
        return self.gate(super().forward(maps))


def _gate_efficientnet_b4(trunk: Any) -> Gate:
    gate = Gate(56)
    trunk.blocks[2].append(gate)  # MBConv 9 of icpr2020dfdc is the last of this stage
    return gate


def _gate_xception(trunk: Any) -> Gate:
    trunk.block2 = _GatedBlock(trunk.block2, 256)
    return trunk.block2.gate


GATED = {"tf_efficientnet_b4": _gate_efficientnet_b4, "legacy_xception": _gate_xception}


class _HeadNorm(nn.BatchNorm1d):
    """Batch norm of features that takes its stored statistics for a single one, of which there is no deviation."""

    def forward(self, features: Tensor) -> Tensor:
        if self.training and len(features) == 1:
            return F.batch_norm(features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(features)


class Backbone(nn.Module):
    """A timm network without its classifier, and one of ours: dropout and one linear layer.

    Args:
        name: As timm spells it, ``architecture`` or ``architecture.tag``.
        pretrained: Start from timm's weights (fetched from a hub, or found in its cache).
        size: S, side of the images in pixels; None: what the network was made for. Transformers are built for it.
        attention: Weight the maps in the middle of the trunk by a learned map; for the keys of :data:`GATED`.
        head: ``linear``, or ``batchnorm``: batch norm and one linear layer, as after triplet training.
        dropout: Share dropped before the classifier.
        drop_path: Stochastic depth's rate at the last block; None: as timm has it, off mostly.
        bn_momentum: Of the trunk's batch norms; None: as timm has it, 0.1 mostly.
        normalised: Divide the features by their length before the classifier.
        pad_compat: How EfficientNet-B4 pads: ``tf`` by the size that it sees, as TensorFlow and timm; ``en06`` and
            ``en07`` as efficientnet_pytorch up to 0.6.3 and from 0.7.0 on; ``deepfakebench`` as there.
        tuned: What of the trunk is trained; see :func:`dfdet.networks.tuning.tune`.
        lora_rank: Of ``tuned="lora"``.
        lora_alpha: Of ``tuned="lora"``.
        drift: With ``tuned="head"``: leave the trunk in training mode, as icpr2020dfdc does, so that its batch norms'
            statistics follow the data and stochastic depth stays on although nothing of it is trained.

    Raises:
        ValueError: timm knows no such network, or it cannot be had in this form.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool = False,
        size: int | None = None,
        attention: bool = False,
        head: Literal["linear", "batchnorm"] = "linear",
        dropout: float = 0.0,
        drop_path: float | None = None,
        bn_momentum: float | None = None,
        normalised: bool = False,
        pad_compat: PadCompat = "tf",
        tuned: Tune = "all",
        lora_rank: int = 8,
        lora_alpha: float = 16.0,
        drift: bool = False,
    ) -> None:
        super().__init__()
        trunk = _trunk(name, pretrained, size, drop_path)
        self.trunk = trunk
        self.name, self.normalised = name, normalised
        self.architecture = str(trunk.pretrained_cfg["architecture"])
        self.num_features = int(trunk.head_hidden_size)
        self.tuned, self.drift = tuned, drift
        if bn_momentum is not None:
            for module in self.trunk.modules():
                if isinstance(module, _BatchNorm):
                    module.momentum = bn_momentum
        if pad_compat != "tf":
            self._pad_statically(pad_compat)
        if attention and self.architecture not in GATED:
            raise ValueError(f"attention is known for {' and '.join(GATED)}, not for {name}")
        gate = GATED[self.architecture](self.trunk) if attention else None
        self.has_attention = gate is not None
        tune(self.trunk, tuned, lora_rank, lora_alpha)
        if gate is not None and tuned != "head":
            gate.requires_grad_(True)  # it comes from no pretraining: frozen, it would stay noise
        self.dropout = nn.Dropout(dropout)
        linear = nn.Linear(self.num_features, 1)
        self.output = linear if head == "linear" else nn.Sequential(_HeadNorm(self.num_features), linear)

    def _pad_statically(self, pad_compat: str) -> None:
        if self.architecture != "tf_efficientnet_b4":
            raise ValueError(f"pad_compat={pad_compat!r} is about tf_efficientnet_b4, not {self.name}")
        for where, pad in _PADS[pad_compat].items():
            old = self.trunk.get_submodule(where)
            assert isinstance(old, Conv2dSame)
            self.trunk.set_submodule(where, StaticPadConv2d(old, pad))

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation; of a trunk that is not trained the statistics stay as they are, unless it drifts."""
        super().train(mode)
        if self.tuned == "head" and not self.drift:
            self.trunk.eval()
        elif self.tuned in ("norm", "lora"):
            hold_statistics(self.trunk)
        return self

    def features(self, images: Tensor) -> Tensor:
        """Pooled features (B, D) of images (B, 3, S, S) that are normalised as the network wants them."""
        return self.trunk.forward_head(self.trunk.forward_features(images), pre_logits=True)

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,) of features (B, D)."""
        if self.normalised:
            features = F.normalize(features, dim=-1)
        return self.output(self.dropout(features)).squeeze(-1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) of images (B, 3, S, S)."""
        return self.classify(self.features(images))

    def attention_map(self, images: Tensor) -> Tensor:
        """The map (B, 1, h, w) in [0, 1] by which the middle of the trunk is weighted.

        Raises:
            ValueError: The network has none.
        """
        if not self.has_attention:
            raise ValueError(f"{self.name} was made without attention")
        gate = next(module for module in self.trunk.modules() if isinstance(module, Gate))
        seen: list[Tensor] = []
        handle = gate.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
        try:
            self.trunk.forward_features(images)
        finally:
            handle.remove()
        return gate.map(seen[0])

    def layer_numbers(self) -> dict[str, int]:
        """The layer of each parameter by name, from 0 at the input: timm's own grouping, then the classifier."""
        if hasattr(self.trunk, "group_matcher"):
            found = group_parameters(self.trunk, self.trunk.group_matcher(coarse=False), reverse=True)
        else:  # three of its families tell none: then by the direct parts
            parts = list(dict.fromkeys(name.split(".")[0] for name, _ in self.trunk.named_parameters()))
            found = {name: parts.index(name.split(".")[0]) for name, _ in self.trunk.named_parameters()}
        numbers = {f"trunk.{name}": int(number) for name, number in found.items()}
        last = max(numbers.values()) + 1
        return numbers | {f"output.{name}": last for name, _ in self.output.named_parameters()}


def _trunk(name: str, pretrained: bool, size: int | None, drop_path: float | None) -> Any:
    if not timm.is_model(name.split(".")[0]):
        raise ValueError(f"timm knows no network {name!r}")
    settings = timm.get_pretrained_cfg(name, allow_unregistered=False)
    given: dict[str, Any] = {} if drop_path is None else {"drop_path_rate": drop_path}
    if size is not None and settings is not None and settings.fixed_input_size and size != settings.input_size[-1]:
        given["img_size"] = size
    try:
        trunk = timm.create_model(name, pretrained=pretrained, num_classes=0, **given)
    except (TypeError, AssertionError) as error:
        asked = ", ".join(f"{k}={v}" for k, v in given.items())
        raise ValueError(f"{name} cannot be made with {asked}: {error}") from error
    patch = getattr(getattr(trunk, "patch_embed", None), "patch_size", None)
    if size is not None and isinstance(patch, tuple) and size % patch[0]:
        raise ValueError(f"{name} sees patches of {patch[0]} pixels, of which {size} is no multiple")
    return trunk
