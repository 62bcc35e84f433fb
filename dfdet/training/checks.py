"""Looks at a configuration before training, so that what cannot work costs a second and not an hour."""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning import LightningModule

from dfdet import console
from dfdet.data.module import VideoDataModule
from dfdet.data.sources import Items
from dfdet.detectors.binary import BinaryDetector
from dfdet.errors import UserError, nearest
from dfdet.training.scoring import METRICS

TARGET_STAMP = "target used for selection"
INDEX_STAMP = "indexed otherwise"


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
    return target_stamps(train, val, allow)


def check_monitor(monitor: str, model: LightningModule) -> None:
    """Looks whether what decides is logged at all; a detector with a validation of its own may log anything.

    Raises:
        UserError: If it is not, with the nearest that is.
    """
    if type(model).validation_step is not BinaryDetector.validation_step:
        return
    logged = [*METRICS, "val/loss", "train/loss", "train/loss_epoch", "train/accuracy"]
    if monitor not in logged:
        raise UserError(f"monitor is {monitor!r}, which is not logged", nearest(monitor, logged))


def check_plain(module: LightningModule | VideoDataModule, what: str) -> None:
    """Looks whether saved hyper-parameters could be loaded again, before training rather than after.

    Raises:
        UserError: If they hold more than numbers, strings, lists and dicts.
    """
    memory = io.BytesIO()
    try:
        torch.save(dict(module.hparams), memory)
        memory.seek(0)
        torch.load(memory, weights_only=True)
    except (pickle.PicklingError, pickle.UnpicklingError, AttributeError, TypeError) as error:
        names = ", ".join(f"{k} ({type(v).__name__})" for k, v in module.hparams.items())
        raise UserError(
            f"save_hyperparameters() of the {what} keeps more than numbers, strings, lists and dicts: {names}",
            "leave these out of it: a checkpoint with them could not be loaded safely",
        ) from error


def corpora_of(items: Items) -> set[str]:
    """The corpora among items."""
    return {c for c in items.table["corpus"].to_pylist() if c}


def target_stamps(train: Items, val: Items, allow: bool) -> list[str]:
    """The stamp of scores whose model or threshold a corpus chose that is not trained on.

    Raises:
        UserError: If that was not allowed.
    """
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
    theirs = train_faces[0]
    keys = [k for k in other if other.get(k) != theirs.get(k)] or ["name"]
    how = f"{theirs.get('name')} for training, {other.get('name')} here; {', '.join(keys)} differ"
    console.warn(f"faces were indexed otherwise ({how}); the scores say so")
    return [INDEX_STAMP]
