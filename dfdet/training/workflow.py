"""``fit``, ``validate`` and ``test`` as functions: arguments in, a run directory and score files out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning import LightningModule, Trainer, seed_everything

from dfdet import console, files, runs
from dfdet.data.module import Stage, VideoDataModule
from dfdet.errors import UserError
from dfdet.evaluation import Summary, as_scores, summarise, thresholds_from, write_scores
from dfdet.runs import Run
from dfdet.training.callbacks import Interrupted
from dfdet.training.checkpoint_io import load_into
from dfdet.training.parser import DetectorCLI
from dfdet.training.scoring import Scoring
from dfdet.training.setup import (
    best_or_last,
    check_selection,
    fit_callbacks,
    fit_loggers,
    index_stamps,
    make_trainer,
    prepare,
    short_name,
)


@dataclass
class Result:
    """What an evaluation found: the run, its numbers by corpus, and the files written."""

    run: Run
    summaries: dict[str, Summary]
    files: list[Path]

    def tables(self) -> list[console.Table]:
        """The numbers of each corpus, and by method where there are several."""
        found = []
        for name, summary in self.summaries.items():
            by_method = summary.by_method(f"{name} by method")
            found += [summary.table(f"{self.run.path.name} on {name}"), *([by_method] if by_method else [])]
        return found


def _quiet() -> None:
    """Lightning's advice to beginners is not news to a user of dfdet."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*number of training batches.*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")


def _log_to(run: Run) -> None:
    """Everything said from now on also goes to the run's log.txt."""
    handler = logging.FileHandler(run.path / "log.txt")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for name in ("dfdet", "lightning.pytorch"):
        logger = logging.getLogger(name)
        for old in [h for h in logger.handlers if isinstance(h, logging.FileHandler)]:
            logger.removeHandler(old)
            old.close()
        logger.addHandler(handler)
    logging.getLogger("dfdet").setLevel(logging.INFO)


# fit -------------------------------------------------------------------------------------------------------------


def fit(arguments: Sequence[str], resume: str | None = None) -> Result:
    """Trains a detector and ends with its scores and threshold on validation.

    Args:
        arguments: ``--config FILE --model.lr 3e-4 ...``.
        resume: A run directory to go on with; its own configuration comes first, the arguments over it.

    Raises:
        UserError: For anything that the user can mend, before training starts wherever that can be known.
    """
    _quiet()
    run = None if resume is None else runs.open_run(resume)
    given = list(arguments) if run is None else ["--config", str(run.config), *arguments]
    cli = DetectorCLI(given)
    seed_everything(int(cli.config.seed_everything), verbose=False)
    model, data = prepare(cli)
    stamps = check_selection(data, bool(cli.config.allow_target_selection))
    if run is None:
        run = _new_run(cli, data, stamps)
    else:
        run.checkpoint("last")
    _log_to(run)
    data.announce()
    scoring = Scoring()
    loggers, watching = fit_loggers(cli, run)
    trainer = make_trainer(cli, run, scoring, [*fit_callbacks(cli, run), *watching])
    trainer.loggers = [*trainer.loggers, *loggers]
    _train(trainer, model, data, run, resume is not None)
    return _conclude(cli, run, model, data, stamps)


def _new_run(cli: DetectorCLI, data: VideoDataModule, stamps: Sequence[str]) -> Run:
    config = cli.config
    stem = short_name(config.model.class_path)
    if config.name is None:
        config.name = runs.free_name(config.runs, config.experiment, stem)
    run = runs.create(config.runs, config.experiment, config.name)
    files.write_text(run.config, cli.dump())
    found = runs.provenance([s.manifest for s in data.train_sources + data.val_sources + data.test_sources])
    files.write_json(run.path / "provenance.json", found | {"faces": data.items("train").faces, "stamps": list(stamps)})
    return run


def _train(trainer: Trainer, model: LightningModule, data: VideoDataModule, run: Run, resume: bool) -> None:
    checkpoint = str(run.checkpoint("last")) if resume else None
    try:
        trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except Interrupted:
        console.say(f"stopped at step {trainer.global_step}; go on with: dfdet fit --resume {run.path}")
        raise SystemExit(130) from None
    finally:
        for logger in trainer.loggers:
            logger.finalize("success" if trainer.state.finished else "failed")


