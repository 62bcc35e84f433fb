"""Published weights or a detector's name go in; a detector and its data module come out, without any run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lightning import LightningModule, seed_everything

from dfdet.data.module import VideoDataModule
from dfdet.detectors import DETECTORS
from dfdet.errors import UserError
from dfdet.training.parser import DetectorCLI
from dfdet.training.setup import prepare
from dfdet.weights.checkpoints import Weights, fill, opened


def with_weights(source: str, model: str | None = None) -> tuple[LightningModule, VideoDataModule, Weights]:
    """A detector with published weights, its clip and crop as its authors cut them.

    Args:
        source: A published name, a file, ``hf:owner/name[/file]`` or ``wandb:entity/project/name:alias``.
        model: Which detector it is, where the file does not tell.

    Raises:
        UserError: The weights cannot be had or have no classifier, or nothing tells which detector they are of.
    """
    weights = opened(source)
    if not weights.complete:
        raise UserError(
            f"{source} has no classifier of real and fake: it is something to start from",
            f"train from it: dfdet fit --init_from {source}",
        )
    if weights.layout is not None:
        if model is not None:
            raise UserError(f"--model {model} is given, but {source} tells its own detector", "leave --model out")
        data = weights.entry.data if weights.entry is not None else {}
        arguments = ["--model", weights.layout.detector, *_flags("model", weights.layout.init_args)]
        arguments += _flags("data", data)
    elif model is not None:
        arguments = _recipe(model)
    else:
        raise UserError(*_which(weights))
    detector, module = prepare(DetectorCLI(arguments, filled=True))
    fill(_network(detector), weights)
    return detector, module, weights


def untrained(model: str) -> tuple[LightningModule, VideoDataModule]:
    """A detector as it is made, its weights random, with the clip and crop of its recipe."""
    cli = DetectorCLI(_recipe(model), filled=True)
    seed_everything(int(cli.config.seed_everything), verbose=False)
    return prepare(cli)


def _recipe(model: str) -> list[str]:
    """The configuration that reproduces a detector; an own one has its defaults."""
    return ["--config", DETECTORS[model].config] if model in DETECTORS else ["--model", model]


def _which(weights: Weights) -> tuple[str, str]:
    """What to say of weights that do not tell their detector."""
    run = weights.path.resolve().parent.parent
    if (run / "config.yaml").is_file():
        return f"{weights.path} is a run's checkpoint", f"say --run {run} --checkpoint {weights.path}"
    return f"{weights.source} does not tell which detector it is of", "say so: --weights FILE --model NAME"


def _flags(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flags(f"{key}.{name}", inner)
    else:
        yield f"--{key}={value if isinstance(value, str) else json.dumps(value)}"


def _network(detector: LightningModule) -> Any:
    network = getattr(detector, "network", None)
    if network is None:
        raise UserError(f"{type(detector).__name__} has no network to be filled with weights", "give a --run of it")
    return network
