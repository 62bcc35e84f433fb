"""Scores of batches in, the score table of an evaluation out: each clip once on any number of ranks, every video there.

Metrics are ranks on raw logits in float64 (``dfdet.evaluation``); torchmetrics only carries the rows across ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from dfdet.data.batch import ClipBatch
from dfdet.data.module import Stage, VideoDataModule
from dfdet.data.sources import Items
from dfdet.errors import UserError
from dfdet.evaluation import as_scores, summarise
from dfdet.evaluation.levels import LEVELS

METRICS = [f"val/{level}_{name}" for level in LEVELS for name in ("auroc", "ap", "eer", "accuracy", "log_loss")]
_FIELDS = ("item", "track", "clip", "frame", "num_frames", "made")


class ScoreRows(Metric):
    """Rows of (item, track, clip, frame, frames, made, logit), gathered over ranks and sorted by item."""

    full_state_update = False
    keys: list[Tensor]
    logits: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("keys", default=[], dist_reduce_fx="cat")
        self.add_state("logits", default=[], dist_reduce_fx="cat")

    def update(self, keys: Tensor, logit: Tensor) -> None:
        """Adds rows: int64 (N, 6), float (N,)."""
        self.keys.append(keys)
        self.logits.append(logit.detach().float())

    def begin(self, device: torch.device | str = "cpu") -> ScoreRows:
        """Adds no rows: a rank without videos must take part in the gathering too."""
        self.update(torch.zeros((0, len(_FIELDS)), dtype=torch.int64, device=device), torch.zeros(0, device=device))
        return self

    def add(self, batch: ClipBatch, logit: Tensor) -> None:
        """Adds the clips of a batch: logit (B,)."""
        first = batch.frames[:, 0]
        made = (batch.weight > 0).long()
        keys = [batch.item, batch.track, batch.clip, first, batch.mask.sum(1), made]
        self.update(torch.stack(keys, 1), logit)

    def compute(self) -> tuple[np.ndarray, np.ndarray]:
        """Int (N, 6) keys and float64 (N,) logits, sorted by (item, track, clip)."""
        keys = dim_zero_cat(self.keys).cpu().numpy()
        logits = dim_zero_cat(self.logits).cpu().numpy().astype(np.float64)
        order = np.lexsort((keys[:, 2], keys[:, 1], keys[:, 0]))
        return keys[order], logits[order]


def score_table(items: Items, keys: np.ndarray, logits: np.ndarray, errors: dict[int, str]) -> pd.DataFrame:
    """The table of a score file: scored clips, and a row without a logit for what could not be scored.

    Args:
        items: What ``keys`` point into.
        keys: int (N, 6), see :class:`ScoreRows`.
        logits: float64 (N,).
        errors: Why clips of an item failed.
    """
    columns = ["video_id", "corpus", "label", "split", "method", "compression", "group"]
    whole = items.table.select([c for c in columns if c in items.table.schema.names]).to_pandas()
    whole["label"] = pd.array([None if v < 0 else int(v) for v in items.label], dtype="Int8")
    made = keys[:, 5] == 1
    rows = whole.iloc[keys[:, 0]].reset_index(drop=True)
    for name, column in (("track", 1), ("clip", 2), ("frame", 3), ("num_frames", 4)):
        rows[name] = keys[:, column]
    rows["logit"] = np.where(made, logits, np.nan)
    rows["status"] = [
        "ok" if ok else errors.get(int(i), "could not be read") for i, ok in zip(keys[:, 0], made, strict=True)
    ]
    rows["static"] = [_is_static(items, int(i), int(t)) for i, t in keys[:, :2]]
    unseen = np.setdiff1d(np.arange(len(items)), keys[:, 0])
    gone = whole.iloc[unseen].reset_index(drop=True)
    gone["logit"] = np.nan
    gone["status"] = [_why_unseen(items.row(int(i), ["status", "reason", "face_status"])) for i in unseen]
    return pd.concat([rows, gone], ignore_index=True)


def _is_static(items: Items, item: int, track: int) -> bool:
    rows = items.tracks[int(items.source[item])].of(items.table["video_id"][item].as_py())
    flags = rows["static"][rows["track"] == track]
    return bool(len(flags) and flags[0])


def _why_unseen(row: dict[str, Any]) -> str:
    if row["status"] not in ("ok", "partial"):
        return f"{row['status']}: {row['reason'] or 'no reason recorded'}"
    return "no face was found" if row.get("face_status") == "none" else "no usable frame with a face"


def logits_of(outputs: Any, batch: ClipBatch) -> Tensor:
    """The logits (B,) in what a detector's step returned.

    Raises:
        UserError: If there is not one for each clip.
    """
    logit = outputs.get("logit") if isinstance(outputs, Mapping) else None
    if isinstance(logit, Tensor) and logit.shape == batch.label.shape:
        return logit
    told = f"a logit of shape {tuple(logit.shape)}" if isinstance(logit, Tensor) else f"a {type(outputs).__name__}"
    raise UserError(
        f"the detector's step returned {told} for {len(batch)} clips",
        "validation_step, test_step and predict_step must return ClipScores: {'logit': one a clip, shape (B,)}",
    )


class Scoring(Callback):
    """Collects what a detector's ``validation_step`` or ``test_step`` returns and logs the metrics of validation.

    After an evaluation ``table`` holds the score table (on every rank).
    """

    def __init__(self) -> None:
        self.rows = ScoreRows()
        self.errors: dict[int, str] = {}
        self.table: pd.DataFrame | None = None

    def _begin(self, module: LightningModule) -> None:
        self.rows = ScoreRows().to(module.device).begin(module.device)
        self.errors = {}

    def _take(self, outputs: Any, batch: ClipBatch) -> None:
        self.rows.add(batch, logits_of(outputs, batch))
        self.errors.update(batch.errors)

    def _end(self, trainer: Trainer, stage: Stage) -> pd.DataFrame:
        keys, logits = self.rows.compute()
        if trainer.world_size > 1:
            everyone: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(everyone, self.errors)
            self.errors = {item: reason for errors in everyone for item, reason in errors.items()}
        module: VideoDataModule = trainer.datamodule  # type: ignore[attr-defined]
        self.table = score_table(module.describe(stage), keys, logits, self.errors)
        return self.table

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts empty."""
        self._begin(pl_module)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Takes the scores of a batch."""
        self._take(outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs frame and video metrics as ``val/...``; NaN where one is undefined."""
        if trainer.sanity_checking:
            return
        table = self._end(trainer, "val")
        levels = summarise(as_scores(table), thresholds={"frame": 0.0, "video": 0.0}, draws=0).levels
        for level, numbers in levels.items():
            values = {
                "auroc": numbers.auroc,
                "ap": numbers.average_precision,
                "eer": numbers.equal_error_rate,
                "accuracy": numbers.accuracy,
                "log_loss": numbers.log_loss,
            }
            for name, value in values.items():
                # every rank holds all rows: nothing is left to reduce
                pl_module.log(f"val/{level}_{name}", float(value), rank_zero_only=False, sync_dist=False)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts empty."""
        self._begin(pl_module)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Takes the scores of a batch."""
        self._take(outputs, batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the table together."""
        self._end(trainer, "test")
