"""A network in, a detector out: one logit a clip (> 0 says fake), loss, optimiser, schedule.

Any other LightningModule may stand in its place, as long as it takes :class:`~dfdet.data.batch.ClipBatch` and its
``validation_step``, ``test_step`` and ``predict_step`` return :class:`ClipScores`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypedDict

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from dfdet.data.batch import ClipBatch
from dfdet.errors import UserError, nearest
from dfdet.imports import import_object

Pool = Literal["mean", "median", "max"]


class ClipScores(TypedDict):
    """What a detector says of a batch, a dict.

    Attributes:
        logit: float (B,), > 0 says fake.
    """

    logit: Tensor


def pool_frames(logit: Tensor, mask: Tensor, how: Pool) -> Tensor:
    """Pools frame logits (B, T) over the frames that are there (mask bool (B, T)) into clip logits (B,); 0 if none."""
    if how == "mean":
        return (logit * mask).sum(1) / mask.sum(1).clamp(min=1)
    if how == "max":
        pooled = logit.masked_fill(~mask, -torch.inf).amax(1)
    else:
        pooled = logit.masked_fill(~mask, torch.nan).nanmedian(1).values
    return torch.where(mask.any(1), pooled, 0.0)


class BinaryDetector(LightningModule):
    """A network that scores single frames, trained on real against fake.

    Args:
        network: float RGB (N, 3, S, S) in, logit (N,) out.
        input_size: S that the network wants, None where it takes any.
        loss: ``bce`` on the logit, or ``mse`` on its sigmoid (MesoNet's).
        fake_weight: Weight of fakes in the loss, reals being 1.
        pool: How the logits of a clip's frames become one.
        lr: Learning rate.
        optimizer: A class of torch.optim by name, or any by import path.
        optimizer_args: Its other arguments.
        schedule: A class of torch.optim.lr_scheduler by name, or any by import path; None: constant.
        schedule_args: Its arguments.
        schedule_interval: Step the schedule each ``epoch`` or each ``step``.
        schedule_monitor: What ReduceLROnPlateau watches.
        weights: A file to start from: a dfdet checkpoint, .safetensors, or the MesoNet authors' .h5.
    """

    # value range of the network's input: uint8 frames are multiplied by this
    input_scale: float = 1.0

    def __init__(
        self,
        network: nn.Module,
        input_size: int | None = None,
        loss: Literal["bce", "mse"] = "bce",
        fake_weight: float = 1.0,
        pool: Pool = "mean",
        lr: float = 1e-3,
        optimizer: str = "Adam",
        optimizer_args: dict[str, Any] | None = None,
        schedule: str | None = None,
        schedule_args: dict[str, Any] | None = None,
        schedule_interval: Literal["epoch", "step"] = "epoch",
        schedule_monitor: str = "val/loss",
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.input_size = input_size
        self.loss, self.fake_weight, self.pool = loss, fake_weight, pool
        self.lr, self.optimizer_name, self.optimizer_args = lr, optimizer, optimizer_args or {}
        self.schedule, self.schedule_args = schedule, schedule_args or {}
        self.schedule_interval, self.schedule_monitor = schedule_interval, schedule_monitor
        if weights is not None:
            self.load_weights(Path(weights))

    def load_weights(self, path: Path) -> None:
        """Starts from the weights in a file."""
        from dfdet.weights.checkpoints import load_weights

        load_weights(path, self.network)

    # Scoring ---------------------------------------------------------------------------------------------------

    def prepare(self, video: Tensor) -> Tensor:
        """uint8 (N, 3, S, S) -> what the network wants."""
        return video.float() * self.input_scale

    def forward(self, batch: ClipBatch) -> Tensor:
        """Clip logits (B,)."""
        frames = self.prepare(batch.video.flatten(0, 1))
        logit = self.network(frames).view(batch.mask.shape)
        return pool_frames(logit, batch.mask, self.pool)

    def clip_loss(self, logit: Tensor, label: Tensor) -> Tensor:
        """Loss of each clip, (B,), from logits (B,) and labels (B,) in {0, 1}."""
        target = label.to(logit.dtype)
        if self.loss == "mse":
            each = (torch.sigmoid(logit) - target) ** 2
        else:
            each = F.binary_cross_entropy_with_logits(logit, target, reduction="none")
        return each * torch.where(label == 1, self.fake_weight, 1.0).to(logit.dtype)

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Mean loss over the clips that could be made."""
        made = batch.weight > 0
        # what could not be made is a black picture: it must not reach batch statistics either
        seen = _select(batch, made) if made.any() else batch
        logit = self(seen).float()
        weight = seen.weight
        loss = (self.clip_loss(logit, seen.label) * weight).sum() / weight.sum().clamp(min=1)
        right = ((logit > 0) == (seen.label == 1)).float()
        counted = int(made.sum())
        self.log("train/loss", loss, on_step=True, on_epoch=True, batch_size=counted, sync_dist=True)
        self.log("train/accuracy", right.mean(), on_step=False, on_epoch=True, batch_size=counted, sync_dist=True)
        return loss

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> ClipScores:
        """Scores of a validation batch; logs the loss that schedules may watch."""
        logit = self(batch).float()
        counted = (batch.weight > 0) & (batch.label >= 0)
        if counted.any():
            loss = self.clip_loss(logit[counted], batch.label[counted]).mean()
            self.log("val/loss", loss, on_epoch=True, batch_size=int(counted.sum()), sync_dist=True)
        return ClipScores(logit=logit)

    def test_step(self, batch: ClipBatch, batch_idx: int) -> ClipScores:
        """Scores of a test batch."""
        return ClipScores(logit=self(batch).float())

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> ClipScores:
        """Scores of a batch."""
        return ClipScores(logit=self(batch).float())

    # Optimising ------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule by their names."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer = _named(self.optimizer_name, torch.optim, "optimizer")(parameters, lr=self.lr, **self.optimizer_args)
        if self.schedule is None:
            return optimizer
        schedule = _named(self.schedule, torch.optim.lr_scheduler, "schedule")(optimizer, **self.schedule_args)
        settings = {"scheduler": schedule, "interval": self.schedule_interval, "monitor": self.schedule_monitor}
        return {"optimizer": optimizer, "lr_scheduler": settings}


def _select(batch: ClipBatch, keep: Tensor) -> ClipBatch:
    return batch if bool(keep.all()) else batch.select(keep)


def _named(name: str, home: Any, what: str) -> Any:
    if "." in name:
        return import_object(name, what)
    found = getattr(home, name, None)
    if found is None:
        known = [n for n in dir(home) if n[0].isupper()]
        raise UserError(f"model.{what} {name!r} is no class of {home.__name__}", nearest(name, known))
    return found
