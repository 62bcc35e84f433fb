"""A detector's name and settings in, a :class:`FaceDetector` out; which detector to take when the user did not say.

A new detector is one file with a ``detect`` method and one line in :data:`DETECTORS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np

from dfdet import files
from dfdet.errors import UserError, nearest
from dfdet.faces import cuts, dense, model, tracking
from dfdet.faces.boxes import CONVENTION, INTERPOLATION, Face

RETRY_SIZE = 1280
RETRY_SCORES = {"yunet": 0.5}


@dataclass(frozen=True)
class DetectorSettings:
    """Everything that decides which boxes come out.

    Attributes:
        name: ``yunet`` or ``dlib``.
        size: Long side that every frame is resized to before detection, pixels.
        score: Lowest score of a face; None is the detector's own default (yunet .6, dlib 0).
        nms: Overlap above which the weaker of two boxes is dropped (YuNet; dlib has a rule of its own).
        stride: Every how many frames faces are looked for.
        model: YuNet's model file; None is the one in the user's cache.
    """

    name: Literal["yunet", "dlib"] = "yunet"
    size: int = 640
    score: float | None = None
    nms: float = 0.3
    stride: int = 5
    model: str | None = None

    def __post_init__(self) -> None:
        if self.name not in DETECTORS:
            raise UserError(f"there is no face detector {self.name!r}", nearest(self.name, DETECTORS))
        if self.size < 64 or self.stride < 1:
            raise UserError(f"face detection at size {self.size}, stride {self.stride}", "size >= 64, stride >= 1")

    @property
    def threshold(self) -> float:
        """The lowest score of a face: the one given, or the detector's own default."""
        return DETECTORS[self.name].score if self.score is None else self.score

    def identity(self) -> dict[str, Any]:
        """What is written into a manifest and compared on use: plain JSON values, no paths.

        Raises:
            UserError: If YuNet's model is not at hand.
        """
        entry = DETECTORS[self.name]
        return {
            "name": self.name,
            "library": entry.library,
            "version": entry.version(),
            "model_sha256": files.sha256(_model_file(self)) if self.name == "yunet" else None,
            "size": self.size,
            "interpolation": INTERPOLATION,
            "score": self.threshold,
            "nms": self.nms if self.name == "yunet" else None,
            "upsample": entry.upsample,
            "stride": self.stride,
            "tracker": tracking.identity(self.name, self.stride),
            "cuts": {"histogram": "hue 16 x saturation 8 of 64x64", "threshold": cuts.THRESHOLD},
            "smoothing": dense.identity(),
            "box": CONVENTION,
        }


class FaceDetector(Protocol):
    """What all detectors have in common."""

    def detect(self, rgb: np.ndarray) -> list[Face]:
        """Faces of one upright frame, uint8 (H, W, 3), in the common box and its pixels, best first."""
        ...


@dataclass(frozen=True)
class Entry:
    """One line of the table: how a detector is opened and what its identity says.

    Attributes:
        open: Settings -> detector. Heavy imports happen inside.
        score: Default threshold.
        library: Whose code runs.
        version: That library's version.
        upsample: How often the detector doubles the resized frame.
    """

    open: Callable[[DetectorSettings], FaceDetector]
    score: float
    library: str
    version: Callable[[], str]
    upsample: int = 0


def _open_yunet(settings: DetectorSettings) -> FaceDetector:
    from dfdet.faces.yunet import YuNet

    return YuNet(_model_file(settings), settings.size, settings.threshold, settings.nms)


def _open_dlib(settings: DetectorSettings) -> FaceDetector:
    from dfdet.faces.dlib_hog import DlibHog

    return DlibHog(settings.size, settings.threshold)


def _dlib_version() -> str:
    import dlib

    return str(dlib.__version__)


DETECTORS: dict[str, Entry] = {
    "yunet": Entry(_open_yunet, 0.6, "opencv", lambda: str(cv2.__version__)),
    "dlib": Entry(_open_dlib, 0.0, "dlib", _dlib_version, upsample=1),
}


def open_detector(settings: DetectorSettings) -> FaceDetector:
    """The detector itself, for one thread of one process: build it where it is used, it cannot be pickled.

    Raises:
        UserError: If YuNet's model is not at hand or cannot be loaded.
    """
    cv2.setNumThreads(1)  # one process a core; OpenCV's own threads would fight over them
    return DETECTORS[settings.name].open(settings)


def choose(name: str = "auto", model_file: str | Path | None = None) -> DetectorSettings:
    """The settings for what the user asked for; the only place that may use the network.

    Args:
        name: ``yunet`` (fetches its model once where it is not at hand), ``dlib`` (needs nothing), or ``auto``: YuNet
            where its model is at hand, and never another detector in silence.
        model_file: YuNet's model, if the user has it somewhere.

    Raises:
        UserError: If the name is unknown, the file does not exist, or the model is not to be had.
    """
    if name not in ("auto", *DETECTORS):
        raise UserError(f"there is no face detector {name!r}", nearest(name, ("auto", *DETECTORS)))
    if name == "dlib":
        if model_file is not None:
            raise UserError("--detector_model is YuNet's and dlib takes none", "leave it out, or use --detector yunet")
        return DetectorSettings("dlib")
    if model_file is not None:
        return DetectorSettings("yunet", model=str(model.checked(model_file)))
    if name == "yunet":
        return DetectorSettings("yunet", model=str(model.fetched()))
    found = model.cached()
    if found is None:
        raise UserError(
            f"no YuNet model in {model.cache()} to find faces with",
            "--detector yunet fetches it once (0.2 MB), --detector yunet --detector_model FILE takes yours, "
            "--detector dlib needs none but misses more faces",
        )
    return DetectorSettings("yunet", model=str(found))


def retry_settings(settings: DetectorSettings) -> DetectorSettings | None:
    """How to look once more at a video in which hardly a face was found: twice as large, and for YuNet less strict.

    Source: reference/faces.md section 6, for a coverage below .3 or no track. None where ``settings`` are already so.
    """
    score = min(settings.threshold, RETRY_SCORES.get(settings.name, settings.threshold))
    if settings.size >= RETRY_SIZE and settings.threshold <= score:
        return None
    return replace(settings, size=max(settings.size, RETRY_SIZE), score=score)


def _model_file(settings: DetectorSettings) -> Path:
    found = Path(settings.model) if settings.model is not None else model.cached()
    if found is None or not found.is_file():
        where = settings.model or model.cache() / model.FILE
        raise UserError(f"YuNet's model {where} does not exist", "--detector yunet fetches it once")
    return found
