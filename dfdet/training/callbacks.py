"""What happens beside training: Ctrl-C, clips that fail, one line an epoch, the metrics file."""

from __future__ import annotations

import csv
import signal
import sys
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from dfdet import console, files
from dfdet.data.batch import ClipBatch


class Interrupted(Exception):  # noqa: N818 - it is no error: the user asked for it
    """Ctrl-C was pressed and last.ckpt is saved."""


class Interrupt(Callback):
    """Ctrl-C ends training at the end of the batch, with last.ckpt saved; a second one ends it at once.

    Args:
        last: Where to save.
    """

    def __init__(self, last: Path) -> None:
        self.last = last
        self.pressed = False
        self._before: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signal."""
        self._before = signal.signal(signal.SIGINT, self._press)

    def _press(self, number: int, frame: Any) -> None:
        if self.pressed:
            signal.signal(signal.SIGINT, self._before)
            raise KeyboardInterrupt
        self.pressed = True
        console.say("interrupted: saving after this batch (once more ends it at once)")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and stops, if asked to."""
        if self.pressed:
            trainer.save_checkpoint(self.last)
            raise Interrupted

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives the signal back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None


class FailedClips(Callback):
    """Names each file whose clips could not be made, once, and counts the clips."""

    def __init__(self) -> None:
        self.clips = 0
        self._said: set[str] = set()

    def _count(self, batch: ClipBatch) -> None:
        self.clips += len(batch.errors)
        for _, reason in batch.errors:
            if reason not in self._said:
                self._said.add(reason)
                console.warn(f"a clip is left out: {reason}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts those of a training batch."""
        self._count(batch)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Counts those of a validation batch."""
        self._count(batch)

    on_test_batch_end = on_validation_batch_end

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs how many clips were left out so far."""
        pl_module.log("train/failed_clips", float(self.clips), rank_zero_only=True)


class EpochLines(Callback):
    """One line an epoch, and one every half minute inside of it: what a log file wants instead of a bar.

    Args:
        monitor: The metric that decides, named first.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self._start = self._last = 0.0
        self._first = 0

    @rank_zero_only
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._start = self._last = time.monotonic()
        self._first = trainer.fit_loop.epoch_loop.batch_progress.current.ready

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A line, if the last one is half a minute old."""
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

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._rows: list[dict[str, Any]] = []
        if path.is_file():
            with path.open(newline="") as file:
                self._rows = list(csv.DictReader(file))

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
        if self._rows and self._rows[-1].get("step") == step:
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
