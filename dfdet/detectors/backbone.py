"""Any timm network, and the EfficientNet-B4 and Xception of icpr2020dfdc: a crop in, a logit out; networks/backbone.py.

Bonettini et al. train at 224 pixels, from ImageNet's weights, by Adam at 1e-5 on the cross-entropy, and feed all of
their networks ImageNet's statistics, Xception too, whose own are 0.5 and 0.5.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import timm
from huggingface_hub import try_to_load_from_cache

from dfdet import console
from dfdet.detectors.frames import FrameDetector
from dfdet.errors import UserError, nearest
from dfdet.networks.backbone import Backbone, PadCompat
from dfdet.networks.tuning import Tune

Colours = tuple[float, float, float]
IMAGENET: tuple[Colours, Colours] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: tuple[Colours, Colours] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def settings_of(backbone: str) -> Any:
    """What timm knows of a network's weights: ``input_size``, ``mean``, ``std``, ...

    Raises:
        UserError: timm has no such network, or no weights of this tag, with the nearest that it has.
    """
    architecture, _, tag = backbone.partition(".")
    if not timm.is_model(architecture):
        raise UserError(f"model.backbone {backbone!r} is no network of timm", nearest(architecture, timm.list_models()))
    known = timm.models.get_arch_pretrained_cfgs(architecture)
    if tag and backbone not in known:
        tags = [name.partition(".")[2] for name in known if "." in name]
        hint = nearest(tag, tags) or f"known: {', '.join(sorted(tags))}"
        raise UserError(f"model.backbone {backbone!r}: timm has no weights {tag!r} of {architecture}", hint)
    return timm.get_pretrained_cfg(backbone)


def make_backbone(name: str, pretrained: bool, **options: Any) -> Backbone:
    """The network, or one line that says why not.

    Raises:
        UserError: It cannot be had in this form, or its weights not at all.
    """
    settings = settings_of(name)
    if pretrained and not settings.has_weights:
        raise UserError(f"no weights of {name} were published", "give --model.pretrained false")
    try:
        with _fetching(settings) if pretrained else nullcontext():
            return Backbone(name, pretrained=pretrained, **options)
    except OSError as error:  # before ValueError: the hub's errors are both
        raise _not_fetched(name, error) from error
    except ValueError as error:
        raise UserError(str(error)) from error
    except Exception as error:
        # what the hub's client raises without a network depends on its version and on that of its HTTP library
        if not pretrained:
            raise
        raise _not_fetched(name, error) from error


@contextmanager
def _fetching(settings: Any) -> Iterator[None]:
    """Says what is waited for; the hub's client would tell each of its ten attempts without a network instead."""
    hub, names = settings.hf_hub_id, ("model.safetensors", "pytorch_model.bin")
    if hub and not any(isinstance(try_to_load_from_cache(hub, name), str) for name in names):
        console.say(f"fetching the weights of {settings.architecture} from huggingface.co/{hub}")
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _not_fetched(name: str, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0]
    return UserError(
        f"the pretrained weights of {name} could not be had: {reason[:160]}",
        "connect once, or copy timm's cache (HF_HOME, TORCH_HOME) here, or give --model.pretrained false",
    )


