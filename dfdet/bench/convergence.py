"""``dfdet bench convergence``: a manifest in; how soon residuals and colours learn, in steps and in seconds, out.

Hadi et al. (paper 000) claim that a CNN on SRM residuals converges faster than the same on RGB, and trains in less time
than others without a GPU. Here both fronts, their fusion and the two MesoNets are trained from scratch on the same
batches of the same draws, and asked after every so many steps for the balanced accuracy of single frames at logit 0.
The MesoNets learn by cross-entropy here, like the others, and not by their own squared error.
"""

from __future__ import annotations

import json
import logging
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer, seed_everything

from dfdet import console, manifest
from dfdet.bench import machine
from dfdet.console import Table
from dfdet.data.batch import ClipBatch
from dfdet.errors import UserError
from dfdet.training.callbacks import Interrupted, at_once, on_ctrl_c
from dfdet.training.checks import check_selection
from dfdet.training.parser import DetectorCLI
from dfdet.training.scoring import Scoring
from dfdet.training.setup import make_trainer, prepare

LEVELS = (0.85, 0.90, 0.95)
SUBJECTS: dict[str, tuple[str, ...]] = {
    "srm_cnn, residuals": ("--model=srm_cnn",),
    "srm_cnn, RGB": ("--model=srm_cnn", "--model.front=rgb"),
    "srm_cnn, fused": ("--model=srm_cnn", "--model.front=fused"),
    "meso4": ("--model=meso4",),
    "mesoinception4": ("--model=mesoinception4",),
}
VIDEO_CLIPS = 8  # frames of a face track that validation looks at
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What is trained.

    Attributes:
        manifest: With a train and a val split.
        root: Where the files lie now, if not where they lay when indexed.
        size: Side that every network sees, pixels; None: its own.
        steps: Of each at most.
        seconds: Of each at most, validation left out.
        every: Steps between two looks.
        batch_size: Frames a step.
        seeds: How often each is trained.
        lr: Learning rate of all; None: each its own.
    """

    manifest: Path
    root: Path | None
    size: int | None
    steps: int
    seconds: float
    every: int
    batch_size: int
    seeds: int
    lr: float | None

    def check(self) -> None:
        """Raises UserError where nothing could come of it."""
        for name in ("steps", "every", "batch_size", "seeds"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}", "it must be at least 1")
        if self.steps < self.every:
            raise UserError(f"--steps {self.steps} ends before the first look", f"--every is {self.every}")

    def arguments(self, subject: str, seed: int, images: bool) -> list[str]:
        """What would be typed after ``dfdet fit``."""
        source = {"manifest": str(self.manifest), "root": str(self.root) if self.root else None}
        # of an image more clips are copies
        clips = ["--data.clips_per_visit=1", "--data.eval_clips=1"] if images else [f"--data.eval_clips={VIDEO_CLIPS}"]
        return [
            *SUBJECTS[subject], *([] if self.size is None else [f"--model.size={self.size}"]),
            *([] if self.lr is None else [f"--model.lr={self.lr}"]), f"--seed_everything={seed}",
            f"--data.train={json.dumps(source)}", f"--data.batch_size={self.batch_size}", "--data.crop.preset=dlib",
            *clips, "--trainer.accelerator=cpu", f"--trainer.max_steps={self.steps}", "--trainer.max_epochs=-1",
            f"--trainer.val_check_interval={self.every}", "--trainer.check_val_every_n_epoch=null",
            "--trainer.num_sanity_val_steps=0",
        ]  # fmt: skip


@dataclass(frozen=True)
class Look:
    """What was seen after some steps.

    Attributes:
        step: Steps taken.
        seconds: Of training, loading held in and validation left out.
        compute: Of these, in the steps themselves.
        val: Balanced accuracy of validation's frames.
        train: Balanced accuracy of the frames trained on since the last look, as they were trained on: with dropout.
    """

    step: int
    seconds: float
    compute: float
    val: float
    train: float


class Curve(Callback):
    """Looks at a training.

    Args:
        limit: Seconds of training after which it ends.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.looks: list[Look] = []
        self.frames = 0
        self._seconds = self._compute = self._since = self._step = 0.0
        self._heard: dict[bool, list[tuple[torch.Tensor, torch.Tensor]]] = {True: [], False: []}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listens to the network."""
        pl_module.register_forward_hook(self._hear)

    def _hear(self, model: torch.nn.Module, given: tuple[ClipBatch], logit: torch.Tensor) -> None:
        batch = given[0]
        counted = (batch.label >= 0) & (batch.weight > 0)
        self._heard[model.training].append((logit.detach()[counted] > 0, batch.label[counted] == 1))

    def _share(self, training: bool) -> float:
        """Balanced accuracy of what was heard since the last look."""
        said, label = (torch.cat(column) for column in zip(*self._heard[training], strict=True))
        if not training:
            self.frames = len(label)
        right = [float((said == label)[label == kind].float().mean()) for kind in (True, False)]
        return sum(right) / 2

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._since = time.monotonic()

    def on_train_batch_start(self, *_: Any) -> None:
        """Starts the clock of a step."""
        self._step = time.monotonic()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stops it."""
        self._compute += time.monotonic() - self._step

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock."""
        self._seconds += time.monotonic() - self._since

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A look; the last one, if the time is up."""
        val, train = self._share(training=False), self._share(training=True)
        self.looks.append(Look(trainer.global_step, self._seconds, self._compute, val, train))
        self._heard = {True: [], False: []}
        if self._seconds > self.limit:
            trainer.should_stop = True
        self._since = time.monotonic()

    def reached(self, level: float, training: bool = False) -> Look | None:
        """The first look at which an accuracy was reached; None: never."""
        return next((look for look in self.looks if (look.train if training else look.val) >= level), None)


