"""A parsed configuration in, detector, data, callbacks and trainer out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from dfdet.data.module import VideoDataModule
from dfdet.detectors import DETECTORS
from dfdet.errors import UserError
from dfdet.runs import Run
from dfdet.training.callbacks import EpochLines, FailedClips, Interrupt, MetricsFile, StepSeeds, on_a_terminal
from dfdet.training.checkpoint_io import AtomicCheckpointIO
from dfdet.training.parser import DetectorCLI, WandbOptions
from dfdet.training.scoring import Scoring


def short_name(class_path: str) -> str:
    """The name of a detector's class path in the table, else the class name in lower case."""
    for name, card in DETECTORS.items():
        if card.path == class_path:
            return name
    return class_path.rsplit(".", 1)[-1].lower()


class Described(Callback):
    """Writes into every checkpoint which detector and which order of batches it belongs to, to refuse others by name.

    Args:
        class_path: The detector's.
        data: The data; batch k of another batch size is another position.
    """

    def __init__(self, class_path: str, data: VideoDataModule) -> None:
        self.class_path, self.data = class_path, data

    def _order(self, trainer: Trainer) -> dict[str, int]:
        return {"batches": len(self.data.train_dataloader()), "clips": self.data.batch_size * trainer.world_size}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds them."""
        name = {"model": short_name(self.class_path), "class_path": self.class_path}
        checkpoint["dfdet"] = {**name, "epoch": self._order(trainer)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Looks at the order when a run is gone on with."""
        then, now = (checkpoint.get("dfdet") or {}).get("epoch"), self._order(trainer)
        if then is not None and then != now:
            raise UserError(
                f"the run was trained by {then['batches']} batches of {then['clips']} clips an epoch, "
                f"not {now['batches']} of {now['clips']}",
                "go on with the same data.batch_size, data.epoch_visits, manifest and number of processes",
            )


def prepare(cli: DetectorCLI) -> tuple[LightningModule, VideoDataModule]:
    """Detector and data module, the crop's size and the frames of a clip settled between them.

    Raises:
        UserError: If the crop's size is not the one that the detector needs.
    """
    model, data = cli.build()
    frames = getattr(model, "input_frames", None)
    if frames is not None and data.clip.frames == 1:
        data.clip = replace(data.clip, frames=frames)
        cli.config.data.clip.frames = frames  # the run's configuration says what was done
    wanted = getattr(model, "input_size", None)
    if data.size is None:
        data.size = wanted
    elif wanted is not None and data.size != wanted:
        raise UserError(
            f"data.crop.size is {data.size}, but the detector was built for {wanted}",
            f"leave data.crop.size out, or set --model.size {data.size}",
        )
    return model, data


def first_process() -> bool:
    """Whether this process is the one that writes and speaks, of those that train together."""
    return not getattr(rank_zero_only, "rank", 0)


@contextmanager
def plainly() -> Iterator[None]:
    """Turns what Lightning says of a configuration that cannot work into one line."""
    try:
        yield
    except MisconfigurationException as error:
        raise UserError(str(error)) from error


def make_trainer(
    cli: DetectorCLI,
    run: Run | None,
    scoring: Scoring,
    extra: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
) -> Trainer:
    """The trainer of a configuration, with our callbacks beside those that it names.

    Args:
        cli: The configuration.
        run: Where it writes; None writes nothing.
        scoring: Collects the scores.
        extra: Further callbacks.
        loggers: Loggers beside those that the configuration names.

    Raises:
        UserError: If the configuration's trainer cannot be had on this machine.
    """
    arguments = cli.trainer_arguments()
    callbacks = [*_listed(arguments.pop("callbacks", None)), scoring, FailedClips(), *extra]
    named = [x for x in _listed(arguments.pop("logger", None)) if isinstance(x, Logger)]
    plugins = [*_listed(arguments.pop("plugins", None)), AtomicCheckpointIO()]
    if SLURMEnvironment.detect() and not any(isinstance(p, SLURMEnvironment) for p in plugins):
        # requeueing is ours to decide; Lightning's own would write into the working directory
        plugins.append(SLURMEnvironment(auto_requeue=False))
    bar = on_a_terminal() and not arguments.get("fast_dev_run")
    arguments |= {
        "callbacks": callbacks,
        "logger": [*named, *loggers] or False,
        "plugins": plugins,
        "use_distributed_sampler": False,
        "enable_progress_bar": bar,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
        "default_root_dir": str(run.path) if run is not None else None,
    }
    with plainly():
        try:
            return Trainer(**arguments)
        except (ValueError, ImportError) as error:  # a wrong value, or a device whose library is not installed
            raise UserError(f"trainer: {error}") from error


def _listed(value: Any) -> list[Any]:
    if value is None or value is False or value is True:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def fit_callbacks(cli: DetectorCLI, run: Run, data: VideoDataModule, interrupt: Interrupt) -> list[Callback]:
    """Best and last checkpoint, early stop, lines, seeds, Ctrl-C."""
    config, mode = cli.config, cli.monitor_mode
    common: dict[str, Any] = {
        "dirpath": str(run.checkpoints),
        "enable_version_counter": False,
        "auto_insert_metric_name": False,
    }
    found: list[Callback] = [
        ModelCheckpoint(filename="best", monitor=config.monitor, mode=mode, save_top_k=1, **common),
        ModelCheckpoint(filename="last", monitor=None, save_top_k=1, save_on_train_epoch_end=True, **common),
        Described(config.model.class_path, data),
        StepSeeds(int(config.seed_everything)),
        interrupt,
    ]
    if config.patience is not None:
        # strict would raise first, and in more words than ModelCheckpoint does
        found.append(EarlyStopping(monitor=config.monitor, mode=mode, patience=config.patience, strict=False))
    if not on_a_terminal():
        found.append(EpochLines(config.monitor))
    return found


def fit_loggers(cli: DetectorCLI, run: Run) -> tuple[list[Logger], list[Callback]]:
    """The metrics file always; Weights & Biases where a project is named."""
    loggers: list[Logger] = [MetricsFile(run.path / "metrics.csv")]
    options = cli.wandb()
    if options.project is not None and first_process():
        loggers.append(_wandb(options, cli, run))
    return loggers, [LearningRateMonitor()]


def _wandb(options: WandbOptions, cli: DetectorCLI, run: Run) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    id_file = run.path / "wandb" / "id"
    known = id_file.read_text().strip() if id_file.is_file() else None
    (run.path / "wandb").mkdir(exist_ok=True)
    logger = WandbLogger(
        name=run.path.name,
        project=options.project,
        entity=options.entity,
        tags=options.tags,
        group=run.path.parent.name,
        save_dir=str(run.path),
        id=known,
        resume="allow",
        config=cli.config.clone().as_dict(),
    )
    id_file.write_text(str(logger.experiment.id))
    return logger


def best_or_last(run: Run) -> Path:
    """best.ckpt where there is one, else last.ckpt."""
    best = run.checkpoints / "best.ckpt"
    return best if best.is_file() else run.checkpoint("last")
