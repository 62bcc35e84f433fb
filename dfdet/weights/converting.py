"""A state dict as its authors spell it goes in; one as our networks spell it comes out, whole, with 1 = fake.

Two outputs become one logit, fake minus real: softmax of two is the sigmoid of their difference. What is missing,
what is there besides, and what has another shape is told apart, and each of it is fatal.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from dfdet.errors import nearest
from dfdet.weights.layouts import LAYOUTS, Layout, Shapes
from dfdet.weights.reading import State, WeightsError

COUNT = "num_batches_tracked"  # absent from files of before torch 0.4.1; it counts from 0


def recognise(path: Path, state: State, name: str | None = None) -> Layout:
    """The layout of a file, by its keys or as the user calls it.

    timm's are never guessed: efficientnet_b4 and tf_efficientnet_b4 have the same keys and are not the same function.

    Raises:
        WeightsError: There is none of this name, or none with these keys.
    """
    if name is not None:
        if name not in LAYOUTS:
            raise WeightsError(f"no layout is called {name!r}", nearest(name, LAYOUTS))
        return LAYOUTS[name]
    for layout in LAYOUTS.values():
        if not layout.start and layout.fits(state):
            return layout
    told = ", ".join(list(state)[:3])
    starts = [layout.name for layout in LAYOUTS.values() if layout.start and layout.fits(state)]
    hint = f"is it {starts[0]}? then say --layout {starts[0]}" if starts else f"known: {', '.join(LAYOUTS)}"
    raise WeightsError(f"{path} has the keys of no published network that is known here ({told} ...)", hint)


def convert(path: Path, state: State, layout: Layout) -> State:
    """Tensors as the authors spell them -> as our network spells them, float32, each exactly once.

    Returns:
        Every key of our network, or every one but its head's, where the file has none.

    Raises:
        WeightsError: A key or shape is not the layout's: what is missing, unexpected and of another shape.
    """
    ours: State = {}
    unexpected: list[str] = []
    for key, value in state.items():
        if key.startswith(layout.unused):
            continue
        name = layout.rename(key)
        if name is None or name in ours:
            unexpected.append(key)
        else:
            ours[name] = _number(path, key, value)
    if layout.fake is not None:
        for name in ("output.weight", "output.bias"):
            if name in ours and ours[name].shape[:1] == (2,):
                rows = ours[name]
                ours[name] = (rows[layout.fake] - rows[1 - layout.fake]).unsqueeze(0)
    wanted = layout.wanted()
    if layout.head and not any(name.startswith(layout.head) for name in ours):
        wanted = {key: shape for key, shape in wanted.items() if not key.startswith(layout.head)}
    compare(path, ours, wanted, layout.about, unexpected)
    return {key: ours[key] for key in wanted}


def compare(path: Path, state: State, wanted: Shapes, whose: str, unexpected: Iterable[str] = ()) -> None:
    """Holds names and shapes against what is wanted; fills in counts of batches that an old file does not have.

    Raises:
        WeightsError: They differ.
    """
    for key in wanted:
        if key.endswith(COUNT) and key not in state:
            state[key] = torch.zeros((), dtype=torch.int64)
    missing = [key for key in wanted if key not in state]
    strange = [*unexpected, *(key for key in state if key not in wanted)]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {wanted[key]}"
        for key in wanted
        if key in state and tuple(state[key].shape) != tuple(wanted[key])
    ]
    told = [
        f"{what} {len(keys)} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in (("missing", missing), ("unexpected", strange), ("of another shape", shapes))
        if keys
    ]
    if told:
        raise WeightsError(f"{path} does not fit {whose}: {'; '.join(told)}", "choose the network it was made for")


def _number(path: Path, key: str, value: Tensor) -> Tensor:
    if value.is_floating_point():
        return value.to(torch.float32).contiguous()
    if key.endswith(COUNT):
        return value.to(torch.int64)
    raise WeightsError(f"{path}: {key} holds {value.dtype}, where weights are floating point", "take another file")
