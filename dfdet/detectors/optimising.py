"""Names and networks in, optimisers' parameter groups out; what of a network is frozen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from dfdet.errors import UserError, nearest
from dfdet.imports import import_object


def named(name: str, home: Any, what: str) -> Any:
    """A class of ``home`` by its name, or any by its import path.

    Raises:
        UserError: If there is none, with the nearest.
    """
    if "." in name:
        return import_object(name, what)
    found = getattr(home, name, None)
    if found is None:
        known = [n for n in dir(home) if n[0].isupper()]
        raise UserError(f"model.{what} {name!r} is no class of {home.__name__}", nearest(name, known))
    return found


def parameter_groups(
    module: nn.Module, lr: float, layer_decay: float | None, without: nn.Module | None = None
) -> list[dict[str, Any]]:
    """The trainable parameters of a module for an optimiser.

    Args:
        module: It.
        lr: The learning rate of its last layer.
        layer_decay: Factor on the rate from each of its layers (:func:`layer_numbers`) to the one before; None: one
            group.
        without: A part whose parameters are left out.
    """
    apart = {id(p) for p in without.parameters()} if without is not None else set()
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad and id(p) not in apart}
    if layer_decay is None:
        return [{"params": list(trained.values())}] if trained else []
    numbers = layer_numbers(module)
    last = max(numbers.values(), default=0)
    layers: dict[int, list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        layers.setdefault(numbers[name], []).append(parameter)
    return [{"params": layers[n], "lr": lr * layer_decay ** (last - n)} for n in sorted(layers, reverse=True)]


def layer_numbers(module: nn.Module) -> dict[str, int]:
    """The layer that each parameter is of, by name, from 0 at the input.

    A network may say so itself by a method of this name (timm's do, by their own grouping). Else a layer is a direct
    part of it, or an element of a direct part that is a list or a sequence, in the order in which they were made; lists
    of one length that follow each other are gone through together (a network's convolutions and its norms).
    """
    own = getattr(module, "layer_numbers", None)
    if own is not None:
        return dict(own())
    layers = [[name for name, _ in module.named_parameters(recurse=False)]]
    length = 0
    for name, part in module.named_children():
        if isinstance(part, nn.ModuleList) and len(part) == length > 0:
            for layer, piece in zip(layers[-length:], part.named_children(), strict=True):
                layer += _inside(f"{name}.{piece[0]}", piece[1])
            continue
        length = len(part) if isinstance(part, nn.ModuleList) else 0
        several = isinstance(part, nn.ModuleList | nn.Sequential)
        pieces = [(f"{name}.{k}", m) for k, m in part.named_children()] if several else [(name, part)]
        layers += [_inside(path, piece) for path, piece in pieces]
    layers = [layer for layer in layers if layer]
    return {name: number for number, layer in enumerate(layers) for name in layer}


def _inside(path: str, module: nn.Module) -> list[str]:
    return [f"{path}.{name}" for name, _ in module.named_parameters()]


def freeze_to(network: nn.Module, last: str) -> list[nn.Module]:
    """Takes the gradient from all layers up to a named one, itself included.

    Args:
        network: It.
        last: A part of it, ``conv2``, ``norms.1``; the name of its first part may be left out: ``blocks.3`` for
            ``trunk.blocks.3``.

    Returns:
        Norms of these layers that keep statistics; they must stay in evaluation.

    Raises:
        UserError: It has no such part, or nothing would be left to train.
    """
    numbers = layer_numbers(network)
    starts = ["", *(f"{name}." for name, _ in network.named_children())]
    inside = [p for s in starts for p in numbers if p == s + last or p.startswith(f"{s}{last}.")]
    if not last or not inside:
        known = [n for n, m in network.named_modules() if n and n.count(".") < 4 and any(True for _ in m.parameters())]
        known += [n.partition(".")[2] for n in known if "." in n]
        raise UserError(f"model.freeze_to {last!r} is no part of {type(network).__name__}", nearest(last, known))
    cut = max(numbers[name] for name in inside)
    parameters = dict(network.named_parameters())
    frozen = {name for name, number in numbers.items() if number <= cut}
    if not any(p.requires_grad for name, p in parameters.items() if name not in frozen):
        raise UserError(f"model.freeze_to {last!r} leaves nothing of {type(network).__name__} to train")
    for name in frozen:
        parameters[name].requires_grad_(False)
    held = {id(parameters[name]) for name in frozen}
    return [
        module
        for module in network.modules()
        if isinstance(module, _NormBase) and all(id(p) in held for p in module.parameters())
    ]


@contextmanager
def statistics_held(module: nn.Module) -> Iterator[None]:
    """Norms go on taking the batch's own statistics, but their running ones stay as they are.

    For a batch that must pass through the network, since processes that train together wait for it, and yet shows
    nothing.
    """
    norms = [m for m in module.modules() if isinstance(m, _NormBase) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
