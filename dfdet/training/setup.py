"""A parsed configuration in, detector, data and trainer out, after the checks that save an hour of training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import Logger

from dfdet import console
from dfdet.data.module import VideoDataModule
from dfdet.data.sources import Items
from dfdet.detectors import DETECTORS
from dfdet.errors import UserError
from dfdet.runs import Run
from dfdet.training.callbacks import EpochLines, FailedClips, Interrupt, MetricsFile, on_a_terminal
from dfdet.training.checkpoint_io import AtomicCheckpointIO
from dfdet.training.parser import DetectorCLI, WandbOptions
from dfdet.training.scoring import Scoring

TARGET_STAMP = "target used for selection"
INDEX_STAMP = "indexed otherwise"


def short_name(class_path: str) -> str:
    """The name of a detector's class path in the table, else the class name in lower case."""
    for name, card in DETECTORS.items():
        if card.path == class_path:
            return name
    return class_path.rsplit(".", 1)[-1].lower()


class Described(Callback):
    """Writes into every checkpoint which detector it belongs to, so that another one can refuse it by name."""

    def __init__(self, class_path: str) -> None:
        self.class_path = class_path

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the name."""
        checkpoint["dfdet"] = {"model": short_name(self.class_path), "class_path": self.class_path}


def prepare(cli: DetectorCLI) -> tuple[LightningModule, VideoDataModule]:
    """Detector and data module, the crop's size settled between them.

    Raises:
        UserError: If the crop's size is not the one that the detector needs.
    """
    model, data = cli.build()
    wanted = getattr(model, "input_size", None)
    if data.size is None:
        data.size = wanted
    elif wanted is not None and data.size != wanted:
        raise UserError(
            f"data.crop.size is {data.size}, but the detector was built for {wanted}",
            f"leave data.crop.size out, or set --model.size {data.size}",
        )
    return model, data


def check_selection(data: VideoDataModule, allow: bool) -> list[str]:
    """Looks at training and validation before anything starts; returns the stamps for the scores.

    Raises:
        UserError: If training or validation cannot be done or would choose on another corpus.
    """
    train, val = data.items("train"), data.items("val")
    for name, items, labels in (("training", train, train.label), ("validation", val, val.label[val.readable])):
        if len(labels) == 0:
            where = ", ".join(dict.fromkeys(items.names))
            raise UserError(
                f"the {name} split is empty in {where}",
                "see `dfdet check` for what is there" if name == "training" else "name one by --data.val",
            )
        kinds = set(np.unique(labels[labels >= 0]).tolist())
        if kinds != {0, 1}:
            only = "real" if kinds == {0} else "fake"
            raise UserError(f"the {name} split holds only {only} videos", "both are needed; see `dfdet check`")
    return _target_stamps(train, val, allow)


def corpora_of(items: Items) -> set[str]:
    """The corpora among items."""
    return {c for c in items.table["corpus"].to_pylist() if c}


def _target_stamps(train: Items, val: Items, allow: bool) -> list[str]:
    foreign = sorted(corpora_of(val) - corpora_of(train))
    if not foreign:
        return []
    if not allow:
        raise UserError(
            f"validation is on {', '.join(foreign)}, which is not trained on: it would choose the model for the target",
            "validate on a training corpus, or say --allow_target_selection true (the scores are stamped)",
        )
    console.warn(f"{', '.join(foreign)} chooses the model though it is not trained on; the scores say so")
    return [TARGET_STAMP]


def index_stamps(train_faces: Sequence[dict[str, Any]], items: Items) -> list[str]:
    """A stamp and one warning if faces were indexed otherwise than where the detector was trained."""
    if not train_faces or all(faces in train_faces for faces in items.faces):
        return []
    other = next(f for f in items.faces if f not in train_faces)
    keys = [k for k in other if other.get(k) != train_faces[0].get(k)] or ["name"]
    console.warn(f"faces were indexed otherwise than for training ({', '.join(keys)} differ); the scores say so")
    return [INDEX_STAMP]


def make_trainer(cli: DetectorCLI, run: Run | None, scoring: Scoring, extra: Sequence[Callback] = ()) -> Trainer:
    """The trainer of a configuration, with our callbacks beside those that it names.

    Args:
        cli: The configuration.
        run: Where it writes; None writes nothing.
        scoring: Collects the scores.
        extra: Further callbacks.
    """
    arguments = cli.trainer_arguments()
    callbacks = [*_listed(arguments.pop("callbacks", None)), scoring, FailedClips(), *extra]
    loggers = [x for x in _listed(arguments.pop("logger", None)) if isinstance(x, Logger)]
    plugins = [*_listed(arguments.pop("plugins", None)), AtomicCheckpointIO()]
    if SLURMEnvironment.detect() and not any(isinstance(p, SLURMEnvironment) for p in plugins):
        # requeueing is ours to decide; Lightning's own would write into the working directory
        plugins.append(SLURMEnvironment(auto_requeue=False))
    bar = on_a_terminal() and not arguments.get("fast_dev_run")
    arguments |= {
        "callbacks": callbacks,
        "logger": loggers or False,
        "plugins": plugins,
        "use_distributed_sampler": False,
        "enable_progress_bar": bar,
        "enable_model_summary": False,
        "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
        "default_root_dir": str(run.path) if run is not None else None,
    }
    return Trainer(**arguments)


def _listed(value: Any) -> list[Any]:
    if value is None or value is False or value is True:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def fit_callbacks(cli: DetectorCLI, run: Run) -> list[Callback]:
    """Best and last checkpoint, early stop, lines, Ctrl-C."""
    config = cli.config
    common: dict[str, Any] = {
        "dirpath": str(run.checkpoints),
        "enable_version_counter": False,
        "auto_insert_metric_name": False,
    }
    found: list[Callback] = [
        ModelCheckpoint(filename="best", monitor=config.monitor, mode=config.monitor_mode, save_top_k=1, **common),
        ModelCheckpoint(filename="last", monitor=None, save_top_k=1, every_n_epochs=1, **common),
        Described(config.model.class_path),
        Interrupt(run.checkpoints / "last.ckpt"),
    ]
    if config.patience is not None:
        found.append(EarlyStopping(monitor=config.monitor, mode=config.monitor_mode, patience=config.patience))
    if not on_a_terminal():
        found.append(EpochLines(config.monitor))
    return found


def fit_loggers(cli: DetectorCLI, run: Run) -> tuple[list[Logger], list[Callback]]:
    """The metrics file always; Weights & Biases where a project is named."""
    loggers: list[Logger] = [MetricsFile(run.path / "metrics.csv")]
    options: WandbOptions = cli.parser.instantiate_classes(cli.config)["wandb"]
    if options.project is not None:
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
