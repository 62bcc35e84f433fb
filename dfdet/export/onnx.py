"""A detector in, an ONNX file out that takes pixels as they were decoded: uint8 RGB crops in, logits out.

Its scaling and normalisation are inside the file; cropping a face is not. The file is opened again by onnxruntime and
compared with the detector before it gets its name.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor, nn

from dfdet import files
from dfdet.data.batch import ClipBatch
from dfdet.detectors.frames import FrameDetector
from dfdet.errors import UserError
from dfdet.networks.ela import ELACNN

TOLERANCE = 1e-3  # of a logit, or of 1 where it is smaller
SIZES = (1, 3)  # batches that are compared
LABELS = "one logit for each input; above 0 means fake (1 = fake)"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The file.
        inputs: Its inputs, in words.
        difference: The largest difference of a logit between onnxruntime and the detector.
        size: Bytes.
    """

    path: Path
    inputs: str
    difference: float
    size: int


class _Frames(nn.Module):
    """uint8 (N, 3, S, S) to logits (N,)."""

    def __init__(self, detector: LightningModule) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, frames: Tensor) -> Tensor:
        mask = torch.ones((frames.shape[0], 1), dtype=torch.bool, device=frames.device)
        return _logits(self.detector, frames[:, None], mask)


class _Clips(nn.Module):
    """uint8 (N, T, 3, S, S) and bool (N, T) to logits (N,)."""

    def __init__(self, detector: LightningModule) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, video: Tensor, mask: Tensor) -> Tensor:
        return _logits(self.detector, video, mask)


def _logits(detector: Any, video: Tensor, mask: Tensor) -> Tensor:
    of_clips = video.new_zeros(video.shape[0], dtype=torch.int64)
    batch = ClipBatch(
        video=video, mask=mask, label=of_clips, weight=of_clips.float() + 1, item=of_clips, track=of_clips,
        clip=of_clips, frames=torch.zeros_like(mask, dtype=torch.int64), pad=of_clips.float(), errors=[],
    )  # fmt: skip
    return detector.predict_step(batch, 0)["logit"]


def export_onnx(
    model: LightningModule, path: Path, frames: int, size: int, facts: Mapping[str, Any] | None = None
) -> Exported:
    """Writes a detector as ONNX, whole or not at all.

    A detector of single frames takes ``frames`` (N, 3, S, S); one of clips takes ``video`` (N, T, 3, S, S) and ``mask``
    (N, T). N is free, T and S are the run's.

    Args:
        model: The detector, on the CPU, with its weights.
        path: The file.
        frames: T.
        size: S, pixels.
        facts: What the file's metadata shall say beside the label convention: name, threshold, crop.

    Raises:
        UserError: If the detector cannot be written in ONNX, a package is absent, or the file answers otherwise than
            the detector by more than 1e-3 of it, or of 1 where it is smaller.
    """
    _refuse(model)
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter wants it
    except ImportError as error:
        raise UserError(f"export to ONNX needs {error.name}", "pip install 'dfdet[onnx]'") from error

    single = isinstance(model, FrameDetector) and model.attention is None
    portable: nn.Module = _Frames(model) if single else _Clips(model)
    portable.eval()
    names = ["frames"] if single else ["video", "mask"]
    free = {name: {0: torch.export.Dim("batch")} for name in names}
    with files.replacing(path) as draft:
        with _quietly():
            try:
                program = torch.onnx.export(
                    portable, _example(2, frames, size, single), dynamo=True, input_names=names,
                    output_names=["logit"], dynamic_shapes=free, external_data=False, verbose=False,
                )  # fmt: skip
            except Exception as error:
                raise UserError(f"{type(model).__name__} cannot be written in ONNX: {_reason(error)}") from error
        assert program is not None
        written = program.model_proto
        shape = f"uint8 ({'N, 3' if single else f'N, {frames}, 3'}, {size}, {size}) RGB 0..255"
        inputs = f"frames: {shape}" if single else f"video: {shape}; mask: bool (N, {frames}), false on padded frames"
        known = {"detector": type(model).__name__, "dfdet": version("dfdet"), "label": LABELS, "input": inputs}
        for key, value in (known | dict(facts or {})).items():
            entry = written.metadata_props.add()
            entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
        onnx.save_model(written, str(draft))
        try:
            session = onnxruntime.InferenceSession(str(draft), providers=["CPUExecutionProvider"])
            difference = max(_difference(portable, session, names, _example(n, frames, size, single)) for n in SIZES)
        except Exception as error:  # its errors have no base class of their own
            raise UserError(
                f"{type(model).__name__} cannot be written in ONNX for batches of any size: {_reason(error)}"
            ) from error
        if not difference <= TOLERANCE:
            raise UserError(
                f"the ONNX file's logits lie up to {difference:.2g} from the detector's; nothing was written",
                "this detector cannot be exported by this version of torch",
            )
    return Exported(path, inputs, difference, path.stat().st_size)


def _refuse(model: LightningModule) -> None:
    """Those of whom it is known that no graph of tensors is what they do."""
    name = type(model).__name__
    if hasattr(model, "make_estimator"):
        raise UserError(f"{name} cannot be written in ONNX: it is a scikit-learn estimator on features of ours")
    if any(isinstance(module, ELACNN) for module in model.modules()):
        raise UserError(f"{name} cannot be written in ONNX: ELA compresses each frame as JPEG")


def _example(count: int, frames: int, size: int, single: bool) -> tuple[Tensor, ...]:
    """Random pictures, smooth ones among them; the last clip is padded where a clip has several frames."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (count * frames, 3, 8, 8), generator=random).float()
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    noise = torch.randint(-20, 21, smooth.shape, generator=random)
    video = (smooth + noise).clamp(0, 255).to(torch.uint8).view(count, frames, 3, size, size)
    if single:
        return (video[:, 0].contiguous(),)
    mask = torch.ones(count, frames, dtype=torch.bool)
    mask[-1, max(1, frames // 2) :] = False
    return video, mask


def _difference(portable: nn.Module, session: Any, names: list[str], example: tuple[Tensor, ...]) -> float:
    with torch.no_grad():
        ours = portable(*example).double().numpy()
    given = {name: tensor.numpy() for name, tensor in zip(names, example, strict=True)}
    theirs = np.asarray(session.run(["logit"], given)[0], np.float64)
    apart = np.abs(ours - theirs) / np.maximum(np.abs(ours), 1) if theirs.shape == ours.shape else np.array(np.inf)
    return float(apart.max())


def _reason(error: BaseException) -> str:
    """The innermost cause in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporter prints its steps and warns of its own parts."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
