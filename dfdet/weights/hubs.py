"""``hf:owner/name`` or ``wandb:entity/project/name:alias`` goes in, the path of a file on this machine comes out."""

from __future__ import annotations

import os
from pathlib import Path

from dfdet.errors import UserError
from dfdet.faces.model import cache
from dfdet.weights.reading import SUFFIXES

HF, WANDB = "hf:", "wandb:"
# What to take of several files, first match first: Lightning's own name for a W&B artifact's checkpoint is model.ckpt.
_USUAL = ("model.safetensors", "best.ckpt", "model.ckpt", "last.ckpt")


def from_hf(source: str) -> Path:
    """A .safetensors file of a Hugging Face repository, in the hub client's own cache; ``HF_ENDPOINT`` names a mirror.

    Args:
        source: ``hf:owner/name``, which means its model.safetensors, or ``hf:owner/name/path/file.safetensors``; a
            revision stands behind the name: ``hf:owner/name@v2``.

    Raises:
        UserError: It is spelt otherwise, or cannot be had.
    """
    owner, _, rest = source.removeprefix(HF).partition("/")
    name, _, file = rest.partition("/")
    name, _, revision = name.partition("@")
    file = file or "model.safetensors"
    if not owner or not name:
        raise UserError(f"{source} names no repository", "say hf:owner/name or hf:owner/name/file.safetensors")
    if not file.endswith(".safetensors"):
        raise UserError(
            f"{source} is no .safetensors file, which is all that is taken from a hub",
            "download it, look where it comes from, and give the file: dfdet weights import FILE",
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    failures: tuple[type[Exception], ...] = (HfHubHTTPError, OSError, *_transport())
    repository = f"{owner}/{name}"
    by_hand = f"or download {file} from https://huggingface.co/{repository} by hand and give the file"
    try:
        return Path(
            hf_hub_download(repository, file, revision=revision or None, endpoint=os.environ.get("HF_ENDPOINT"))
        )
    except HFValidationError as error:
        raise UserError(f"{source}: {_first_line(error)}", "say hf:owner/name") from error
    except LocalEntryNotFoundError as error:
        raise UserError(f"{source} cannot be reached, and is not in the hub's cache", by_hand) from error
    except failures as error:
        raise UserError(
            f"{source} cannot be had: {_first_line(error)}", f"look whether name, file and access are right, {by_hand}"
        ) from error


def _transport() -> tuple[type[Exception], ...]:
    """What the hub's client lets through: it stands on requests, whose errors are OSErrors, and from 1.0 on httpx."""
    try:
        import httpx
    except ImportError:
        return ()
    return (httpx.HTTPError,)


def from_wandb(source: str) -> Path:
    """A checkpoint of a W&B artifact, downloaded to ``<cache>/wandb/<name>/<version>``.

    Args:
        source: ``wandb:entity/project/name:alias``; no alias means latest.

    Raises:
        UserError: It is spelt otherwise, cannot be had, or holds no or several files of weights.
    """
    name = source.removeprefix(WANDB)
    if name.count("/") != 2 or not all(name.split("/")):
        raise UserError(f"{source} names no artifact", "say wandb:entity/project/name:alias")
    if ":" not in name:
        name += ":latest"
    import wandb

    try:
        artifact = wandb.Api().artifact(name)
        # by version: what an alias means moves, and files of its former version would lie beside the new ones
        folder = cache() / "wandb" / name.split(":")[0].replace("/", "-") / str(artifact.version)
        got = Path(artifact.download(root=str(folder)))
    except (wandb.Error, ValueError, OSError) as error:
        raise UserError(
            f"{source} cannot be had: {_first_line(error)}",
            "look at the name, log in by `wandb login`, or give a file that you downloaded",
        ) from error
    return one_file(got, source)


def one_file(folder: Path, source: str) -> Path:
    """The one file of weights below a folder.

    Raises:
        UserError: There is none, or there are several and none of a usual name.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES)
    for name in _USUAL:
        usual = [p for p in found if p.name == name]
        if len(usual) == 1:
            return usual[0]
    if len(found) == 1:
        return found[0]
    names = ", ".join(p.relative_to(folder).as_posix() for p in found[:5])
    raise UserError(
        f"{source} holds {'several files' if found else 'no file'} of weights{f' ({names})' if found else ''}",
        f"give one: --init_from {folder}/FILE" if found else f"known are {', '.join(SUFFIXES)}",
    )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