def _conclude(
    cli: DetectorCLI, run: Run, model: LightningModule, data: VideoDataModule, stamps: Sequence[str]
) -> Result:
    """Scores validation with the best checkpoint and stores the thresholds."""
    checkpoint = best_or_last(run)
    table = _score(cli, run, model, data, "val", checkpoint)
    scores = as_scores(table)
    thresholds = thresholds_from(scores)
    record = {"thresholds": thresholds, "checkpoint": checkpoint.name, "stamps": list(stamps)}
    files.write_json(run.thresholds_file, record)
    return _write(run, data, "val", table, checkpoint, thresholds, stamps)


# validate, test --------------------------------------------------------------------------------------------------


def evaluate(run_path: str, stage: Stage, arguments: Sequence[str] = (), checkpoint: str = "best") -> Result:
    """Scores the validation or test videos of a run's configuration, or others that the arguments name.

    Args:
        run_path: The run directory.
        stage: ``val`` or ``test``.
        arguments: Keys that beat the run's configuration: ``--data.test other.parquet``.
        checkpoint: ``best``, ``last`` or a file.

    Raises:
        UserError: If the run, the checkpoint or a manifest cannot be used.
    """
    _quiet()
    run = runs.open_run(run_path)
    cli = DetectorCLI(["--config", str(run.config), *arguments])
    seed_everything(int(cli.config.seed_everything), verbose=False)
    model, data = prepare(cli)
    chosen = best_or_last(run) if checkpoint == "best" else run.checkpoint(checkpoint)
    record = run.record()
    if stage == "test" and (run.thresholds() is None or record.get("checkpoint") != chosen.name):
        console.say("taking the threshold from validation first")
        validation = thresholds_from(as_scores(_score(cli, run, model, data, "val", chosen)))
        if checkpoint in ("best", "last"):
            record = {"thresholds": validation, "checkpoint": chosen.name, "stamps": run.provenance().get("stamps", [])}
            files.write_json(run.thresholds_file, record)
        thresholds = validation
    else:
        thresholds = run.thresholds() or {}
    items = data.items(stage)
    if len(items) == 0:
        raise UserError(f"the {stage} split is empty in {', '.join(dict.fromkeys(items.names))}", "see `dfdet check`")
    stamps = [*record.get("stamps", []), *index_stamps(run.provenance().get("faces", []), items)]
    table = _score(cli, run, model, data, stage, chosen)
    if stage == "val":
        thresholds = thresholds_from(as_scores(table))
    return _write(run, data, stage, table, chosen, thresholds, stamps)


def _score(
    cli: DetectorCLI, run: Run, model: LightningModule, data: VideoDataModule, stage: Stage, checkpoint: Path
) -> pd.DataFrame:
    load_into(model, checkpoint)
    scoring = Scoring()
    trainer = make_trainer(cli, run, scoring)
    with torch.inference_mode():
        evaluate_stage = trainer.validate if stage == "val" else trainer.test
        evaluate_stage(model, datamodule=data, verbose=False)
    assert scoring.table is not None
    return scoring.table


def _write(
    run: Run,
    data: VideoDataModule,
    stage: Stage,
    table: pd.DataFrame,
    checkpoint: Path,
    thresholds: dict[str, float],
    stamps: Sequence[str],
) -> Result:
    """One score file a corpus, and the numbers of each."""
    summaries: dict[str, Summary] = {}
    written: list[Path] = []
    manifests = {s.manifest: files.sha256(s.manifest) for s in _sources(data, stage)}
    meta = {
        "run": str(run.path),
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": files.sha256(checkpoint),
        "thresholds": thresholds,
        "manifest": manifests,
        "stamps": list(dict.fromkeys(stamps)),
    }
    for corpus, rows in table.groupby("corpus", sort=True):
        path = run.scores(str(corpus), stage)
        scores = write_scores(path, rows.reset_index(drop=True), meta)
        summaries[f"{corpus} {stage}"] = summarise(scores)
        written.append(path)
    return Result(run, summaries, written)


def _sources(data: VideoDataModule, stage: Stage) -> list[Any]:
    own = {"train": data.train_sources, "val": data.val_sources, "test": data.test_sources}[stage]
    return own or data.train_sources
