"""MesoNet (Afchar et al.): a face crop in [0, 1] in, one logit out. See networks/mesonet.py."""

from __future__ import annotations

from typing import Any

from dfdet.detectors.binary import BinaryDetector
from dfdet.networks.mesonet import Meso4, MesoInception4


class Meso4Detector(BinaryDetector):
    """Meso4.

    Args:
        size: S, side of the crop in pixels.
        dropout: Dropout before each of the two dense layers.
        kwargs: Everything of BinaryDetector.
    """

    input_scale = 1 / 255

    def __init__(self, size: int = 256, dropout: float = 0.5, **kwargs: Any) -> None:
        super().__init__(network=Meso4(size=size, dropout=dropout), input_size=size, **kwargs)


class MesoInception4Detector(BinaryDetector):
    """MesoInception4.

    Args:
        size: S, side of the crop in pixels.
        dropout: Dropout before each of the two dense layers.
        kwargs: Everything of BinaryDetector.
    """

    input_scale = 1 / 255

    def __init__(self, size: int = 256, dropout: float = 0.5, **kwargs: Any) -> None:
        super().__init__(network=MesoInception4(size=size, dropout=dropout), input_size=size, **kwargs)
