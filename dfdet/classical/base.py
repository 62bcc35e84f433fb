"""Batches of clips in, one logit a clip out, by features and an estimator of scikit-learn; a LightningModule.

Training is one epoch: each batch gives rows of features, and when its last batch has come, before validation, the
estimator is fitted on all of them. It travels in the checkpoint as the module's extra state: a uint8 tensor, the bytes
of a skops file. A parameter that counts the batches stands for the weights: Lightning saves only what has taken steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from sklearn.pipeline import Pipeline
from torch import Tensor, nn
from torch.nn import functional as F

from dfdet import console
from dfdet.classical.dump import dumps, loads
from dfdet.classical.fitting import Floats, fit_on, log_odds, pool_mean
from dfdet.classical.table import Features, FeatureTable, Ints
from dfdet.data.batch import ClipBatch
from dfdet.detectors.binary import ClipScores
from dfdet.errors import UserError

_PENDING = "classical"


class ClassicalDetector(LightningModule, ABC):
    """What classical detectors share; a family says its features and its estimator.

    Args:
        input_size: S of the crops, pixels.
        max_rows: Rows of features that training keeps, at most; drawn by the run's seed where there are more.
    """

    item_bytes = 4  # of a number in the table: float32

    def __init__(self, input_size: int, max_rows: int) -> None:
        super().__init__()
        if max_rows < 2:
            raise UserError(f"a table of {max_rows} features is nothing to learn from", "give it thousands of rows")
        self.input_size = input_size
        self.estimator: Pipeline | None = None
        self.batches = nn.Parameter(torch.zeros(()))
        self.table = FeatureTable(max_rows)
        self._dump = b""

    # What a family says ------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def columns(self) -> int:
        """D, numbers a row."""

    @abstractmethod
    def rows_of(self, frames: int) -> int:
        """Rows that a clip of so many frames gives, at most."""

    @abstractmethod
    def extract(self, batch: ClipBatch, training: bool) -> tuple[Features, Ints]:
        """Features of a batch.

        Args:
            batch: Clips on any device.
            training: Whether they are learnt from; a family may score more of a clip than it learns from.

        Returns:
            float32 or uint8 (R, D), and int (R,), the clip of the batch that each row is of, ascending. A clip may
            have no row.
        """

    @abstractmethod
    def make_estimator(self, rows: int, seed: int) -> Pipeline:
        """The estimator, not fitted, for a table of so many rows; scaling is part of it."""

    def pool(self, logit: Floats, clip: Ints, clips: int) -> Floats:
        """Logits of rows (R,) -> of clips (B,): the mean; 0 for a clip without rows."""
        return pool_mean(logit, clip, clips)

    # Training ----------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Looks at the configuration; takes the run's seed.

        Raises:
            UserError: Training is to take more than one epoch.
        """
        if stage != "fit":
            return
        trainer: Any = self.trainer
        if trainer.max_epochs != 1:
            raise UserError(
                f"a classical detector sees the training clips once, trainer.max_epochs is {trainer.max_epochs}",
                "set --trainer.max_epochs 1",
            )
        self.table.seed = int(getattr(trainer.datamodule, "seed", 0))

    def on_train_start(self) -> None:
        """Says what the table may take.

        Raises:
            UserError: Validation is to come before the end of the epoch.
        """
        trainer: Any = self.trainer
        if trainer.val_check_batch < trainer.num_training_batches:
            raise UserError(
                "a classical detector is fitted at the end of its epoch, but validation is to come before it",
                "leave trainer.val_check_interval out",
            )
        data = trainer.datamodule
        clips = int(trainer.num_training_batches) * data.batch_size * trainer.world_size
        rows = clips * self.rows_of(data.clip.frames)
        kept = min(rows, self.table.limit)
        if trainer.is_global_zero:
            drawn = f", drawn by seed from at most {rows}" if rows > kept else ""
            numbers = kept * self.columns / 2**20
            # fitting makes a copy in float32, and the first step of a pipeline another
            console.say(
                f"features of {clips} clips: at most {kept} rows of {self.columns} numbers{drawn}; "
                f"{numbers * self.item_bytes:.0f} MiB, and about {numbers * 8:.0f} MiB more while fitting"
            )

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Collects the features of the clips that could be made; the loss moves nothing but the count of batches."""
        made = batch.weight > 0
        if made.any():
            seen = batch.select(made)
            self.table.add(*self.extract(seen, training=True), seen)
        return -self.batches

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One that counts."""
        return torch.optim.SGD([self.batches], lr=1.0)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Fits after the last batch; validation follows."""
        if self.trainer.is_last_batch:
            self._take_fit()

    def _take_fit(self) -> None:
        """The first process fits on the rows of all; every process loads what it has dumped."""
        rows = self._gathered()
        result: list[Any] = [None, None]
        if self.trainer.is_global_zero:
            try:
                result[0] = dumps(fit_on(rows, self.make_estimator))
            except UserError as error:
                result[1] = (error.what, error.hint)
        if self.trainer.world_size > 1:
            torch.distributed.broadcast_object_list(result, src=0)
        if result[1] is not None:
            raise UserError(*result[1])
        self.table = FeatureTable(self.table.limit, self.table.seed)
        self._load(result[0])

    def _gathered(self) -> FeatureTable:
        """The rows of all processes, in the first of them."""
        if self.trainer.world_size == 1:
            return self.table
        everyone: list[Any] | None = [None] * self.trainer.world_size if self.trainer.is_global_zero else None
        torch.distributed.gather_object(self.table, everyone, dst=0)
        whole = FeatureTable(self.table.limit, self.table.seed)
        for one in everyone or []:
            whole.merge(one)
        return whole

    # Scoring -----------------------------------------------------------------------------------------------------

    @torch.compiler.disable
    def forward(self, batch: ClipBatch) -> Tensor:
        """Clip logits (B,); 0 for a clip that gives no features. Nothing of it can be compiled by torch."""
        features, clip = self.extract(batch, training=False)
        logit = self.pool(self.score_rows(features), clip, len(batch))
        return torch.from_numpy(logit).float().to(batch.video.device)

    def score_rows(self, features: Features) -> Floats:
        """Logits (R,) of rows (R, D): the log-odds of the estimator's probability, or its decision where it has none.

        Raises:
            UserError: The detector was never fitted.
        """
        if self.estimator is None:
            raise UserError(
                "the detector was never fitted", "train it to the end: dfdet fit, or dfdet fit --resume RUN"
            )
        if len(features) == 0:
            return np.empty(0)
        rows = features.astype(np.float32, copy=False)
        if not hasattr(self.estimator, "predict_proba"):
            return np.asarray(self.estimator.decision_function(rows), dtype=np.float64)
        return log_odds(np.asarray(self.estimator.predict_proba(rows)[:, 1], dtype=np.float64))

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> ClipScores:
        """Scores of a validation batch, and their log-loss; 0 in the check that Lightning makes before training."""
        if self.estimator is None and self.trainer.sanity_checking:
            return ClipScores(logit=torch.zeros(len(batch), device=batch.video.device))
        logit = self(batch)
        counted = (batch.weight > 0) & (batch.label >= 0)
        if counted.any():
            loss = F.binary_cross_entropy_with_logits(logit[counted], batch.label[counted].to(logit.dtype))
            self.log("val/loss", loss, on_epoch=True, batch_size=int(counted.sum()), sync_dist=True)
        return ClipScores(logit=logit)

    def test_step(self, batch: ClipBatch, batch_idx: int) -> ClipScores:
        """Scores of a test batch."""
        return ClipScores(logit=self(batch))

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> ClipScores:
        """Scores of a batch."""
        return ClipScores(logit=self(batch))

    # Checkpoints -------------------------------------------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """The fitted estimator, uint8 (bytes,); (0,) before."""
        return torch.from_numpy(np.frombuffer(self._dump, np.uint8).copy())

    def set_extra_state(self, state: Tensor) -> None:
        """Takes the estimator of a checkpoint.

        Raises:
            UserError: It is damaged, of another detector, or holds a type that is not trusted.
        """
        if not isinstance(state, Tensor) or state.dtype != torch.uint8:
            raise UserError("the checkpoint holds no estimator", "it is no checkpoint of a classical detector")
        self._load(state.cpu().numpy().tobytes())

    def _load(self, dump: bytes) -> None:
        like = self.make_estimator(2, 0)
        self.estimator = loads(dump, like, self.columns) if dump else None
        self._dump = dump

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the rows of an epoch that is not over, of all processes."""
        if self.estimator is None:
            checkpoint[_PENDING] = self._gathered().state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on with them, in the first process: they count once."""
        if _PENDING in checkpoint and self.trainer.is_global_zero:
            self.table.restore(checkpoint[_PENDING])
