"""A network goes in, and what of it is trained is settled: all, its norms, low-rank steps beside its layers.

The field's present recipe for unseen corpora is a large pretrained transformer of which next to nothing is trained:

- ``norm``: scales and shifts of the normalisation layers alone, on features divided by their length: Yermakov et al.,
  "Unlocking the Hidden Potential of CLIP in Generalizable Deepfake Detection" (arXiv 2503.19683, 2025) and "Deepfake
  Detection that Generalizes Across Benchmarks" (WACV 2026, arXiv 2508.06248; CLIP ViT-L/14, 0.03 % of the weights).
- ``lora``: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022), sec. 4; on vision transformers
  for forged faces: Kong et al., "MoE-FFD" (2024). They adapt attention; that the MLP is adapted too is our choice.
- ``head``: nothing but the classifier, a linear probe.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from timm.layers.norm import RmsNorm, RmsNorm2d
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

Tune = Literal["all", "norm", "lora", "head"]

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _BatchNorm, RmsNorm, RmsNorm2d)
_ADAPTED = ("attn", "mlp")  # how timm begins the names of what holds attention's and the MLP's linear layers


class LoRALinear(nn.Linear):
    """A linear layer that stays as it is, and beside it a product of two thin matrices that is trained.

    ``weight`` and ``bias`` keep their names; ``lora_a`` (r, in) and ``lora_b`` (out, r) come to them. ``lora_b`` starts
    at 0, so that the layer first does what it did.

    Args:
        like: The layer whose weights it takes over.
        rank: r.
        alpha: The product is weighted by alpha / r.
    """

    def __init__(self, like: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(like.in_features, like.out_features, bias=like.bias is not None, device="meta")
        self.weight, self.bias = like.weight, like.bias
        self.scale = alpha / rank
        self.lora_a = nn.Parameter(like.weight.new_empty(rank, like.in_features))
        self.lora_b = nn.Parameter(like.weight.new_zeros(like.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, features: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return super().forward(features) + self.scale * F.linear(F.linear(features, self.lora_a), self.lora_b)

    def merged(self) -> nn.Linear:
        """A plain layer that does the same."""
        made = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        weight = self.weight + self.scale * self.lora_b @ self.lora_a
        made.weight = nn.Parameter(weight.detach())
        made.bias = None if self.bias is None else nn.Parameter(self.bias.detach())
        return made.train(self.training)


def tune(network: nn.Module, how: Tune, rank: int = 8, alpha: float = 16.0) -> None:
    """Settles which parameters of a network (without its classifier) get a gradient, and adds those of ``lora``.

    Args:
        network: It.
        how: ``all``; ``norm``: scale and shift of its normalisation layers; ``lora``: low-rank steps beside the linear
            layers of its attention and MLPs; ``head``: nothing of it.
        rank: Of ``lora``.
        alpha: Of ``lora``: a step is weighted by alpha / rank.

    Raises:
        ValueError: The network has nothing of what is to be tuned.
    """
    if how not in ("all", "norm", "lora", "head"):
        raise ValueError(f"tune={how!r} is none of all, norm, lora, head")
    if how == "all":
        return
    network.requires_grad_(False)
    if how == "norm":
        found = [p for m in network.modules() if isinstance(m, _NORMS) for p in m.parameters(recurse=False)]
        if not found:
            raise ValueError(f"tune='norm': {type(network).__name__} has no normalisation layer with a scale")
        for parameter in found:
            parameter.requires_grad_(True)
    if how == "lora":
        _adapt(network, rank, alpha)


def _adapt(network: nn.Module, rank: int, alpha: float) -> None:
    if rank < 1:
        raise ValueError(f"the rank of lora is {rank}; it must be at least 1")
    names = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and any(part.startswith(_ADAPTED) for part in name.split("."))
    ]
    if not names:
        raise ValueError(f"tune='lora': {type(network).__name__} has no linear layer in an attention or an MLP")
    for name in names:
        holder = network.get_submodule(name.rpartition(".")[0])
        if name.endswith("qkv") and getattr(holder, "q_bias", None) is not None:
            # timm then multiplies by the bare weight, and what is added to the layer would never be seen
            raise ValueError(f"tune='lora': {type(network).__name__} keeps biases apart from its layers; take norm")
        network.set_submodule(name, LoRALinear(network.get_submodule(name), rank, alpha))  # type: ignore[arg-type]


def merge_lora(network: nn.Module) -> int:
    """Puts plain layers that do the same in the place of every :class:`LoRALinear`; returns how many."""
    with torch.no_grad():
        found = [(name, m.merged()) for name, m in network.named_modules() if isinstance(m, LoRALinear)]
    for name, plain in found:
        network.set_submodule(name, plain)
    return len(found)


def hold_statistics(network: nn.Module) -> None:
    """Batch norms of which nothing is trained take their stored statistics, and leave them, until ``train()``."""
    for module in network.modules():
        if isinstance(module, _BatchNorm) and not any(p.requires_grad for p in module.parameters()):
            module.eval()
