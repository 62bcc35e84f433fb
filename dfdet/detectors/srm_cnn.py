"""SRM CNN (Hadi et al.): noise residuals of a face crop in, one logit out. See networks/srm_cnn.py."""

from __future__ import annotations

from typing import Any, Literal

from dfdet.detectors.binary import BinaryDetector
from dfdet.networks.srm_cnn import SRMCNN


class SRMCNNDetector(BinaryDetector):
    """The light CNN on SRM residuals, and its RGB control.

    Args:
        front: ``srm`` residuals, or ``rgb`` for the control.
        head: ``flatten`` (the paper's), or ``gap``: global average pooling, for any size.
        size: S, side of the crop in pixels.
        mode: Residuals of the ``sum`` of the colours (3 maps) or ``per_channel`` (9 maps).
        truncate: Residuals are cut at +- this, in grey levels; None: not.
        lr: Learning rate. The paper names none; at 1e-3 the first steps of Adam move the logit by tens, through 262,144
            positive inputs, and the network dies (measured: loss stays at ln 2).
        kwargs: Everything of BinaryDetector.
    """

    def __init__(
        self,
        front: Literal["srm", "rgb"] = "srm",
        head: Literal["flatten", "gap"] = "flatten",
        size: int = 128,
        mode: Literal["sum", "per_channel"] = "sum",
        truncate: float | None = 3.0,
        lr: float = 1e-4,
        **kwargs: Any,
    ) -> None:
        network = SRMCNN(front=front, head=head, size=size, mode=mode, truncate=truncate)
        super().__init__(network=network, input_size=size, lr=lr, **kwargs)
