"""A detector and clips in, a heat-map of every frame out: where that lies which speaks for fake (or for real).

The map is the network's own where it has one: its attention, or the scores of its blocks. Elsewhere it is Grad-CAM
(Selvaraju et al., ICCV 2017; captum's LayerGradCam) of the clip's logit, through whatever lies between: an LSTM, a
pooling. A map without anything in it is told in words and never scaled up: its noise would look like evidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from captum.attr import LayerActivation, LayerGradCam, LayerGradientXActivation
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from dfdet.data.batch import ClipBatch
from dfdet.detectors.frames import FrameDetector
from dfdet.errors import UserError, nearest
from dfdet.networks.backbone import Gate
from dfdet.networks.srm_cnn import SRMResidual

Method = Literal["auto", "attention", "gradcam", "cam_legacy", "blocks"]
Toward = Literal["fake", "real"]
NOTHING = 1e-5  # a map's largest value beside that of the terms whose sum it is; what is less is rounding
FLAT = 0.01  # attention that differs by less weighs every place alike
PLACES = 32  # a map is brought to at most this many places a side: single pixels of a fine one cannot be read


@dataclass(frozen=True)
class Heat:
    """The maps of one clip.

    Attributes:
        maps: float32 (T, h, w), at least 0, h and w at most 32; they cover the crop. None: the detector has no map.
        logits: float64 (T,), a frame's own logit where frames are scored one by one, else the clip's.
        remark: Why there is nothing to see, else None.
    """

    maps: np.ndarray | None
    logits: np.ndarray
    remark: str | None = None


class Heater:
    """Makes the maps of one detector.

    Args:
        model: The detector, in eval mode, on its device.
        method: ``auto``: the network's block scores or attention, where it has them, else ``gradcam``; ``cam_legacy``
            is the original's map of resnext_lstm (:func:`_legacy`).
        layer: For ``gradcam``: the layer by its name; None: the last convolution that sees a place, or what stands for
            it in a ResNet and a transformer.
        toward: Which verdict the evidence is for; attention is for neither.

    Raises:
        UserError: If the detector has no such map, or no such layer, with the nearest.
    """

    def __init__(
        self, model: LightningModule, method: Method = "auto", layer: str | None = None, toward: Toward = "fake"
    ) -> None:
        self.model: Any = model
        self.toward = toward
        self.layer_name = None if layer is None else _layer_name(model, layer)
        self.method: str = method if method != "auto" else _best(model, layer)
        self._attention = _attention(model)
        if self.method == "attention" and self._attention is None:
            raise UserError(f"{_name(model)} has no attention map", "take --method gradcam")
        if self.method == "blocks" and not hasattr(model, "block_scores"):
            raise UserError(f"{_name(model)} scores no blocks", "take --method auto")
        if self.method == "cam_legacy" and _trunk_and_weight(model) is None:
            raise UserError(f"{_name(model)} has no trunk before an LSTM", "cam_legacy is about resnext_lstm")
        if layer is not None and self.method != "gradcam":
            raise UserError(f"--layer is about gradcam, not about {self.method}", "leave one of the two out")

    @property
    def title(self) -> str:
        """What the maps are, in a few words."""
        if self.method == "gradcam":
            return f"Grad-CAM of {self.layer_name}, for {self.toward}" if self.layer_name else "no map"
        return {
            "attention": "the network's attention",
            "blocks": f"block scores, for {self.toward}",
            "cam_legacy": "the original's CAM, LSTM passed over, for its verdict",
        }[self.method]

    def __call__(self, batch: ClipBatch) -> Heat:
        """The maps of a batch of one clip."""
        batch = _frame_by_frame(self.model, batch)
        with _differentiable(self.model):
            maps, remark = self._maps(batch)
        with torch.no_grad():
            logits = _logits(self.model, batch)
        frames = batch.mask.numel()
        each = logits.double().cpu().numpy()
        return Heat(None if maps is None else _coarse(maps).cpu().numpy(), np.resize(each, frames), remark)

    def _maps(self, batch: ClipBatch) -> tuple[Tensor | None, str | None]:
        if self.method == "attention":
            assert self._attention is not None
            prepared = self.model.prepare(batch.video.flatten(0, 1))
            with torch.no_grad():
                maps = self._attention(prepared).squeeze(1)
            low, high = float(maps.min()), float(maps.max())
            if high - low < FLAT:
                return torch.zeros_like(maps), f"the attention is the same everywhere ({low:.2f})"
            return maps, None
        if self.method == "blocks":
            return self._signed(_of_blocks(self.model, batch.video.flatten(0, 1)), 0.0)
        if self.method == "cam_legacy":
            return _legacy(self.model, batch), None
        return self._gradcam(batch)

    def _gradcam(self, batch: ClipBatch) -> tuple[Tensor | None, str | None]:
        if self.layer_name is None:
            self.layer_name = _last_convolution(self.model, batch)
        if self.layer_name is None:
            return None, f"{_name(self.model)} has no convolution that sees a place: there is no map to make"
        layer = self.model.get_submodule(self.layer_name)

        def score(video: Tensor) -> Tensor:
            return _logits(self.model, replace(batch, video=video))

        tokens = _prefix_tokens(self.model)
        if tokens is not None and ".blocks." in f".{self.layer_name}":
            found = LayerGradientXActivation(score, layer).attribute(batch.video)
            terms = _of_tokens(found, tokens)
        else:
            terms = LayerGradCam(score, layer).attribute(batch.video, attr_dim_summation=False)
        maps = _a_map_a_frame(terms.sum(1, keepdim=True), batch.mask.numel(), self.layer_name)
        return self._signed(maps, float(terms.detach().abs().sum(1).max()))

    def _signed(self, maps: Tensor, terms: float) -> tuple[Tensor, str | None]:
        """What speaks for the verdict; and a remark where that is nothing beside ``terms``, the largest summed."""
        least = NOTHING * terms
        if not float(maps.detach().abs().max()) > least:
            return torch.zeros_like(maps), "the gradient is zero everywhere: the score hangs on no place here"
        kept = (maps if self.toward == "fake" else -maps).clamp(min=0)
        if not float(kept.detach().max()) > least:
            return torch.zeros_like(maps), f"nothing in this clip speaks for {self.toward}"
        return kept, None


def residual_maps(model: LightningModule, batch: ClipBatch) -> np.ndarray | None:
    """The noise residuals that the network looks at, float32 (T, K, S, S) in [-1, 1]; None where it has no SRM filters.

    Paper 000 shows them as pictures beside the face.
    """
    filters = next((m for m in model.modules() if isinstance(m, SRMResidual)), None)
    if filters is None:
        return None
    with torch.no_grad():
        maps = filters(batch.video.flatten(0, 1))
    if filters.truncate is None:
        maps = maps / maps.abs().amax().clamp(min=1e-6)
    return np.asarray(maps.float().cpu().numpy())


# What a detector is made of -----------------------------------------------------------------------------------------


def _name(model: LightningModule) -> str:
    return type(model).__name__


def _best(model: LightningModule, layer: str | None) -> str:
    if layer is not None:
        return "gradcam"
    if hasattr(model, "block_scores"):
        return "blocks"
    return "gradcam" if _attention(model) is None else "attention"


def _attention(model: LightningModule) -> Any:
    """The method that gives a map (N, 1, h, w) of images, where a part of the detector has one."""
    for module in model.modules():
        if hasattr(module, "attention_map") and any(isinstance(part, Gate) for part in module.modules()):
            return module.attention_map
    return None


def _layer_name(model: LightningModule, asked: str) -> str:
    names = [name for name, _ in model.named_modules() if name]
    for name in (asked, f"network.{asked}"):
        if name in names:
            return name
    short = [name.removeprefix("network.") for name in names]
    raise UserError(f"{_name(model)} has no layer {asked!r}", nearest(asked, short))


def _prefix_tokens(model: LightningModule) -> int | None:
    """How many tokens of a vision transformer stand for no place; None for other networks."""
    module: Any
    for module in model.modules():
        if hasattr(module, "num_prefix_tokens") and isinstance(getattr(module, "blocks", None), nn.Sequential):
            return int(module.num_prefix_tokens)
    return None


def _last_convolution(model: LightningModule, batch: ClipBatch) -> str | None:
    """The convolution that runs last of those whose map has more than one place.

    Of a ResNet its last stage instead, behind the sum with what passes the convolutions by; of a transformer the norm
    before its last attention.
    """
    stages = [name for name, _ in model.named_modules() if name.endswith(".layer4")]
    if stages:
        return stages[-1]
    if _prefix_tokens(model) is not None:
        # the class token alone is read at the end: patches have a gradient before the last attention
        norms = [name for name, _ in model.named_modules() if ".blocks." in name and name.endswith(".norm1")]
        if norms:
            return norms[-1]
    ran: list[str] = []
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):

            def note(module: nn.Module, given: Any, out: Tensor, name: str = name) -> None:
                if out.shape[-1] * out.shape[-2] > 1:
                    ran.append(name)

            handles.append(module.register_forward_hook(note))
    try:
        with torch.no_grad():
            _logits(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return ran[-1] if ran else None


def _trunk_and_weight(model: LightningModule) -> tuple[str, Tensor] | None:
    """The last block of a trunk before an LSTM, by name, and the weights of the linear layer behind."""
    network = getattr(model, "network", None)
    output = getattr(network, "output", None)
    if network is None or not any(isinstance(m, nn.LSTM) for m in network.modules()):
        return None
    blocks = [name for name, _ in network.named_modules() if name.endswith("layer4")]
    return (f"network.{blocks[-1]}", output.weight) if blocks and isinstance(output, nn.Linear) else None


# What is done with it -----------------------------------------------------------------------------------------------


def _logits(model: LightningModule, batch: ClipBatch) -> Tensor:
    outputs: Any = model.predict_step(batch, 0)
    return outputs["logit"]


def _frame_by_frame(model: LightningModule, batch: ClipBatch) -> ClipBatch:
    """A clip as so many clips of one frame, where the detector scores its frames by themselves."""
    if not isinstance(model, FrameDetector) or model.attention is not None:
        return batch
    frames = batch.mask.numel()
    again = {name: getattr(batch, name).repeat_interleave(frames // len(batch)) for name in _A_CLIP}
    return replace(
        batch, video=batch.video.flatten(0, 1)[:, None], mask=torch.ones_like(batch.mask.view(-1, 1)),
        frames=batch.frames.view(-1, 1), **again,
    )  # fmt: skip


_A_CLIP = ("label", "weight", "item", "track", "clip", "pad")


@contextmanager
def _differentiable(model: LightningModule) -> Iterator[None]:
    """Gradients are kept; without cuDNN where there is an LSTM, of which it knows none in eval mode."""
    recurrent = any(isinstance(m, nn.RNNBase) for m in model.modules())
    with torch.inference_mode(False), torch.enable_grad(), torch.backends.cudnn.flags(enabled=not recurrent):
        yield


def _a_map_a_frame(found: Tensor, frames: int, layer: str) -> Tensor:
    """Captum's (N, 1, h, w), or (1, 1, T', h, w) of a layer in three dimensions, as (frames, h, w)."""
    if found.ndim == 5:
        return F.interpolate(found, (frames, *found.shape[-2:]), mode="trilinear")[0, 0]
    if found.ndim == 4 and found.shape[0] in (1, frames):
        return found[:, 0].expand(frames, -1, -1)
    raise UserError(f"layer {layer} gives no map of places (its output has the shape {tuple(found.shape)})")


def _of_tokens(found: Tensor, prefix: int) -> Tensor:
    """(N, tokens, D) of a transformer as maps (N, D, h, w)."""
    places = found[:, prefix:].transpose(1, 2)
    side = round(places.shape[2] ** 0.5)
    return places.unflatten(2, (side, places.shape[2] // side))


def _of_blocks(model: Any, images: Tensor) -> Tensor:
    """The logits of blocks as maps (N, S, S): the mean of the blocks that cover a pixel, 0 where padding lies."""
    scores = torch.as_tensor(model.block_scores(images)).float()
    size, block, stride = images.shape[-1], int(model.block), int(model.stride)
    total, covered = (torch.zeros(len(images), size, size) for _ in range(2))
    for i in range(scores.shape[1]):
        for j in range(scores.shape[2]):
            place = (slice(None), slice(i * stride, i * stride + block), slice(j * stride, j * stride + block))
            total[place] += scores[:, i, j].nan_to_num(0.0)[:, None, None]
            covered[place] += scores[:, i, j].isfinite().float()[:, None, None]
    return total / covered.clamp(min=1)


def _coarse(maps: Tensor) -> Tensor:
    """Maps of at most :data:`PLACES` a side, the mean of what falls into one."""
    maps = maps.detach().float()
    high, wide = (min(side, PLACES) for side in maps.shape[-2:])
    return maps if maps.shape[-2:] == (high, wide) else F.adaptive_avg_pool2d(maps[:, None], (high, wide))[:, 0]


def _legacy(model: LightningModule, batch: ClipBatch) -> Tensor:
    """The map of the ResNeXt-LSTM authors: the trunk's maps of each frame, weighted by the linear layer, 0..1 a frame.

    The LSTM between the two is passed over, so the map says little of the score; it is here to compare with.
    """
    found = _trunk_and_weight(model)
    assert found is not None
    name, weight = found

    def score(video: Tensor) -> Tensor:
        return _logits(model, replace(batch, video=video))

    with torch.no_grad():
        maps = LayerActivation(score, model.get_submodule(name)).attribute(batch.video)
        fake = bool(score(batch.video)[0] > 0)
    # two logits stand in the original's order (fake, real); one logit speaks for fake
    chosen = weight[0 if fake else 1] if len(weight) == 2 else (weight[0] if fake else -weight[0])
    cam = torch.einsum("nchw,c->nhw", maps, chosen)
    low, high = cam.amin((1, 2), keepdim=True), cam.amax((1, 2), keepdim=True)
    return (cam - low) / (high - low).clamp(min=torch.finfo(cam.dtype).tiny)
