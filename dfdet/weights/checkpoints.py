"""A file of weights and a network go in; the network holds the weights. Nothing is ever unpickled but tensors.

By the file's name: ``.h5`` is a Keras file of MesoNet, ``.safetensors`` a state dict, ``.pt``, ``.pth`` and ``.ckpt``
torch's, read with ``weights_only=True``.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dfdet.errors import UserError

_TORCH = (".pt", ".pth", ".ckpt")
_PREFIX = "network."


def load_weights(path: str | Path, network: nn.Module) -> None:
    """Fills a network from a file, every parameter and buffer of it, or raises and leaves it as it was.

    Args:
        path: The file. A run's own checkpoint (a dict with ``state_dict``, keys ``network.*``) is taken as well.
        network: Any network for a state dict; Meso4 or MesoInception4 for ``.h5``.

    Raises:
        UserError: The file is missing, of an unknown kind, would have to be unpickled, or does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} is not a file", "give the path of the downloaded weights")
    if path.suffix == ".h5":
        _load_h5(path, network)
    elif path.suffix == ".safetensors":
        _fit(path, _read_safetensors(path), network)
    elif path.suffix in _TORCH:
        _fit(path, _read_torch(path), network)
    else:
        raise UserError(f"{path}: weights of the kind {path.suffix or 'without suffix'!r} are not read",
                        f"known: .h5, .safetensors, {', '.join(_TORCH)}")  # fmt: skip


def _load_h5(path: Path, network: nn.Module) -> None:
    from dfdet.networks.mesonet import Meso4, MesoInception4
    from dfdet.weights.mesonet import load_keras

    if not isinstance(network, Meso4 | MesoInception4):
        raise UserError(f"{path}: .h5 holds weights of MesoNet, not of {type(network).__name__}")
    load_keras(path, network)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}") from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and plain values, and is not unpickled",
            "load it where you trust it and save its state dict as .safetensors",
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise UserError(f"{path} cannot be read by torch: {str(error).splitlines()[0]}") from error
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path} holds no state dict", "save network.state_dict()")
    return content


def _fit(path: Path, state: dict[str, Tensor], network: nn.Module) -> None:
    if any(key.startswith(_PREFIX) for key in state):
        state = {key.removeprefix(_PREFIX): value for key, value in state.items() if key.startswith(_PREFIX)}
    own = network.state_dict()
    name = type(network).__name__
    for what, keys in (("lacks", own.keys() - state.keys()), ("has besides", state.keys() - own.keys())):
        if keys:
            told = ", ".join(sorted(keys)[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise UserError(f"{path} does not fit {name}: it {what} {told}", "choose the network that it was made for")
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise UserError(
                f"{path} does not fit {name}: {key} is {tuple(value.shape)}, the network's is {tuple(own[key].shape)}",
                "choose the settings that it was trained with",
            )
    network.load_state_dict(state)
