"""dfdet: train and judge detectors of face-manipulated video, straight from the released files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfdet.training.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(run: str | None = None, checkpoint: str = "best", *, weights: str | None = None) -> Predictor:
    """A detector that is ready to score files: ``dfdet.load("runs/demo/srm").predict("clip.mp4")``.

    Args:
        run: A run directory, as ``dfdet fit`` wrote it.
        checkpoint: ``best``, ``last`` or the path of a checkpoint of the same detector.
        weights: Published weights in place of a run: a name of ``dfdet weights list``, a file, ``hf:owner/name``.

    Raises:
        UserError: If the directory is no run, the checkpoint does not fit its configuration, the weights cannot be
            had, or not exactly one of run and weights is given.
    """
    from dfdet.errors import UserError
    from dfdet.training.predictor import Predictor

    if run is not None and weights is None:
        return Predictor.from_run(run, checkpoint)
    if weights is not None and run is None:
        return Predictor.from_weights(weights)
    raise UserError("dfdet.load wants a run or weights, one of the two", 'dfdet.load(weights="meso4.df")')
