"""A file from anywhere goes in; named tensors come out, or one line that says what the file is. Nothing is unpickled.

The content decides, not the name: torch's zip and its form before 1.6, safetensors, HDF5. What is none of these (an
HTML page in a download's place, a Git LFS pointer, a pickle) is told by its first bytes.
"""

from __future__ import annotations

import pickle
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from dfdet.errors import UserError

Kind = Literal["torch", "legacy torch", "safetensors", "HDF5", "pickle", "HTML", "LFS", "tar", "empty", "unknown"]
State = dict[str, Tensor]

SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors", ".h5", ".bin")
# What training loops put around a state dict; ISPL's says "net", Lightning "state_dict".
_WRAPPERS = ("state_dict", "net", "model_state_dict")
# Damaged bytes reach torch's restricted unpickler as opcodes, and fail in it in as many ways.
_DAMAGE = (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError, AssertionError,
           OSError, OverflowError, struct.error, MemoryError)  # fmt: skip
_TOLD = {
    "torch": "torch's zip file",
    "legacy torch": "torch's file of before 1.6",
    "pickle": "a plain pickle",
    "HTML": "an HTML page, not the file itself",
    "LFS": "a Git LFS pointer, not the file itself",
    "tar": "a tar archive",
    "empty": "empty",
    "unknown": "of no known kind",
}
_REMEDY = {
    "pickle": "load it where you trust it and save its state_dict() as .safetensors",
    "HTML": "the link wants a browser: open it there, save the file, and import that",
    "LFS": "fetch the content with `git lfs pull`, or download it from the repository's page",
    "tar": "unpack it, or save the state dict anew with a torch of this decade",
    "empty": "download it again",
    "unknown": "known are torch's .pt and .pth, .safetensors and Keras' .h5",
}


class WeightsError(UserError):
    """A file of weights that cannot be used: which file, what it is, what is wrong, and what to do."""


@dataclass
class Content:
    """What a file holds.

    Attributes:
        path: The file.
        state: Its tensors by name, on the CPU; empty for HDF5, which :mod:`dfdet.weights.mesonet` reads.
        kind: What it is.
        notes: Strings beside the tensors: safetensors' metadata; of a run's checkpoint ``model`` and ``class_path``.
    """

    path: Path
    state: State
    kind: Kind
    notes: dict[str, str] = field(default_factory=dict)


def kind_of(path: str | Path) -> Kind:
    """What a file is, by its first bytes."""
    with Path(path).open("rb") as handle:
        start = handle.read(512)
    if not start:
        return "empty"
    if start.startswith(b"PK\x03\x04"):
        return "torch"
    if start.startswith(b"\x80\x02\x8a\n"):
        return "legacy torch"
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "HDF5"
    if start.startswith(b"version https://git-lfs"):
        return "LFS"
    if start.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html", b"<?xml", b"<head")):
        return "HTML"
    if start[257:262] == b"ustar":
        return "tar"
    if len(start) > 8 and start[8:9] == b"{":
        return "safetensors"
    return "pickle" if start[0] == 0x80 else "unknown"


def known_kind(path: Path) -> Kind:
    """What a file of weights is, by its first bytes.

    Raises:
        WeightsError: It is missing, or no file of weights.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is not a file", "give the path of the downloaded weights")
    kind = kind_of(path)
    if kind in _REMEDY:
        raise WeightsError(f"{path} ({_size(path)}) is {_TOLD[kind]}", _REMEDY[kind])
    return kind


def read(path: str | Path) -> Content:
    """The tensors of a file.

    Raises:
        WeightsError: It is missing, no file of weights, damaged, would have to be unpickled, or holds values
            that are not finite.
    """
    path = Path(path)
    kind = known_kind(path)
    if kind == "HDF5":
        return Content(path, {}, kind)
    state, notes = _safetensors(path) if kind == "safetensors" else _torch(path, kind)
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise WeightsError(f"{path}: {name} holds values that are not finite", "take another checkpoint")
    return Content(path, state, kind, notes)


def notes_of(path: str | Path) -> dict[str, str]:
    """The strings beside the tensors of a .safetensors file.

    Raises:
        WeightsError: It is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is damaged: {_first_line(error)}", "remove it, and get it again") from error


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size} bytes"


def _safetensors(path: Path) -> tuple[State, dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} ({_size(path)}) cannot be read as safetensors: {_first_line(error)}", "download it again"
        ) from error


def _torch(path: Path, kind: Kind) -> tuple[State, dict[str, str]]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = _offender(str(error))
        if name is None:
            raise WeightsError(f"{path} ({_size(path)}, {_TOLD[kind]}) is damaged", "download it again") from error
        raise WeightsError(
            f"{path} ({_size(path)}, {_TOLD[kind]}) holds more than tensors and plain values ({name}), "
            "and is not unpickled", _REMEDY["pickle"],
        ) from error  # fmt: skip
    except _DAMAGE as error:
        told = _first_line(error)
        what, hint = f"cannot be read by torch: {told}", "download it again"
        if "legacy .tar format" in told:
            what, hint = "is in torch's .tar form of before 0.1.10", _REMEDY["tar"]
        raise WeightsError(f"{path} ({_size(path)}, {_TOLD[kind]}) {what}", hint) from error
    notes = content.get("dfdet") if isinstance(content, dict) else None
    known = {k: v for k, v in notes.items() if isinstance(v, str)} if isinstance(notes, dict) else {}
    return _unwrapped(path, content), known


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:160] if lines else type(error).__name__


def _offender(message: str) -> str | None:
    """The class or module for which torch refused, from its message; None where the bytes are simply wrong."""
    for pattern in (r"Unsupported global: GLOBAL (\S+)", r"GLOBAL (\S+) was not an allowed", r"module (\S+) is blocked",
                    r"[Cc]an only build \S+ .* but got (\S+)", r"(Unsupported class \S+)"):  # fmt: skip
        if found := re.search(pattern, message):
            return found[1].rstrip(".,")
    return None


def _unwrapped(path: Path, content: Any) -> State:
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    tensors = isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())
    if not tensors or not content or not all(isinstance(key, str) for key in content):
        held = ", ".join(map(str, list(content)[:5])) if isinstance(content, dict) else type(content).__name__
        raise WeightsError(f"{path} holds no state dict (it has: {held or 'nothing'})", "save network.state_dict()")
    state = {key: value.detach() for key, value in content.items()}
    if all(key.startswith("module.") for key in state):  # saved out of DataParallel
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state
