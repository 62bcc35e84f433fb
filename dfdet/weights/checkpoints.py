"""A run, a file, a published name or a hub's address goes in; a network holds the weights. Nothing is unpickled.

:func:`opened` is the one way in: it finds the file, reads it, and spells it as our networks are spelt, 1 = fake.
:func:`load_weights` then fills a network with all of it or none; ``dfdet fit --init_from`` takes what fits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from dfdet import files
from dfdet.errors import nearest
from dfdet.runs import Run
from dfdet.weights import cache, getting, hubs
from dfdet.weights.converting import compare, convert
from dfdet.weights.layouts import LAYOUTS, Layout
from dfdet.weights.mesonet import read_keras
from dfdet.weights.reading import State, WeightsError, read
from dfdet.weights.registry import PUBLISHED, Published

NETWORK = "network."  # where a detector holds its network
# Where else the keys of a file may belong: a detector's network, and the timm network inside ours.
_HOMES = ("", NETWORK, f"{NETWORK}trunk.")


@dataclass
class Weights:
    """What was found behind a name.

    Attributes:
        source: As the user gave it.
        path: The file.
        state: Tensors, spelt as our networks' or as the file has them.
        layout: How the file was spelt, None: as ours.
        name: The registry's name, None: not of the registry.
        notes: Strings beside the tensors; see :class:`dfdet.weights.reading.Content`.
    """

    source: str
    path: Path
    state: State
    layout: Layout | None = None
    name: str | None = None
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def entry(self) -> Published | None:
        """The registry's entry; of a file that only tells its layout, the first of that layout."""
        if self.name in PUBLISHED:
            return PUBLISHED[self.name]
        same = (e for e in PUBLISHED.values() if self.layout is not None and e.layout == self.layout.name)
        return next(same, None)

    @property
    def complete(self) -> bool:
        """Whether it has a head that tells real from fake."""
        if self.layout is None:
            return True
        return not self.layout.start and (
            not self.layout.head or any(k.startswith(self.layout.head) for k in self.state)
        )

    def record(self) -> dict[str, Any]:
        """Where the weights come from, as plain data."""
        return {
            "source": self.source,
            "file": str(self.path),
            "sha256": files.sha256(self.path),
            "layout": self.layout.name if self.layout is not None else "dfdet",
            "published": self.name,
            **({"original_sha256": self.notes["sha256"]} if "sha256" in self.notes else {}),
        }


def find(source: str | Path) -> tuple[Path, str | None]:
    """The file behind a run, a file, a published name, ``hf:`` or ``wandb:``; and the published name.

    A published name is fetched where the cache does not have it.

    Raises:
        UserError: There is nothing of this name, or it cannot be had.
    """
    told = str(source)
    if told.startswith(hubs.HF):
        return hubs.from_hf(told), None
    if told.startswith(hubs.WANDB):
        return hubs.from_wandb(told), None
    path = Path(source)
    if path.is_file():
        return path, None
    if path.is_dir():
        run = Run(path)
        if run.config.is_file():
            best = run.checkpoints / "best.ckpt"
            return (best if best.is_file() else run.checkpoint("last")), None
        return hubs.one_file(path, told), None
    if told in PUBLISHED:
        return getting.get(told), told
    found = cache.kept(told) if "/" not in told else None
    if found is not None:
        return found.path, None
    close = nearest(told, [*PUBLISHED, *(one.name for one in cache.all_kept())])
    hint = close if close.startswith("did you mean") else "`dfdet weights list` has the names"
    raise WeightsError(f"{told} is no file, no run and no name of published weights", hint)


def opened(source: str | Path) -> Weights:
    """Finds and reads weights, and spells them as our networks are spelt.

    Raises:
        UserError: They cannot be found, or the file cannot be used.
    """
    path, name = find(source)
    content = read(path)
    if content.kind == "HDF5":
        layout, state = read_keras(path)
        return Weights(str(source), path, state, LAYOUTS[layout], name)
    ours = content.notes.get("layout")
    if ours in LAYOUTS and "polarity" in content.notes:  # a file that we converted
        told = content.notes.get("name", "")  # believed where we wrote it ourselves
        name = told if told in PUBLISHED and path == cache.path_of(told) else None
        return Weights(str(source), path, content.state, LAYOUTS[ours], name, content.notes)
    foreign = next((one for one in LAYOUTS.values() if not one.start and one.fits(content.state)), None)
    if foreign is not None:
        state = convert(path, content.state, foreign)
        return Weights(str(source), path, state, foreign, name, content.notes)
    return Weights(str(source), path, content.state, None, name, content.notes)


def at_home(state: State, own: Iterable[str]) -> State:
    """Tensors under the names of a detector's state dict: with or without what stands before their own.

    Args:
        state: Spelt as a detector's, as its network's, or as the timm network's inside it.
        own: The detector's keys.
    """
    there = set(own)
    home = max(_HOMES, key=lambda home: sum(f"{home}{key}" in there for key in state))
    return {f"{home}{key}": value for key, value in state.items()}


def load_weights(source: str | Path, network: nn.Module) -> Weights:
    """Fills a network, every parameter and buffer of it, or raises and leaves it as it was.

    Args:
        source: A run, a file, a published name, ``hf:owner/name`` or ``wandb:entity/project/name:alias``. Of a run's
            checkpoint its network is taken.
        network: Any network of ours.

    Raises:
        UserError: There is nothing of this name, the file cannot be used, or does not fit.
    """
    weights = opened(source)
    fill(network, weights)
    return weights


def fill(network: nn.Module, weights: Weights) -> None:
    """Fills a network with weights that were read, all of it, or raises and leaves it as it was.

    Raises:
        UserError: They do not fit.
    """
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    state = at_home(weights.state, [f"{NETWORK}{key}" for key in wanted])
    within = {key.removeprefix(NETWORK): value for key, value in state.items() if key.startswith(NETWORK)} or state
    compare(weights.path, within, wanted, _told(network, weights))
    check_kinds(weights.path, within, network.state_dict())
    network.load_state_dict({key: within[key] for key in wanted})


def check_kinds(path: Path, state: State, own: State) -> None:
    """Looks whether integers stand where integers belong, and nowhere else: loading would turn them silently.

    Raises:
        WeightsError: They do not.
    """
    for key, value in state.items():
        if key in own and value.is_floating_point() != own[key].is_floating_point():
            raise WeightsError(f"{path}: {key} holds {value.dtype}, not {own[key].dtype}", "take another file")


def _told(network: nn.Module, weights: Weights) -> str:
    of = f" (it is of {weights.layout.about})" if weights.layout is not None else ""
    return f"{type(network).__name__}{of}"
