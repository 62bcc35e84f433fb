"""Converted weights in, the user's cache of them out: one .safetensors a name, with where it came from inside.

``<cache>/weights/<name>.safetensors`` holds a network's parameters as ours are named; its metadata say the source's
file name and SHA-256, the layout, the polarity and the registry's name. ``pins.json`` beside them keeps the hashes of
files whose authors publish none, as they were when first seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dfdet import files
from dfdet.errors import UserError
from dfdet.faces.model import cache
from dfdet.weights.reading import State, WeightsError, notes_of
from dfdet.weights.registry import Published

POLARITY = "1 = fake"


@dataclass(frozen=True)
class Kept:
    """One file of the cache.

    Attributes:
        path: The file.
        name: What the commands call it.
        layout: How its source was spelt.
        source: Its source's file name.
        sha256: Of the source.
    """

    path: Path
    name: str
    layout: str
    source: str
    sha256: str


def folder() -> Path:
    """Where converted weights lie: ``$DFDET_CACHE/weights``, else in the system's own place for caches."""
    return cache() / "weights"


def path_of(name: str) -> Path:
    """Where the weights of a name lie, or would."""
    return folder() / f"{name}.safetensors"


@contextmanager
def alone() -> Iterator[None]:
    """One process at a time fetches and converts: those of one training may start together."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / ".lock").open("w") as handle:
        with suppress(ImportError, OSError):  # Windows; a network disk without locks
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def kept(name: str) -> Kept | None:
    """The weights of this name in the cache; None where they are not."""
    path = path_of(name)
    return _described(path) if path.is_file() else None


def all_kept() -> list[Kept]:
    """Everything in the cache, sorted by name."""
    return [_described(path) for path in sorted(folder().glob("*.safetensors"))]


def _described(path: Path) -> Kept:
    notes = notes_of(path)
    return Kept(path, path.stem, notes.get("layout", ""), notes.get("source", ""), notes.get("sha256", ""))


def keep(name: str, state: State, layout: str, source: str, sha256: str) -> Path:
    """Writes converted weights, whole or not at all.

    Raises:
        UserError: Other weights go by this name already.
    """
    from safetensors.torch import save_file

    before = kept(name)
    if before is not None and before.sha256 != sha256:
        raise UserError(
            f"{before.path} holds other weights of this name, from {before.source or 'elsewhere'}",
            f"remove it, or rename {source} and import that",
        )
    notes = {"source": source, "sha256": sha256, "layout": layout, "polarity": POLARITY, "name": name, "format": "pt"}
    with files.replacing(path_of(name)) as draft:
        save_file({key: value.contiguous().clone() for key, value in state.items()}, draft, metadata=notes)
    return path_of(name)


# Hashes ------------------------------------------------------------------------------------------------------------


def check_hash(path: Path, entry: Published) -> str:
    """The SHA-256 of a file that claims to be a published one, held against its authors' or the one first seen.

    Raises:
        WeightsError: It is another file.
    """
    digest = files.sha256(path)
    wanted, whose = entry.sha256, "published"
    if not wanted:
        wanted, whose = pins().get(entry.name, ""), "first seen"
    if wanted and not digest.startswith(wanted):
        raise WeightsError(
            f"{path} is not the file of {entry.name}: its SHA-256 is {digest[:16]}..., {whose} {wanted[:16]}...",
            f"get {entry.file} from {entry.url or entry.page}"
            + ("" if entry.sha256 else f"; if its authors have changed it, drop its line from {_pin_file()}"),
        )
    return digest


def pin(entry: Published, digest: str) -> None:
    """Keeps the hash of a file whose authors publish none, once it has been converted."""
    known = pins()
    if not entry.sha256 and known.get(entry.name) != digest:
        files.write_json(_pin_file(), {**known, entry.name: digest})


def _pin_file() -> Path:
    return folder() / "pins.json"


def pins() -> dict[str, str]:
    """The hashes that were pinned, by name."""
    try:
        return dict(json.loads(_pin_file().read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{_pin_file()} is damaged", "remove it: hashes will be pinned anew") from error
