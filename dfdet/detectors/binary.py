"""Batches of clips in, one logit a clip out (> 0 says fake): the loss, the steps and the optimiser of detectors.

Any other LightningModule may stand in its place, as long as it takes :class:`~dfdet.data.batch.ClipBatch` and its
``validation_step``, ``test_step`` and ``predict_step`` return :class:`ClipScores`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, Self, TypedDict

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from dfdet.data.batch import ClipBatch
from dfdet.detectors.optimising import freeze_to as freeze_layers
from dfdet.detectors.optimising import named, parameter_groups, statistics_held
from dfdet.errors import UserError


class ClipScores(TypedDict):
    """What a detector says of a batch, a dict.

    Attributes:
        logit: float (B,), > 0 says fake.
    """

    logit: Tensor


class BinaryDetector(LightningModule, ABC):
    """A network trained on real against fake; :class:`FrameDetector` and :class:`ClipDetector` say what it sees.

    Args:
        network: Tensors in, logits out; see ``dfdet.networks``.
        input_size: S that the network wants, None where it takes any.
        loss: ``bce`` on the logit, or ``mse`` on its sigmoid (MesoNet's).
        fake_weight: Weight of fakes in the loss, reals being 1.
        lr: Learning rate.
        layer_decay: Factor on the learning rate from each layer to the one before it; None: one rate for all.
        freeze_to: The last layer that is not trained, by its name in the network: it and all before it stay as they
            are, their norms' statistics too. ``blocks.3``; None: none.
        optimizer: A class of torch.optim by name, or any by import path.
        optimizer_args: Its other arguments.
        schedule: A class of torch.optim.lr_scheduler by name, or any by import path; None: constant.
        schedule_args: Its arguments.
        schedule_interval: Step the schedule each ``epoch`` or each ``step``.
        schedule_monitor: What ReduceLROnPlateau watches.
        weights: A file to start from: a dfdet checkpoint, .safetensors, or the MesoNet authors' .h5.
    """

    # what the network wants of a picture in [0, 1]: (picture - mean) / std, a colour each
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __init__(
        self,
        network: nn.Module,
        input_size: int | None = None,
        loss: Literal["bce", "mse"] = "bce",
        fake_weight: float = 1.0,
        lr: float = 1e-3,
        layer_decay: float | None = None,
        freeze_to: str | None = None,
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
        self.started = False  # whether it holds weights that were trained
        self.input_size = input_size
        self.loss, self.fake_weight = loss, fake_weight
        self.lr, self.layer_decay = lr, layer_decay
        self.optimizer_name, self.optimizer_args = optimizer, optimizer_args or {}
        self.schedule, self.schedule_args = schedule, schedule_args or {}
        self.schedule_interval, self.schedule_monitor = schedule_interval, schedule_monitor
        self._held = [] if freeze_to is None else freeze_layers(network, freeze_to)
        if weights is not None:
            self.load_weights(Path(weights))

    def load_weights(self, path: Path) -> None:
        """Starts from the weights in a file."""
        from dfdet.weights.checkpoints import load_weights

        load_weights(path, self.network)
        self.started = True

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A run that is gone on with."""
        self.started = True

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation; the norms of frozen layers stay in evaluation."""
        super().train(mode)
        for norm in self._held:
            norm.eval()
        return self

    def on_train_start(self) -> None:
        """Lightning asks for no mode before it trains, and what is frozen must be told once."""
        self.train()

    # Scoring ---------------------------------------------------------------------------------------------------

    def prepare(self, video: Tensor) -> Tensor:
        """uint8 (..., 3, S, S) RGB -> float of the same shape and memory layout, as the network wants it."""
        scale = torch.tensor([1 / (255 * s) for s in self.std], device=video.device)[:, None, None]
        shift = torch.tensor([m / s for m, s in zip(self.mean, self.std, strict=True)], device=video.device)
        return video.float().mul_(scale).sub_(shift[:, None, None])

    @abstractmethod
    def forward(self, batch: ClipBatch) -> Tensor:
        """Clip logits (B,)."""

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
        counted = len(batch) - len(batch.errors)  # known without waiting for a GPU
        # what could not be made is a black picture: it must not reach batch statistics either
        seen = batch.select(batch.weight > 0) if 0 < counted < len(batch) else batch
        with nullcontext() if counted else statistics_held(self):
            logit = self(seen).float()
        weight = seen.weight
        loss = (self.clip_loss(logit, seen.label) * weight).sum() / weight.sum().clamp(min=1)
        right = ((logit > 0) == (seen.label == 1)).float()
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
        groups = parameter_groups(self.network, self.lr, self.layer_decay)
        groups += parameter_groups(self, self.lr, None, without=self.network)
        make = named(self.optimizer_name, torch.optim, "optimizer")
        with _telling(f"model.optimizer {self.optimizer_name}"):
            optimizer = make(groups, lr=self.lr, **self.optimizer_args)
        if self.schedule is None:
            return optimizer
        make = named(self.schedule, torch.optim.lr_scheduler, "schedule")
        with _telling(f"model.schedule {self.schedule}"):
            schedule = make(optimizer, **self.schedule_args)
        settings = {"scheduler": schedule, "interval": self.schedule_interval, "monitor": self.schedule_monitor}
        return {"optimizer": optimizer, "lr_scheduler": settings}


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """What torch says of arguments that do not fit, as a user's mistake."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} cannot be made: {error}") from error
