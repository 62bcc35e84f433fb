"""Checkpoints that are whole or not there: written beside their name, flushed, renamed; read without unpickling.

Lightning's own way copies from the system's temporary directory onto the final name, where that is another file
system: a kill or a full disk in that moment destroys the previous checkpoint (lightning/fabric/utilities/cloud_io.py).
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from dfdet import files
from dfdet.errors import UserError


class AtomicCheckpointIO(CheckpointIO):
    """Saves by rename, loads tensors and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint; on any error the file that stood there stays.

        Raises:
            UserError: If it holds what could not be loaded again; better now than when it is needed.
        """
        with files.replacing(path) as draft:
            torch.save(checkpoint, draft)
            try:
                torch.load(draft, map_location="cpu", weights_only=True, mmap=True)  # reads no tensor's content
            except pickle.UnpicklingError as error:
                raise UserError(
                    f"{path} would hold more than tensors and plain values: {_short(error)}",
                    "keep hyper-parameters and callback states to numbers, strings, lists and dicts",
                ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint."""
        return read_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Removes a checkpoint, if it is there."""
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint on the CPU.

    Raises:
        UserError: If the file is damaged, or holds anything but tensors and plain values.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except pickle.UnpicklingError as error:
        reason = _short(error)
        raise UserError(f"{path} cannot be loaded safely or is damaged: {reason}", "only tensors are loaded") from error
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged: {_short(error)}", "take another checkpoint") from error
    if not isinstance(found, dict) or "state_dict" not in found:
        raise UserError(f"{path} is no checkpoint of dfdet (it holds no state_dict)")
    return found


def _short(error: Exception) -> str:
    """What torch says, without its advice to load the file unsafely."""
    text = str(error)
    told = [line.strip() for line in text.splitlines() if "Unsupported" in line or "GLOBAL" in line]
    return (told or text.splitlines() or [type(error).__name__])[0][:200]


def load_into(model: torch.nn.Module, path: str | Path) -> dict[str, Any]:
    """Loads a checkpoint's weights into a detector; returns the checkpoint.

    Raises:
        UserError: If it is of another architecture.
    """
    checkpoint = read_checkpoint(path)
    own, theirs = model.state_dict(), checkpoint["state_dict"]
    lacking = [k for k in own if k not in theirs]
    extra = [k for k in theirs if k not in own]
    fixed = [k for k in own if k in theirs and k.rpartition(".")[2] != "_extra_state"]
    shapes = [k for k in fixed if own[k].shape != theirs[k].shape]
    if lacking or extra or shapes:
        made_by = (checkpoint.get("dfdet") or {}).get("model", "another detector")
        if shapes:
            k = shapes[0]
            what = f"{k} has shape {tuple(theirs[k].shape)} there, {tuple(own[k].shape)} here"
        else:
            what = f"{(lacking or extra)[0]} is {'absent' if lacking else 'unknown here'}"
        raise UserError(f"{path} is a checkpoint of {made_by}, not of {type(model).__name__}: {what}")
    model.load_state_dict(theirs)
    return checkpoint
