"""What happens beside training: Ctrl-C, seeds, clips that fail, one line an epoch, the metrics file."""

from __future__ import annotations

import csv
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from dfdet import console, files, seeds
from dfdet.data.batch import ClipBatch


class Interrupted(BaseException):  # a KeyboardInterrupt would be swallowed by Lightning, which exits with code 1
    """Ctrl-C was pressed."""


@contextmanager
def on_ctrl_c(handler: Callable[[int, Any], None] | signal.Handlers) -> Iterator[None]:
    """Gives Ctrl-C to a handler for a while; outside of the main thread, which gets no signals, it does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def at_once(number: int, frame: Any) -> None:
    """A handler that ends what is under way."""
    raise Interrupted


class Interrupt(Callback):
    """Ctrl-C ends training where it can go on from without a difference; a second one ends it at once.

    That is after the batch, with last.ckpt saved; but where validation is due or under way, only after it, since a
    checkpoint from before a validation is gone on from behind it. :meth:`press` is the signal's handler.

    Args:
        last: Where to save.
    """

    def __init__(self, last: Path) -> None:
        self.last = last
        self.pressed = False

    def press(self, number: int, frame: Any) -> None:
        """Ctrl-C."""
        if self.pressed:
            raise Interrupted
        self.pressed = True
        console.say("interrupted: saving after this batch or validation (once more ends it at once)")

    def _asked(self, trainer: Trainer) -> bool:
        """Whether any rank was asked; all ranks must stop at the same batch."""
        if trainer.world_size == 1:
            return self.pressed
        return bool(trainer.strategy.reduce_boolean_decision(self.pressed, all=False))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and stops, if asked to and no validation comes now and no gradients are being gathered."""
        done = batch_idx + 1
        validates = trainer.is_last_batch or done % (trainer.val_check_batch or trainer.num_training_batches) == 0
        if validates or done % trainer.accumulate_grad_batches:
            return
        if self._asked(trainer):
            trainer.save_checkpoint(self.last, weights_only=False)  # the optimiser too
            raise Interrupted

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops between two epochs, if asked to; last.ckpt was saved at the end of the one before."""
        if self._asked(trainer):
            raise Interrupted


class StepSeeds(Callback):
    """Dropout and the like become a function of (seed, epoch, batch, rank), so that a resumed run draws the same.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seeds torch for this batch."""
        item = f"{batch_idx}:{trainer.global_rank}"
        torch.manual_seed(seeds.key(self.seed, trainer.current_epoch, item, "step") % 2**63)


class FailedClips(Callback):
    """Names each file whose clips could not be made, once, and counts the clips."""

    def __init__(self) -> None:
        self.clips = 0
        self._said: set[str] = set()

    def state_dict(self) -> dict[str, Any]:
        """The count, for a resumed run."""
        return {"clips": self.clips}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting."""
        self.clips = int(state_dict["clips"])

    def _name(self, batch: ClipBatch) -> None:
        for _, reason in batch.errors:
            if reason not in self._said:
                self._said.add(reason)
                console.warn(f"a clip is left out: {reason}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts and names those of a training batch."""
        self.clips += len(batch.errors)
        self._name(batch)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Names those of a validation or test batch; the score file counts them."""
        self._name(batch)

    on_test_batch_end = on_validation_batch_end

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs how many training clips were left out so far."""
        pl_module.log("train/failed_clips", float(self.clips), reduce_fx="sum", sync_dist=True)


class EpochLines(Callback):
    """One line an epoch, and one every half minute inside of it: what a log file wants instead of a bar.

    Args:
        monitor: The metric that decides, named first.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self._start = self._last = 0.0
        self._first: int | None = None

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock of an epoch that is resumed inside, which has no start of its own."""
        self._start = self._last = time.monotonic()

    @rank_zero_only
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._start = self._last = time.monotonic()
        self._first = None

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A line, if the last one is half a minute old."""
        self._first = batch_idx if self._first is None else self._first
        now = time.monotonic()
        if now - self._last < 30:
            return
        self._last = now
        done, total = batch_idx + 1, int(trainer.num_training_batches)
        rate = (done - self._first) / (now - self._start)
        left = (total - done) / rate if rate else float("nan")
        console.say(f"epoch {trainer.current_epoch}: batch {done}/{total}, {rate:.2f} batches/s, {left:.0f} s left")

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The line of the epoch."""
        metrics = trainer.callback_metrics
        wanted = dict.fromkeys([self.monitor, "train/loss_epoch", "train/accuracy", "val/loss", "val/video_auroc"])
        said = [f"{k} {float(metrics[k]):.4f}" for k in wanted if k in metrics]
        seconds = time.monotonic() - self._start
        console.say(f"epoch {trainer.current_epoch}: {', '.join(said)} ({seconds:.0f} s)")


class MetricsFile(Logger):
    """``metrics.csv`` of a run: a row a step at which something was logged; goes on where an earlier start ended.

    Rows of steps that a resumed run does again, since they came after its checkpoint, are replaced.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._rows: list[dict[str, Any]] = []
        if path.is_file():
            with path.open(newline="") as file:
                self._rows = [{**row, "step": int(row["step"])} for row in csv.DictReader(file)]
        self._earlier = bool(self._rows)

    @property
    def name(self) -> str:
        """The run."""
        return self.path.parent.name

    @property
    def version(self) -> str:
        """None of its own."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Takes metrics of a step; they are on disk after :meth:`save`."""
        if step is None:
            step = self._rows[-1]["step"] if self._rows else 0
        if self._earlier:
            self._rows = [row for row in self._rows if row["step"] <= step]
            self._earlier = False
        if self._rows and self._rows[-1]["step"] == step:
            self._rows[-1].update(metrics)
        else:
            self._rows.append({"step": step, **metrics})

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """They are in config.yaml."""

    @rank_zero_only
    def save(self) -> None:
        """Writes the whole file: few rows an epoch, and columns that come and go."""
        if not self._rows:
            return
        columns = list(dict.fromkeys(k for row in self._rows for k in row))
        with files.replacing(self.path) as draft, draft.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Writes what is left."""
        self.save()


def on_a_terminal() -> bool:
    """Whether a bar can be drawn."""
    return sys.stderr.isatty()
