"""``dfdet bench end_to_end``: a manifest in; time and disk to the first test AUROC, streaming and by PNG crops, out."""

from __future__ import annotations

import json
import logging
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import Callback, LightningDataModule, LightningModule, Trainer, seed_everything

from dfdet import console
from dfdet.bench import clips
from dfdet.bench.extracted import HOUR, Cost, extract
from dfdet.bench.pictures import PictureModule
from dfdet.bench.report import Report
from dfdet.data.module import Stage, VideoDataModule
from dfdet.errors import UserError
from dfdet.evaluation import as_scores, summarise
from dfdet.evaluation.numbers import Numbers
from dfdet.manifest import tracks_path
from dfdet.training.parser import DetectorCLI
from dfdet.training.scoring import Scoring
from dfdet.training.setup import make_trainer, prepare

STAGES: tuple[Stage, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Settings:
    """What is trained.

    Attributes:
        manifest: ``x.parquet``, with a train, a val and a test split.
        root: Where the files lie now, if not where they lay when indexed.
        model: A detector.
        size: Side that it sees, pixels; None: its own.
        epochs: Epochs.
        workers: Loader workers, and processes that extract.
        clips_per_visit: Clips from one pass through a video.
        clip_length: Frames a clip.
        batch_size: Clips a batch.
    """

    manifest: Path
    root: Path | None
    model: str
    size: int | None
    epochs: int
    workers: int
    clips_per_visit: int
    clip_length: int
    batch_size: int

    def arguments(self) -> list[str]:
        """What would be typed after ``dfdet fit``."""
        source = {"manifest": str(self.manifest), "root": str(self.root) if self.root else None}
        size = [] if self.size is None else [f"--model.size={self.size}"]
        return [
            f"--model={self.model}", *size, f"--data.train={json.dumps(source)}", f"--data.num_workers={self.workers}",
            f"--data.clip.frames={self.clip_length}", f"--data.clips_per_visit={self.clips_per_visit}",
            f"--data.batch_size={self.batch_size}", f"--trainer.max_epochs={self.epochs}",
            "--trainer.num_sanity_val_steps=0",
        ]  # fmt: skip


@dataclass(frozen=True)
class Way:
    """One way to the test score.

    Attributes:
        before: Seconds before training.
        fit: Seconds of training, validation after each epoch included.
        test: Seconds of scoring the test split.
        disk: Bytes written that the other way does not need.
        numbers: The test videos' numbers.
    """

    before: float
    fit: float
    test: float
    disk: int
    numbers: Numbers

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.before + self.fit + self.test


def run(settings: Settings) -> Report:
    """Goes both ways, one after the other, in this process.

    Raises:
        UserError: If the manifest lacks a split.
    """
    with tempfile.TemporaryDirectory(prefix="dfdet-bench-") as temporary:
        console.say("streaming")
        streaming = _streaming(settings)
        console.say("extracting PNG crops, then training on them")
        extracted, cost, frames = _extracted(settings, Path(temporary))
    return _report(settings, streaming, extracted, cost, frames)


def _made(settings: Settings) -> tuple[DetectorCLI, LightningModule, VideoDataModule]:
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    cli = DetectorCLI(settings.arguments())
    seed_everything(0, verbose=False)
    model, data = prepare(cli)
    for stage in STAGES:
        if not len(data.items(stage)):
            raise UserError(f"{settings.manifest} has no {stage} split", "dfdet check shows the splits")
    return cli, model, data


def _streaming(settings: Settings) -> Way:
    cli, model, data = _made(settings)
    fit, test, numbers = _train_and_test(cli, model, data)
    # what streaming needs beside the released files: the tables of the index
    tables = sum(path.stat().st_size for path in (settings.manifest, tracks_path(settings.manifest)))
    return Way(0.0, fit, test, tables, numbers)


def _extracted(settings: Settings, folder: Path) -> tuple[Way, Cost, int]:
    """The way, what extraction cost, and the frames of all videos."""
    cli, model, data = _made(settings)
    started = time.perf_counter()
    epochs = [clips.visits(data, epoch) for epoch in range(settings.epochs)]
    scored = {stage: clips.eval_visits(data, stage) for stage in ("val", "test")}
    cost = Cost()
    for stage, visits in {"train": [visit for epoch in epochs for visit in epoch], **scored}.items():
        cost = cost + extract(visits, folder / stage, [".png"], settings.workers)[".png"]
    before = time.perf_counter() - started
    pictures = PictureModule(data, epochs, scored, folder, settings.workers)
    fit, test, numbers = _train_and_test(cli, model, pictures)
    frames = sum(int(data.items(stage).num_frames.sum()) for stage in STAGES)
    return Way(before, fit, test, cost.bytes, numbers), cost, frames


def _train_and_test(
    cli: DetectorCLI, model: LightningModule, data: LightningDataModule
) -> tuple[float, float, Numbers]:
    scoring, clock = Scoring(), _Clock()
    trainer = make_trainer(cli, None, scoring, [clock])
    started = time.perf_counter()
    trainer.fit(model, datamodule=data)
    fitted = time.perf_counter()
    trainer.test(model, datamodule=data, verbose=False)
    tested = time.perf_counter()
    assert scoring.table is not None
    numbers = summarise(as_scores(scoring.table), thresholds={"frame": 0.0, "video": 0.0}).levels["video"]
    if clock.steps == 0:
        raise UserError("no batch was trained on", "lower --batch_size")
    return fitted - started, tested - fitted, numbers


class _Clock(Callback):
    """Counts steps: both ways must take as many."""

    def __init__(self) -> None:
        self.steps = 0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Counts one."""
        self.steps += 1


def _report(settings: Settings, streaming: Way, extracted: Way, cost: Cost, frames: int) -> Report:
    report = Report.titled(
        f"End to end: {settings.model}, {settings.epochs} epoch{'' if settings.epochs == 1 else 's'}, "
        f"{settings.clip_length} frames a clip, {settings.workers} workers"
    )
    for name, key, way in (("streaming", "streaming", streaming), ("PNG crops first", "png", extracted)):
        parts = f"{way.before:.1f} s before, {way.fit:.1f} s training, {way.test:.1f} s test"
        report.add(f"{name}: time", way.seconds, "s", key=f"seconds_{key}", beside=parts)
        report.add(f"{name}: disk", way.disk / 2**20, "MiB", key=f"disk_mib_{key}")
        report.add(f"{name}: test AUROC", way.numbers.auroc, key=f"auroc_{key}")
    report.add("time, streaming by PNG", streaming.seconds / extracted.seconds, key="ratio_time")
    report.add("disk, streaming by PNG", streaming.disk / extracted.disk, key="ratio_disk")
    every = cost.hours_for(frames) * HOUR / max(settings.workers, 1)
    report.add(
        "the same, if every frame is extracted", streaming.seconds / (extracted.seconds - extracted.before + every),
        key="ratio_time_every_frame", beside=f"{every:.0f} s for {frames} crops, extrapolated",
    )  # fmt: skip
    epochs = break_even(streaming, extracted, settings.epochs)
    report.keys["break_even_epochs"] = epochs
    if epochs is None:
        report.note("break-even: never; an epoch of streaming takes no longer than one of reading PNG crops")
    else:
        report.note(f"break-even: without a store, extraction catches up after {epochs:.1f} epochs of the same clips")
    report.note(
        f"extracted: {cost.crops} PNG crops, of the very frames that these epochs use; clips of later epochs need more"
    )
    report.note("both ways start from the index, whose tables are all that streaming adds to the disk")
    if not streaming.numbers.interval:
        videos = streaming.numbers.reals + streaming.numbers.fakes
        report.note(f"{videos} test videos are too few for an interval: the clock is what is measured")
    report.keys |= {"epochs": settings.epochs, "workers": settings.workers, "crops": cost.crops}
    return report.on_this_machine()


def break_even(streaming: Way, extracted: Way, epochs: int) -> float | None:
    """Epochs after which both ways have taken equally long, by their measured times an epoch; None: never."""
    saved = (streaming.fit - extracted.fit) / epochs
    if saved <= 0:
        return None
    return max((extracted.before + extracted.test - streaming.test) / saved, 0.0)
