"""A Keras 2 weights file of MesoNet goes in; a Meso4 or MesoInception4 holds its weights, with 1 = fake.

The four files of DariusAf/MesoNet (Apache-2.0): Meso4_DF, Meso4_F2F, MesoInception_DF, MesoInception_F2F. Three things
are turned at this border, each of which would go unnoticed in the shapes:

- Keras flattens (H, W, C), torch (C, H, W): the first dense layer's rows are permuted.
- The names' numbers are a session's counter and the files' order is not the order of creation: layers are taken by
  their number within a kind.
- The sigmoid is P(real): the last layer's sign is turned, so that a logit above 0 says fake.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dfdet.errors import UserError
from dfdet.networks.mesonet import Meso4, MesoInception4

Arrays = dict[str, npt.NDArray[np.float32]]

_KINDS: dict[str, tuple[str, ...]] = {
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}
_NAMES = {4: "Meso4", 16: "MesoInception4"}


def load_keras(path: str | Path, network: Meso4 | MesoInception4) -> None:
    """Fills a network from a file; on any error the network is as it was.

    Args:
        path: A weights-only HDF5 file of Keras 2, or a model saved whole, whose weights are read and nothing else.
        network: Of the file's architecture and input size (256 for the published ones).

    Raises:
        UserError: The file is missing, no such file, of another architecture or another input size.
    """
    path = Path(path)
    layers = _read(path)
    modules: dict[str, list[nn.Module]] = {
        "conv2d": [m for m in network.modules() if isinstance(m, nn.Conv2d)],
        "batch_normalization": [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)],
        "dense": [m for m in network.modules() if isinstance(m, nn.Linear)],
    }
    own = type(network).__name__
    found = len(layers["conv2d"])
    if found != len(modules["conv2d"]):
        told = f"of {_NAMES[found]}" if found in _NAMES else f"of another architecture ({found} convolutions)"
        raise UserError(f"{path} holds weights {told}, not of {own}", "choose the network that the file was made for")
    state: dict[int, dict[str, Tensor]] = {}
    for kind, targets in modules.items():
        if len(layers[kind]) != len(targets):
            raise UserError(f"{path} has {len(layers[kind])} {kind} layers where {own} has {len(targets)}")
        for target, (name, arrays) in zip(targets, layers[kind], strict=True):
            values = _torch_values(target, arrays, network)
            _check(path, name, values, target, network)
            state[id(target)] = values
    with torch.no_grad():
        for target in network.modules():
            for key, value in state.get(id(target), {}).items():
                getattr(target, key).copy_(value)


def read_keras(path: str | Path) -> tuple[str, dict[str, Tensor]]:
    """The weights of a file as our networks name them: ``mesonet.meso4`` or ``mesonet.mesoinception4`` of any size.

    Raises:
        UserError: It is no such file.
    """
    path = Path(path)
    layers = _read(path)
    found = len(layers["conv2d"])
    if found not in _NAMES:
        raise UserError(f"{path} holds weights of another architecture than MesoNet's ({found} convolutions)")
    rows = layers["dense"][0][1]["kernel"].shape[0] if layers["dense"] else 0
    # the last maps have 16 channels, and 32 pixels of the input fall on each of theirs
    size = 32 * max(math.isqrt(rows // 16), 1)
    network: Meso4 | MesoInception4 = Meso4(size) if _NAMES[found] == "Meso4" else MesoInception4(size)
    load_keras(path, network)
    return f"mesonet.{_NAMES[found].lower()}", network.state_dict()


def _read(path: Path) -> dict[str, list[tuple[str, Arrays]]]:
    """The file's layers by kind, in the order in which Keras made them: (name, {"kernel": array, ...})."""
    if not path.is_file():
        raise UserError(f"{path} is not a file", "fetch the weights from github.com/DariusAf/MesoNet")
    layers: dict[str, list[tuple[str, Arrays]]] = {kind: [] for kind in _KINDS}
    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            if "layer_names" not in root.attrs:
                raise UserError(f"{path} is HDF5 but has no Keras 2 weights (no attribute layer_names)")
            for name in sorted(map(_text, root.attrs["layer_names"]), key=_number):
                kind = re.sub(r"_\d+$", "", name)
                if kind in layers:
                    layers[kind].append((name, _arrays(path, name, root[name], _KINDS[kind])))
    except (OSError, KeyError) as error:
        raise UserError(f"{path} cannot be read as a Keras weights file: {error}") from error
    return layers


def _arrays(path: Path, name: str, group: h5py.Group, wanted: tuple[str, ...]) -> Arrays:
    arrays: Arrays = {}
    for entry in map(_text, group.attrs["weight_names"]):
        arrays[entry.rsplit("/", 1)[-1].split(":")[0]] = np.asarray(group[entry], dtype=np.float32)
    missing = [each for each in wanted if each not in arrays]
    if missing:
        raise UserError(f"{path}: layer {name} has no {', '.join(missing)}")
    return arrays


def _torch_values(target: nn.Module, arrays: Arrays, network: Meso4 | MesoInception4) -> dict[str, Tensor]:
    if isinstance(target, nn.BatchNorm2d):
        names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
        return {ours: torch.from_numpy(arrays[theirs]) for theirs, ours in names.items()}
    kernel, bias = torch.from_numpy(arrays["kernel"]), torch.from_numpy(arrays["bias"])
    if isinstance(target, nn.Conv2d):
        return {"weight": kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel, "bias": bias}
    if target is network.output:
        return {"weight": -kernel.T, "bias": -bias}
    side = network.side
    if kernel.ndim == 2 and kernel.shape[0] % side**2 == 0:
        kernel = kernel.reshape(side, side, -1, kernel.shape[1]).permute(2, 0, 1, 3).reshape(kernel.shape)
    return {"weight": kernel.T, "bias": bias}


def _check(
    path: Path, name: str, values: dict[str, Tensor], target: nn.Module, network: Meso4 | MesoInception4
) -> None:
    for key, value in values.items():
        wanted = getattr(target, key).shape
        if value.shape == wanted:
            continue
        what = f"{path}: layer {name} has a {key} of {tuple(value.shape)} where the network has {tuple(wanted)}"
        hint = f"the network is for {network.size} pixels, the published files for 256"
        raise UserError(what, hint if target is network.hidden else "it is of another architecture")


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _number(name: str) -> int:
    tail = re.search(r"_(\d+)$", name)
    return int(tail.group(1)) if tail else 0
