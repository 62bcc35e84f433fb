"""MesoNet (Afchar et al.) and its variants: a face crop in, one logit out.

See networks/mesonet.py, and networks/mesonet_deepfakebench.py for the networks that DeepfakeBench calls by these names.
"""

from __future__ import annotations

from typing import Any

from dfdet.detectors.frames import FrameDetector
from dfdet.networks.mesonet import Meso4, MesoInception4
from dfdet.networks.mesonet_deepfakebench import DeepfakeBenchMeso4, DeepfakeBenchMesoInception4


class Meso4Detector(FrameDetector):
    """Meso4.

    Args:
        size: S, side of the crop in pixels.
        dropout: Dropout before each of the two dense layers.
        kwargs: Everything of FrameDetector.
    """

    def __init__(self, size: int = 256, dropout: float = 0.5, **kwargs: Any) -> None:
        super().__init__(network=Meso4(size=size, dropout=dropout), input_size=size, **kwargs)


class MesoCNNDetector(Meso4Detector):
    """Paper 001's Meso-CNN: Meso4 on 150 pixels, with less dropout.

    Args:
        size: S, side of the crop in pixels.
        dropout: Dropout before each of the two dense layers.
        kwargs: Everything of FrameDetector.
    """

    def __init__(self, size: int = 150, dropout: float = 0.25, **kwargs: Any) -> None:
        super().__init__(size=size, dropout=dropout, **kwargs)


class MesoInception4Detector(FrameDetector):
    """MesoInception4.

    Args:
        size: S, side of the crop in pixels.
        dropout: Dropout before each of the two dense layers.
        kwargs: Everything of FrameDetector.
    """

    def __init__(self, size: int = 256, dropout: float = 0.5, **kwargs: Any) -> None:
        super().__init__(network=MesoInception4(size=size, dropout=dropout), input_size=size, **kwargs)


class DeepfakeBenchMeso4Detector(FrameDetector):
    """What DeepfakeBench calls Meso4, for its published weights; to train one, take meso4.

    Args:
        size: S, side of the crop in pixels, a multiple of 32.
        kwargs: Everything of FrameDetector.
    """

    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)

    def __init__(self, size: int = 256, **kwargs: Any) -> None:
        super().__init__(network=DeepfakeBenchMeso4(size=size), input_size=size, **kwargs)


class DeepfakeBenchMesoInception4Detector(FrameDetector):
    """What DeepfakeBench calls MesoInception4, for its published weights; to train one, take mesoinception4.

    Args:
        size: S, side of the crop in pixels, a multiple of 32.
        kwargs: Everything of FrameDetector.
    """

    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)

    def __init__(self, size: int = 256, **kwargs: Any) -> None:
        super().__init__(network=DeepfakeBenchMesoInception4(size=size), input_size=size, **kwargs)