def run(settings: Settings) -> Iterator[Row]:
    """A row a subject and seed, as soon as it is known.

    Raises:
        UserError: A split is missing or holds one class.
    """
    settings.check()
    table = manifest.read(settings.manifest, settings.root).table
    images = bool((table["num_frames"][table["status"] == "ok"] == 1).all())
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for subject in SUBJECTS:
        for seed in range(settings.seeds):
            console.say(f"training {subject}, seed {seed}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = _train(settings.arguments(subject, seed, images), settings.seconds)
            yield {"subject": subject, "seed": seed, **found}


def _train(arguments: list[str], seconds: float) -> Row:
    cli = DetectorCLI(arguments)
    seed_everything(int(cli.config.seed_everything), verbose=False)
    model, data = prepare(cli)
    check_selection(data, allow=False)
    curve = Curve(seconds)
    try:
        with on_ctrl_c(at_once):
            make_trainer(cli, None, Scoring(), [curve]).fit(model, datamodule=data)
    except Interrupted:
        raise KeyboardInterrupt from None
    last = curve.looks[-1]
    row: Row = {
        "looks": [asdict(look) for look in curve.looks], "steps": last.step, "seconds": last.seconds,
        "compute_seconds": last.compute, "best_val": max(look.val for look in curve.looks),
        "mean_val": statistics.mean(look.val for look in curve.looks), "val_frames": curve.frames,
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }  # fmt: skip
    for part, training in (("val", False), ("train", True)):
        for level in LEVELS:
            look = curve.reached(level, training)
            row[f"{part}_{level:.2f}"] = None if look is None else {"steps": look.step, "seconds": look.seconds}
    return row


def table_of(rows: Sequence[Row], settings: Settings) -> Table:
    """What is printed: medians over the seeds, a dash where most of them never got there."""
    title = f"Convergence on {settings.manifest.name}: steps / seconds until a balanced accuracy of frames"
    columns = [f"{part} {level:.2f}" for part in ("val", "train") for level in LEVELS]
    table = Table(title, ["network", "parameters", "ms a step", "computing", *columns, "mean val", "best val"])
    for subject in dict.fromkeys(row["subject"] for row in rows):
        own = [row for row in rows if row["subject"] == subject]
        each = [
            statistics.median(row[key] / row["steps"] * 1000 for row in own) for key in ("seconds", "compute_seconds")
        ]
        cells = [_median([row[name.replace(" ", "_")] for row in own]) for name in columns]
        found = [statistics.median(row[key] for row in own) for key in ("mean_val", "best_val")]
        table.add(subject, own[0]["parameters"], *map(round, each), *cells, *found)
    seeds = "one seed" if settings.seeds == 1 else f"medians of {settings.seeds} seeds"
    frames = rows[0]["val_frames"] if rows else 0
    table.notes += [
        f"{seeds}; at most {settings.steps} steps of {settings.batch_size} frames and {settings.seconds:.0f} s each, "
        f"a look at {frames} validation frames every {settings.every} steps",
        "ms a step and seconds hold loading in and leave validation out; computing: in the steps themselves",
        "mean val: over all looks, the area under the curve; train: in training mode, since the look before",
        machine.line(machine.machine()),
    ]
    return table


def _median(found: Sequence[Row | None]) -> str | None:
    there = [one for one in found if one is not None]
    if 2 * len(there) <= len(found):
        return None
    never = [float("inf")] * (len(found) - len(there))
    steps = statistics.median_low([*(one["steps"] for one in there), *never])
    seconds = statistics.median_low([*(one["seconds"] for one in there), *never])
    return f"{steps:.0f} / {seconds:.0f} s"