class BackboneDetector(FrameDetector):
    """Any network of timm.

    Args:
        backbone: Its name in timm, with or without the tag of its weights: ``vit_large_patch14_clip_224.openai``.
        pretrained: Start from these weights, which are fetched where they are not in the cache.
        size: S, side of the crop in pixels; None: what the weights were trained with.
        statistics: Mean and deviation of the colours: the weights' own, ImageNet's, or a half each.
        attention: Weight the maps in the middle of the network by a learned map; tf_efficientnet_b4, legacy_xception.
        head: One linear layer, or batch norm before it.
        dropout: Share of the features dropped before the linear layer.
        drop_path: Stochastic depth at the last block; None: timm's default.
        bn_momentum: Momentum of the batch norms, as torch counts it; None: timm's default.
        normalised: Divide the features by their length before the linear layer.
        pad_compat: How tf_efficientnet_b4 pads: ``tf`` as timm; ``en06``, ``en07`` as efficientnet_pytorch up to 0.6.3
            and from 0.7.0; ``deepfakebench`` as there.
        tune: What is trained: ``all``, the ``norm`` layers and the head, ``lora`` steps beside the linear layers and
            the head, or the ``head`` alone.
        lora_rank: Rank of the steps.
        lora_alpha: A step is weighted by lora_alpha / lora_rank.
        kwargs: Everything of FrameDetector.
    """

    def __init__(
        self,
        backbone: str = "convnext_tiny",
        pretrained: bool = False,
        size: int | None = None,
        statistics: Literal["own", "imagenet", "half"] = "own",
        attention: bool = False,
        head: Literal["linear", "batchnorm"] = "linear",
        dropout: float = 0.0,
        drop_path: float | None = None,
        bn_momentum: float | None = None,
        normalised: bool = False,
        pad_compat: PadCompat = "tf",
        tune: Tune = "all",
        lora_rank: int = 8,
        lora_alpha: float = 16.0,
        **kwargs: Any,
    ) -> None:
        settings = settings_of(backbone)
        size = int(settings.input_size[-1]) if size is None else size
        network = make_backbone(
            backbone, pretrained, size=size, attention=attention, head=head, dropout=dropout, drop_path=drop_path,
            bn_momentum=bn_momentum, normalised=normalised, pad_compat=pad_compat, tuned=tune, lora_rank=lora_rank,
            lora_alpha=lora_alpha,
        )  # fmt: skip
        super().__init__(network=network, input_size=size, **kwargs)
        self.started |= pretrained
        own = (tuple(settings.mean), tuple(settings.std))
        self.mean, self.std = {"own": own, "imagenet": IMAGENET, "half": HALF}[statistics]


class EfficientNetB4Detector(BackboneDetector):
    """EfficientNet-B4 as icpr2020dfdc trains it.

    Args:
        backbone: ``tf_efficientnet_b4`` with the tag of its weights.
        size: S, side of the crop in pixels.
        dropout: Share of the features dropped before the linear layer.
        drop_path: Stochastic depth at the last block.
        bn_momentum: Momentum of the batch norms, as torch counts it.
        lr: Learning rate.
        kwargs: Everything of BackboneDetector.
    """

    def __init__(
        self,
        backbone: str = "tf_efficientnet_b4.aa_in1k",
        size: int = 224,
        dropout: float = 0.4,
        drop_path: float = 0.2,
        bn_momentum: float = 0.01,
        lr: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            backbone=backbone, size=size, dropout=dropout, drop_path=drop_path, bn_momentum=bn_momentum, lr=lr, **kwargs
        )


class EfficientNetB4AttDetector(EfficientNetB4Detector):
    """EfficientNet-B4 with an attention map after MBConv block 9 (icpr2020dfdc's AutoAttB4).

    Args:
        attention: False makes it EfficientNet-B4.
        kwargs: Everything of EfficientNetB4Detector.
    """

    def __init__(self, attention: bool = True, **kwargs: Any) -> None:
        super().__init__(attention=attention, **kwargs)


class XceptionDetector(BackboneDetector):
    """Xception as icpr2020dfdc trains it.

    Args:
        backbone: ``legacy_xception`` with the tag of its weights.
        size: S, side of the crop in pixels.
        statistics: Mean and deviation of the colours: ImageNet's as there, a half each as FaceForensics++ has them.
        lr: Learning rate.
        kwargs: Everything of BackboneDetector.
    """

    def __init__(
        self,
        backbone: str = "legacy_xception.tf_in1k",
        size: int = 224,
        statistics: Literal["own", "imagenet", "half"] = "imagenet",
        lr: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, size=size, statistics=statistics, lr=lr, **kwargs)


class XceptionAttDetector(XceptionDetector):
    """Xception with an attention map after block 2; none was published (our choice, see networks/backbone.py).

    Args:
        attention: False makes it Xception.
        kwargs: Everything of XceptionDetector.
    """

    def __init__(self, attention: bool = True, **kwargs: Any) -> None:
        super().__init__(attention=attention, **kwargs)
