"""Which networks were published, how their state dicts are spelt, and which network of ours each of them is.

Spellings: reference weights.md §2.3-§4, from the code of polimi-ispl/icpr2020dfdc, SCLBD/DeepfakeBench and
abhijitjadhav1998/Deepfake_detection_using_deep_learning. They are carried out by :mod:`dfdet.weights.converting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from dfdet.weights.spellings import Rename, bench_inception, efficientnet_in, first_of, prefixed, resnext_lstm

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layout:
    """One network as its authors saved it.

    Attributes:
        name: What ``--layout`` calls it.
        about: Whose it is.
        marks: Keys that are there.
        lacks: Keys that are not, where ``marks`` are those of another layout too.
        rename: Their key to ours; None where it knows none.
        wanted: Every key of ours with its shape.
        detector: The detector that holds it, as ``dfdet models`` calls it.
        init_args: Its arguments, where they are not the defaults.
        unused: Beginnings of keys that the file carries and the authors' code does not use.
        head: Beginnings of our keys that a file may lack altogether: then it is a start, not a detector.
        fake: Which of two outputs says fake, of a network that has one here; None where nothing is to be joined.
        start: It has no classifier of real and fake, and its keys do not tell it from others.
    """

    name: str
    about: str
    marks: tuple[str, ...]
    rename: Rename
    wanted: Callable[[], Shapes]
    detector: str
    init_args: dict[str, Any] = field(default_factory=dict)
    lacks: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    fake: int | None = None
    start: bool = False

    def fits(self, keys: Iterable[str]) -> bool:
        """Whether a file with these keys is of this layout."""
        there = set(keys)
        return there.issuperset(self.marks) and there.isdisjoint(self.lacks)


# What our networks want --------------------------------------------------------------------------------------------


def _shapes(make: Callable[[], nn.Module]) -> Shapes:
    with torch.device("meta"):  # names and shapes alone: no memory, no drawing of random weights
        return {key: tuple(value.shape) for key, value in make().state_dict().items()}


def _backbone(name: str, attention: bool = False, tuned: bool = False) -> Callable[[], Shapes]:
    """A Backbone with its linear layer; ``tuned``: with a batch norm before it."""

    def wanted() -> Shapes:
        from dfdet.networks.backbone import Backbone

        return _shapes(lambda: Backbone(name, attention=attention, head="batchnorm" if tuned else "linear"))

    return wanted


def _mesonet_shapes(cls: str) -> Callable[[], Shapes]:
    def wanted() -> Shapes:
        from dfdet.networks import mesonet

        return _shapes(getattr(mesonet, cls))

    return wanted


def _bench_meso(inception: bool) -> Callable[[], Shapes]:
    def wanted() -> Shapes:
        from dfdet.networks.mesonet_deepfakebench import DeepfakeBenchMeso4, DeepfakeBenchMesoInception4

        return _shapes(DeepfakeBenchMesoInception4 if inception else DeepfakeBenchMeso4)

    return wanted


def _legacy_resnext() -> Shapes:
    from dfdet.networks.resnext_lstm import LegacyResNeXtLSTM

    return _shapes(LegacyResNeXtLSTM)


B4, XCEPTION, RESNEXT = "tf_efficientnet_b4", "legacy_xception", "resnext50_32x4d"
_HEAD = ("output.",)
# the two layers behind the frozen features of icpr2020dfdc's SiameseTuning
_TUNED = prefixed("classifier.", "output.")


def _icpr2020() -> list[Layout]:
    whose, padding = "polimi-ispl/icpr2020dfdc", {"pad_compat": "en06"}
    found = []
    for gated in (False, True):
        gate, attconv = ("_att" if gated else ""), "efficientnet.attconv.weight"
        attention = "with attention" if gated else "without attention"
        found.append(
            Layout(
                f"icpr2020.efficientnet_b4{gate}",
                f"{whose}, EfficientNet-B4 {attention}",
                marks=("efficientnet._conv_stem.weight", *([attconv] if gated else [])),
                lacks=() if gated else (attconv,),
                rename=first_of(efficientnet_in("efficientnet.", gated), prefixed("classifier.", "output.")),
                wanted=_backbone(B4, attention=gated),
                detector=f"efficientnet_b4{gate}",
                init_args=padding,
                head=_HEAD,
            )
        )
        found.append(
            Layout(
                f"icpr2020.efficientnet_b4{gate}_st",
                f"{whose}, EfficientNet-B4 {attention}, trained by triplets",
                marks=("feat_ext.efficientnet._conv_stem.weight", *([f"feat_ext.{attconv}"] if gated else [])),
                lacks=() if gated else (f"feat_ext.{attconv}",),
                rename=first_of(efficientnet_in("feat_ext.efficientnet.", gated), _TUNED),
                wanted=_backbone(B4, attention=gated, tuned=True),
                detector=f"efficientnet_b4{gate}_st",
                init_args={**padding, "stage": "head"},
                unused=("feat_ext.classifier.",),
                head=_HEAD,
            )
        )
    found.append(
        Layout(
            "icpr2020.xception",
            f"{whose}, Xception",
            marks=("xception.block1.rep.0.conv1.weight",),
            rename=first_of(prefixed("xception.last_linear.", "output."), prefixed("xception.", "trunk.")),
            wanted=_backbone(XCEPTION),
            detector="xception",
            head=_HEAD,
        )
    )
    found.append(
        Layout(
            "icpr2020.xception_st",
            f"{whose}, Xception, trained by triplets",
            marks=("feat_ext.xception.block1.rep.0.conv1.weight",),
            rename=first_of(prefixed("feat_ext.xception.", "trunk."), _TUNED),
            wanted=_backbone(XCEPTION, tuned=True),
            detector="xception_st",
            init_args={"stage": "head"},
            unused=("feat_ext.xception.last_linear.",),
            head=_HEAD,
        )
    )
    return found


def _deepfakebench() -> list[Layout]:
    whose = "SCLBD/DeepfakeBench"
    linear = first_of(
        prefixed("backbone.last_linear.1.", "output."),  # where it was made with dropout
        prefixed("backbone.last_linear.", "output."),
    )
    return [
        Layout(
            "deepfakebench.xception",
            f"{whose}, Xception",
            marks=("backbone.block1.rep.0.conv1.weight",),
            rename=first_of(linear, prefixed("backbone.", "trunk.")),
            wanted=_backbone(XCEPTION),
            detector="xception",
            init_args={"statistics": "half", "size": 256},
            unused=("backbone.adjust_channel.",),
            fake=1,
        ),
        Layout(
            "deepfakebench.efficientnet_b4",
            f"{whose}, EfficientNet-B4",
            marks=("backbone.efficientnet._conv_stem.weight", "backbone.last_layer.weight"),
            rename=first_of(efficientnet_in("backbone.efficientnet."), prefixed("backbone.last_layer.", "output.")),
            wanted=_backbone(B4),
            detector="efficientnet_b4",
            init_args={"statistics": "half", "size": 256, "pad_compat": "deepfakebench"},
            fake=1,
        ),
        Layout(
            "deepfakebench.meso4",
            f"{whose}, its Meso4",
            marks=("backbone.conv4.weight", "backbone.fc1.weight", "backbone.bn2.weight"),
            rename=prefixed("backbone.", ""),
            wanted=_bench_meso(inception=False),
            detector="dfdet.detectors.mesonet.DeepfakeBenchMeso4Detector",
        ),
        Layout(
            "deepfakebench.mesoinception4",
            f"{whose}, its MesoInception4",
            marks=("backbone.Incption1_conv1.weight",),
            rename=bench_inception,
            wanted=_bench_meso(inception=True),
            detector="dfdet.detectors.mesonet.DeepfakeBenchMesoInception4Detector",
        ),
    ]


def _timm() -> list[Layout]:
    found = []
    for name, mark, classifier, detector in (
        (B4, "blocks.6.1.conv_pwl.weight", ("classifier.",), "efficientnet_b4"),
        (XCEPTION, "block12.rep.1.conv1.weight", ("fc.", "last_linear."), "xception"),
        (RESNEXT, "layer4.2.conv3.weight", ("fc.",), "resnext_lstm"),
    ):
        found.append(
            Layout(
                f"timm.{name}",
                f"timm, {name}",
                marks=(mark,),
                rename=prefixed("", "trunk."),
                wanted=_backbone(name),
                detector=detector,
                unused=classifier,
                head=_HEAD,
                start=True,
            )
        )
    return found


def _mesonet() -> list[Layout]:
    """Keras' files; :mod:`dfdet.weights.mesonet` has turned them into our spelling already."""
    return [
        Layout(
            f"mesonet.{name}",
            f"DariusAf/MesoNet, {cls}",
            marks=("layer_names",),  # an attribute of the file, and no tensor's name
            rename=prefixed("", ""),
            wanted=_mesonet_shapes(cls),
            detector=name,
        )
        for name, cls in (("meso4", "Meso4"), ("mesoinception4", "MesoInception4"))
    ]


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        *_mesonet(),
        *_icpr2020(),
        *_deepfakebench(),
        Layout(
            "jadhav.resnext_lstm",
            "abhijitjadhav1998/Deepfake_detection_using_deep_learning, ResNeXt-50 with LSTM",
            marks=("model.0.weight", "lstm.weight_hh_l0", "linear1.weight"),
            rename=resnext_lstm,
            wanted=_legacy_resnext,
            detector="resnext_lstm",
            init_args={"legacy": "last"},
        ),
        *_timm(),
    )
}
