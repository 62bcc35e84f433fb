"""A detector and weights from anywhere go in; the detector holds what of them fits, and a table says what did not."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lightning import LightningModule

from dfdet import console
from dfdet.console import Table
from dfdet.detectors.binary import BinaryDetector
from dfdet.errors import UserError
from dfdet.weights.checkpoints import NETWORK, Weights, at_home, check_kinds, opened

# Settings that change what the same weights compute, and that no name or shape tells.
_SILENT = ("pad_compat", "statistics", "legacy")


@dataclass
class Start:
    """What a training started from.

    Attributes:
        weights: Where they come from.
        loaded: Keys of the detector that were filled.
        shapes: Keys that have another shape in the file, and stay as they were: (key, its shape there, here).
        new: Keys that the file does not have.
        unused: Keys of the file that the detector does not have.
        sizes: Numbers in each key of the detector.
    """

    weights: Weights
    loaded: list[str] = field(default_factory=list)
    shapes: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)

    def table(self) -> Table:
        """Tensors by layer."""
        name = self.weights.name or self.weights.source
        table = Table(f"Starting from {name}", ["layer", "loaded", "another shape", "new", "numbers loaded"])
        counts: dict[str, list[int]] = {layer_of(key): [0, 0, 0, 0] for key in self.sizes}
        for column, keys in enumerate((self.loaded, [key for key, _, _ in self.shapes], self.new)):
            for key in keys:
                counts[layer_of(key)][column] += 1
        for key in self.loaded:
            counts[layer_of(key)][3] += self.sizes[key]
        for layer, row in counts.items():
            table.add(layer, *row)
        table.add("all", *(sum(row[column] for row in counts.values()) for column in range(4)))
        if self.unused:
            table.notes.append(f"{len(self.unused)} tensors of the file have no place here: {_some(self.unused)}")
        return table

    def record(self) -> dict[str, Any]:
        """Where the weights come from and how many of them were taken, for the run's provenance."""
        counts = {"loaded": len(self.loaded), "another_shape": len(self.shapes), "new": len(self.new)}
        return self.weights.record() | counts | {"unused": len(self.unused)}

    def tell(self) -> None:
        """Prints the table; every key goes into the run's log."""
        console.show(self.table())
        log = logging.getLogger("dfdet").info
        log("init_from %s: %s", self.weights.source, self.weights.path)
        for key in self.loaded:
            log("init_from loaded %s", key)
        for key, there, here in self.shapes:
            log("init_from skipped %s: %s there, %s here", key, there, here)
        for key in self.new:
            log("init_from new %s", key)
        for key in self.unused:
            log("init_from unused %s", key)


def layer_of(key: str) -> str:
    """The layer of a key of a detector: its names down to the first number, at most two of the network's parts."""
    parts = key.removeprefix(NETWORK).split(".")[:-1]
    for place, part in enumerate(parts):
        if re.fullmatch(r"\d+", part):
            return ".".join(parts[: place + 1])
    return ".".join(parts[:2]) or key


def start_from(model: LightningModule, source: str, settings: Mapping[str, Any] | None = None) -> Start:
    """Fills a detector with what fits of weights, by name and shape.

    Args:
        model: The detector; on any error it is as it was.
        source: A run (its best checkpoint), a file, a published name, ``hf:owner/name[/file]`` or
            ``wandb:entity/project/name:alias``.
        settings: The detector's arguments, to warn where the same weights would compute something else.

    Raises:
        UserError: There is nothing of this name, the file cannot be used, nothing in it fits, or the configuration
            names other weights to start from.
    """
    settings = settings or {}
    if settings.get("weights"):
        raise UserError(
            f"--init_from {source} and model.weights {settings['weights']} are both given", "start from one of the two"
        )
    weights = opened(source)
    own = model.state_dict()
    state = at_home(weights.state, own)
    start = Start(weights, sizes={key: value.numel() for key, value in own.items()})
    for key, value in own.items():
        if key not in state:
            start.new.append(key)
        elif state[key].shape != value.shape:
            start.shapes.append((key, tuple(state[key].shape), tuple(value.shape)))
        else:
            start.loaded.append(key)
    start.unused = [key for key in state if key not in own]
    # a bias of the one logit fits by chance whatever the network
    if not any(own[key].is_floating_point() and own[key].ndim > 1 for key in start.loaded):
        made_for = weights.layout.detector if weights.layout is not None else weights.notes.get("model")
        raise UserError(
            f"nothing in {weights.path} fits {type(model).__name__}: it has {_some([*weights.state])}",
            f"it was made for {made_for}" if made_for else "choose the detector that it was made for",
        )
    check_kinds(weights.path, {key: state[key] for key in start.loaded}, own)
    model.load_state_dict({**own, **{key: state[key] for key in start.loaded}})
    if isinstance(model, BinaryDetector):
        model.started = True
    _warn(model, weights, settings)
    return start


def _warn(model: LightningModule, weights: Weights, settings: Mapping[str, Any]) -> None:
    """Says where the same weights compute something else here than where they were made."""
    made = weights.layout.init_args if weights.layout is not None else {}
    size = settings.get("size")
    for name in _SILENT:
        here, there = settings.get(name), made.get(name)
        alike = {here, there} == {"tf", "en06"} and isinstance(size, int) and size % 32 == 0
        if name in made and name in settings and here != there and not alike:
            console.warn(f"model.{name} is {here}; {weights.source} was made with {there}")
    entry = weights.entry
    if entry is None or entry.start or "statistics" in made:
        return
    mean, std = getattr(model, "mean", None), getattr(model, "std", None)
    if mean is None or std is None or "legacy" in made or (tuple(mean), tuple(std)) == entry.statistics:
        return
    theirs = "mean {}, std {}".format(*entry.statistics)
    console.warn(f"the input is normalised by mean {tuple(mean)}, std {tuple(std)}; {weights.source} expects {theirs}")


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
