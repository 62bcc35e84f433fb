"""SRM CNN (Hadi et al.): noise residuals of a face crop, its RGB or both in, one logit out; networks/srm_cnn.py."""

from __future__ import annotations

from typing import Any, Literal

from dfdet.detectors.frames import FrameDetector
from dfdet.networks.srm_cnn import SRMCNN


class SRMCNNDetector(FrameDetector):
    """The light CNN on SRM residuals, and its RGB control.

    Args:
        front: ``srm`` residuals, ``rgb`` for the control, or ``fused``: residuals and RGB side by side.
        head: ``flatten`` (the paper's), or ``gap``: global average pooling, for any size.
        size: S, side of the crop in pixels.
        mode: Residuals of the ``sum`` of the colours (3 maps) or ``per_channel`` (9 maps).
        truncate: Residuals are cut at +- this, in grey levels; None: not.
        lr: Learning rate. The paper names none; at 1e-3 the first steps of Adam move the logit by tens, through 262,144
            positive inputs, and the network dies (measured: loss stays at ln 2).
        kwargs: Everything of FrameDetector.
    """

    std = (1 / 255, 1 / 255, 1 / 255)  # the residuals are those of 0..255

    def __init__(
        self,
        front: Literal["srm", "rgb", "fused"] = "srm",
        head: Literal["flatten", "gap"] = "flatten",
        size: int = 128,
        mode: Literal["sum", "per_channel"] = "sum",
        truncate: float | None = 3.0,
        lr: float = 1e-4,
        **kwargs: Any,
    ) -> None:
        network = SRMCNN(front=front, head=head, size=size, mode=mode, truncate=truncate)
        super().__init__(network=network, input_size=size, lr=lr, **kwargs)
