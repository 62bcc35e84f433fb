"""ELA CNN (paper 004's negative control): what a JPEG changes of a crop in, one logit out. See networks/ela.py."""

from __future__ import annotations

from typing import Any, Literal

from dfdet.detectors.frames import FrameDetector
from dfdet.networks.ela import ELACNN


class ELACNNDetector(FrameDetector):
    """The small CNN on error levels, which the paper trains on CASIA and finds blind for faces.

    Args:
        size: S, side of the crop in pixels.
        quality: Of the JPEG that each crop is compressed to once more, 1..100.
        scale: ``max``: brightened until the largest difference of a crop is 255; a number: multiplied by it.
        lr: Learning rate.
        optimizer: A class of torch.optim by name, or any by import path.
        kwargs: Everything of FrameDetector.
    """

    std = (1 / 255, 1 / 255, 1 / 255)  # a JPEG is made of 0..255

    def __init__(
        self,
        size: int = 128,
        quality: int = 90,
        scale: Literal["max"] | float = "max",
        lr: float = 5e-4,
        optimizer: str = "RMSprop",
        optimizer_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        network = ELACNN(size=size, quality=quality, scale=scale)
        rule = {"alpha": 0.9} if optimizer == "RMSprop" and optimizer_args is None else optimizer_args
        super().__init__(network=network, input_size=size, lr=lr, optimizer=optimizer, optimizer_args=rule, **kwargs)
