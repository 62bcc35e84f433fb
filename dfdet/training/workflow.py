"""``fit``, ``validate`` and ``test`` as functions: arguments in, a run directory and score files out."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from lightning import LightningModule, seed_everything

from dfdet import console, files, runs
from dfdet.data.module import Stage, VideoDataModule
from dfdet.errors import UserError
from dfdet.evaluation import Summary, as_scores, summarise, thresholds_from, write_scores
from dfdet.runs import Run
from dfdet.training.callbacks import Interrupt, Interrupted, at_once, on_ctrl_c
from dfdet.training.checkpoint_io import load_into
from dfdet.training.checks import check_monitor, check_plain, check_selection, index_stamps, target_stamps
from dfdet.training.parser import DetectorCLI
from dfdet.training.scoring import Scoring
from dfdet.training.setup import (
    best_or_last,
    first_process,
    fit_callbacks,
    fit_loggers,
    make_trainer,
    plainly,
    prepare,
    short_name,
)
from dfdet.training.starting import Start, start_from

_RUN = "DFDET_RUN"  # tells processes that this one starts where the run is


@dataclass
class Result:
    """What an evaluation found: the run, its numbers by corpus, the files written, and tables shown on the way."""

    run: Run
    summaries: dict[str, Summary]
    files: list[Path]
    shown: list[console.Table] = field(default_factory=list)

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
    warnings.filterwarnings("ignore", message=".*dirpath has changed.*")  # the run was moved
    warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")
    warnings.filterwarnings("ignore", message=".*It is recommended to use .*sync_dist=True.*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")


@contextmanager
def _log_to(run: Run) -> Iterator[None]:
    """What is said meanwhile also goes to the run's log.txt, and why it ended."""
    if not first_process():
        yield
        return
    handler = logging.FileHandler(run.path / "log.txt", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    heard = [logging.getLogger(name) for name in ("dfdet", "lightning.pytorch")]
    for logger in heard:
        logger.addHandler(handler)
    heard[0].setLevel(logging.INFO)
    try:
        yield
    except Exception as error:
        if run.path.is_dir():
            heard[0].info("error: %s", error)
        raise
    finally:
        for logger in heard:
            logger.removeHandler(handler)
        handler.close()


# fit -------------------------------------------------------------------------------------------------------------


def fit(arguments: Sequence[str], resume: str | None = None, init_from: str | None = None) -> Result:
    """Trains a detector and ends with its scores and threshold on validation.

    Args:
        arguments: ``--config FILE --model.lr 3e-4 ...``.
        resume: A run directory to go on with; its own configuration comes first, the arguments over it.
        init_from: Weights to start from; see :func:`dfdet.training.starting.start_from`.

    Raises:
        UserError: For anything that the user can mend, before training starts wherever that can be known.
    """
    _quiet()
    if resume is not None and init_from is not None:
        raise UserError("--resume and --init_from are both given", "a resumed run has its weights: leave one out")
    run = None if resume is None else runs.open_run(resume)
    given = list(arguments) if run is None else ["--config", str(run.config), *arguments]
    cli = DetectorCLI(given, filled=run is not None or init_from is not None)
    settings = dict(cli.config.model.get("init_args") or {})
    seed_everything(int(cli.config.seed_everything), verbose=False)
    model, data = prepare(cli)
    check_monitor(cli.config.monitor, model)
    check_plain(model, "detector")
    stamps = check_selection(data, bool(cli.config.allow_target_selection))
    if run is not None:
        _check_last(run, model)
    fresh = run is None
    start = None if init_from is None else start_from(model, init_from, settings)
    run = _new_run(cli, data, stamps, start) if run is None else run
    with _log_to(run), _left_in_order(run, fresh):
        if start is not None and first_process():
            start.tell()
        data.announce()
        _train(cli, model, data, run, resume is not None)
        result = _conclude(cli, run, model, data, stamps)
        result.shown += [] if start is None else [start.table()]
    if not first_process():
        raise SystemExit(0)  # the first process speaks for all
    return result


def _check_last(run: Run, model: LightningModule) -> None:
    """Looks at last.ckpt before anything is begun; drops what a kill in the midst of a save left beside it."""
    for draft in run.checkpoints.glob(".*.ckpt.tmp-*"):
        draft.unlink()
    last, best = run.checkpoint("last"), run.checkpoints / "best.ckpt"
    try:
        load_into(model, last)
    except UserError as error:
        hint = f"to go on from the best epoch: cp {best} {last}" if best.is_file() else error.hint
        raise UserError(error.what, hint) from error


@contextmanager
def _left_in_order(run: Run, fresh: bool) -> Iterator[None]:
    """However it ends early: a new run without a checkpoint leaves no directory, and Ctrl-C says how to go on."""
    try:
        yield
    except (KeyboardInterrupt, Interrupted):
        with on_ctrl_c(signal.SIG_IGN):
            saved = (run.checkpoints / "last.ckpt").is_file()
            _take_back_unless_saved(run, fresh)
            nothing = "stopped before anything was saved: there is nothing to go on with"
            if first_process():
                console.say(f"stopped; go on with: dfdet fit --resume {run.path}" if saved else nothing)
        raise SystemExit(130) from None
    except (UserError, SystemExit):
        _take_back_unless_saved(run, fresh)
        raise


def _take_back_unless_saved(run: Run, fresh: bool) -> None:
    """A new run's name stays free where nothing was saved under it."""
    if fresh and not any(run.checkpoints.glob("*.ckpt")) and first_process():
        shutil.rmtree(run.path)


def _new_run(cli: DetectorCLI, data: VideoDataModule, stamps: Sequence[str], start: Start | None) -> Run:
    config = cli.config
    if not first_process():  # started by the first process, which has made the directory
        return runs.open_run(os.environ.get(_RUN) or Path(config.runs, config.experiment, config.name or ""))
    stem = short_name(config.model.class_path)
    if config.name is None:
        config.name = runs.free_name(config.runs, config.experiment, stem)
    run = runs.create(config.runs, config.experiment, config.name)
    os.environ[_RUN] = str(run.path)
    with _left_in_order(run, True):
        files.write_text(run.config, cli.dump())
        found = runs.provenance([s.manifest for s in data.train_sources + data.val_sources + data.test_sources])
        found |= {"faces": data.items("train").faces, "stamps": list(stamps)}
        found |= {} if start is None else {"init_from": start.record()}
        files.write_json(run.path / "provenance.json", found)
    return run


def _train(cli: DetectorCLI, model: LightningModule, data: VideoDataModule, run: Run, resume: bool) -> None:
    last = run.checkpoints / "last.ckpt"
    interrupt = Interrupt(last)
    loggers, watching = fit_loggers(cli, run)
    callbacks = [*fit_callbacks(cli, run, data, interrupt), *watching]
    trainer = make_trainer(cli, run, Scoring(), callbacks, loggers)
    try:
        with on_ctrl_c(interrupt.press), plainly():
            trainer.fit(model, datamodule=data, ckpt_path=str(last) if resume else None, weights_only=True)
        if interrupt.pressed:  # in the last epoch: all that is left is to score validation
            raise Interrupted
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
    if first_process():
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
    from dfdet.training import ensemble  # it calls this function for each of its members

    _quiet()
    run = runs.open_run(run_path)
    if ensemble.recipe_of(run) is not None:
        return ensemble.evaluate(run, stage, arguments, checkpoint)
    try:
        result = _evaluate(run, stage, arguments, checkpoint)
    except Interrupted:
        console.say("interrupted; nothing was written")
        raise SystemExit(130) from None
    if not first_process():
        raise SystemExit(0)
    return result


def _evaluate(run: Run, stage: Stage, arguments: Sequence[str], checkpoint: str) -> Result:
    cli = DetectorCLI(["--config", str(run.config), *arguments], filled=True)
    seed_everything(int(cli.config.seed_everything), verbose=False)
    model, data = prepare(cli)
    chosen = best_or_last(run) if checkpoint == "best" else run.checkpoint(checkpoint)
    items = data.items(stage)
    if len(items) == 0:
        raise UserError(f"the {stage} split is empty in {', '.join(dict.fromkeys(items.names))}", "see `dfdet check`")
    thresholds = run.thresholds() or {}
    stamps = list(run.provenance().get("stamps", []))
    known = run.thresholds() is not None and run.record().get("checkpoint") == chosen.name
    if stage == "val" or not known:
        allow = bool(cli.config.allow_target_selection)
        stamps += target_stamps(data.items("train"), data.items("val"), allow)
    if stage == "test" and not known:
        console.say("taking the threshold from validation first")
        thresholds = thresholds_from(as_scores(_score(cli, run, model, data, "val", chosen)))
        if checkpoint == "best" and first_process():
            record = {"thresholds": thresholds, "checkpoint": chosen.name, "stamps": stamps}
            files.write_json(run.thresholds_file, record)
    stamps += index_stamps(run.provenance().get("faces", []), items)
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
    with on_ctrl_c(at_once), plainly():
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
        if not first_process():
            continue
        scores = write_scores(path, rows.reset_index(drop=True), meta)
        summaries[f"{corpus} {stage}"] = summarise(scores)
        written.append(path)
    return Result(run, summaries, written)


def _sources(data: VideoDataModule, stage: Stage) -> list[Any]:
    own = {"train": data.train_sources, "val": data.val_sources, "test": data.test_sources}[stage]
    return own or data.train_sources
