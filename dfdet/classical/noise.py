"""Clips of 20 faces in, statistics of their noise in between, gradient boosting behind: ``noise_gbm``.

Li et al. (paper 001) name a gradient boosting ("LGB") beside their networks on the noise D = face - Gaussian(face), and
say no more of it. Ours: seven statistics of each face's |D| (mean, standard deviation, five percentiles), 140 numbers;
and of each statistic over time four more: its mean, its standard deviation, and the mean and the largest step from one
face to the next. scikit-learn's histogram gradient boosting at its defaults, which are about LightGBM's.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from dfdet.classical.base import ClassicalDetector
from dfdet.classical.table import Ints
from dfdet.data.batch import ClipBatch
from dfdet.errors import UserError
from dfdet.networks.noise import Residual, check_residual, residual

PERCENTILES = (5, 25, 50, 75, 95)
STATISTICS = 2 + len(PERCENTILES)
OVER_TIME = 4


def face_statistics(noise: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """|D| of faces (N, S, S) -> (N, 7): mean, standard deviation, percentiles 5, 25, 50, 75, 95."""
    flat = noise.reshape(len(noise), -1)
    spread = np.percentile(flat, PERCENTILES, axis=1).astype(np.float32)
    return np.concatenate([flat.mean(1)[:, None], flat.std(1)[:, None], spread.T], axis=1)


def clip_statistics(each: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Statistics of the faces of clips as rows.

    Args:
        each: (B, T, K), K statistics of each face.
        mask: bool (B, T), which faces are there; each clip has one.

    Returns:
        (B, (T + 4) K): those of every face, where a missing one has the mean of those that are there; then the mean
        over time, the standard deviation, the mean |step| and the largest |step| between neighbours; 0 without any.
    """
    there = mask[:, :, None]
    count = there.sum(1)
    mean = (each * there).sum(1) / count
    filled = np.where(there, each, mean[:, None])
    deviation = np.sqrt(((filled - mean[:, None]) ** 2 * there).sum(1) / count)
    both = there[:, 1:] & there[:, :-1]
    steps = np.abs(np.diff(each, axis=1)) * both
    mean_step = steps.sum(1) / np.maximum(both.sum(1), 1)
    largest = steps.max(1, initial=0.0)
    parts = [filled.reshape(len(each), -1), mean, deviation, mean_step, largest]
    return np.concatenate(parts, axis=1).astype(np.float32)


class NoiseGBMDetector(ClassicalDetector):
    """Gradient boosting on statistics of the noise.

    Args:
        features: ``statistics``: all, or ``means``: the mean |D| of each face alone, what the paper's GRU sees.
        frames: T of the clips.
        size: S, side of the crop in pixels.
        residual: ``signed``: |D| of the mean of the colours' differences; ``abs``: the mean of their absolute values;
            ``uint8_wrap``: their uint8 subtraction, which wraps around, probably the paper's.
        kernel: Side of the blur, pixels.
        sigma: Its standard deviation, pixels.
        iterations: Trees.
        lr: What each tree counts.
        max_clips: Clips that are learnt from, at most; drawn by seed.
    """

    def __init__(
        self,
        features: Literal["statistics", "means"] = "statistics",
        frames: int = 20,
        size: int = 100,
        residual: Residual = "signed",
        kernel: int = 3,
        sigma: float = 0.8,
        iterations: int = 100,
        lr: float = 0.1,
        max_clips: int = 200_000,
    ) -> None:
        super().__init__(input_size=size, max_rows=max_clips)
        try:
            check_residual(residual, kernel, sigma)
        except ValueError as error:
            raise UserError(f"noise_gbm: {error}") from error
        if frames < 1:
            raise UserError(f"model.frames is {frames}", "it must be at least 1")
        self.features, self.frames, self.input_frames = features, frames, frames
        self.residual, self.kernel, self.sigma = residual, kernel, sigma
        self.iterations, self.lr = iterations, lr

    @property
    def columns(self) -> int:
        """Numbers a clip."""
        return self.frames if self.features == "means" else (self.frames + OVER_TIME) * STATISTICS

    def rows_of(self, frames: int) -> int:
        """One."""
        return 1

    def extract(self, batch: ClipBatch, training: bool) -> tuple[npt.NDArray[np.float32], Ints]:
        """One row a clip that has a frame.

        Raises:
            UserError: The clips have another number of frames.
        """
        if batch.video.shape[1] != self.frames:
            raise UserError(
                f"noise_gbm wants clips of {self.frames} frames, these have {batch.video.shape[1]}",
                f"set --data.clip.frames {self.frames}, or --model.frames",
            )
        clip = batch.mask.any(1).nonzero()[:, 0]
        each = [self._statistics(video) for video in batch.video[clip]]
        if not each:
            return np.empty((0, self.columns), np.float32), np.empty(0, np.int64)
        rows = clip_statistics(np.stack(each), batch.mask[clip].cpu().numpy())
        return rows[:, : self.columns], clip.cpu().numpy()

    def _statistics(self, frames: Tensor) -> npt.NDArray[np.float32]:
        """uint8 (T, 3, S, S) -> (T, 7), or (T, 1) where the means are enough."""
        noise = residual(frames, self.residual, self.kernel, self.sigma).abs()
        if self.features == "means":
            return noise.mean((1, 2))[:, None].cpu().numpy()
        return face_statistics(noise.cpu().numpy())

    def make_estimator(self, rows: int, seed: int) -> Pipeline:
        """Histogram gradient boosting on standardised columns."""
        boosting: Any = HistGradientBoostingClassifier(
            max_iter=self.iterations, learning_rate=self.lr, early_stopping=False, random_state=seed
        )
        return Pipeline([("scale", StandardScaler()), ("classify", boosting)])
