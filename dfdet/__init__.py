"""dfdet: train and judge detectors of face-manipulated video, straight from the released files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfdet.training.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(run: str, checkpoint: str = "best") -> Predictor:
    """The detector of a finished run, ready to score files: ``dfdet.load("runs/demo/srm").predict("clip.mp4")``.

    Args:
        run: A run directory, as ``dfdet fit`` wrote it.
        checkpoint: ``best``, ``last`` or the path of a checkpoint of the same detector.

    Raises:
        UserError: If the directory is no run, or the checkpoint does not fit its configuration.
    """
    from dfdet.training.predictor import Predictor

    return Predictor.from_run(run, checkpoint)
