"""A key as its authors spell it goes in, our network's key comes out, or None where the authors have no such key."""

from __future__ import annotations

import re
from collections.abc import Callable

Rename = Callable[[str], str | None]

# timm groups EfficientNet-B4's 32 blocks in stages; (first block, stage).
_STAGES = ((0, 0), (2, 1), (6, 2), (10, 3), (16, 4), (22, 5), (30, 6))
_AROUND = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
# The first stage's blocks do not expand: timm numbers their norms from the depthwise convolution on.
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2", **_SQUEEZE}
_EXPANDING = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3", **_SQUEEZE,
}  # fmt: skip
_GATE = "trunk.blocks.2.4"  # attention stands behind MBConv 9, the fourth and last of its stage


def _efficientnet(key: str, gated: bool) -> str | None:
    """A key of efficientnet_pytorch's B4 as our Backbone's."""
    if gated and key.startswith("attconv."):
        return f"{_GATE}.{key.removeprefix('attconv.')}"
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if block is None:
        part, _, last = key.partition(".")
        return f"trunk.{_AROUND[part]}.{last}" if part in _AROUND else None
    number, part, last = int(block[1]), block[2], block[3]
    first, stage = max((pair for pair in _STAGES if pair[0] <= number), default=(0, 0))
    names = _PLAIN if stage == 0 else _EXPANDING
    if part not in names:
        return None
    return f"trunk.blocks.{stage}.{number - first}.{names[part]}.{last}"


def prefixed(given: str, ours: str) -> Rename:
    """Keys that only begin otherwise."""
    return lambda key: ours + key.removeprefix(given) if key.startswith(given) else None


def first_of(*ways: Rename) -> Rename:
    """The first way that knows a key."""

    def rename(key: str) -> str | None:
        return next((found for way in ways if (found := way(key)) is not None), None)

    return rename


def efficientnet_in(prefix: str, gated: bool = False) -> Rename:
    """efficientnet_pytorch's B4 behind a prefix; ``gated``: with icpr2020dfdc's attention."""

    def rename(key: str) -> str | None:
        return _efficientnet(key.removeprefix(prefix), gated) if key.startswith(prefix) else None

    return rename


_INCEPTION_PARTS = {
    "conv1": "a", "conv2_1": "b1", "conv2_2": "b2", "conv3_1": "c1", "conv3_2": "c2", "conv4_1": "d1", "conv4_2": "d2",
    "bn": "bn",
}  # fmt: skip
_RESNEXT_PARTS = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def bench_inception(key: str) -> str | None:
    """DeepfakeBench's MesoInception4."""
    found = re.fullmatch(r"backbone\.Incption([12])_(\w+)\.(\w+)", key)  # their spelling
    if found and found[2] in _INCEPTION_PARTS:
        return f"inception{found[1]}.{_INCEPTION_PARTS[found[2]]}.{found[3]}"
    return None if found else prefixed("backbone.", "")(key)


def resnext_lstm(key: str) -> str | None:
    """ResNeXt-50, whose parts an nn.Sequential of torchvision's children numbers, and the LSTM behind."""
    found = re.fullmatch(r"model\.(\d)\.(.+)", key)
    if found:
        return f"trunk.{_RESNEXT_PARTS[found[1]]}.{found[2]}" if found[1] in _RESNEXT_PARTS else None
    return key if key.startswith("lstm.") else prefixed("linear1.", "output.")(key)
