"""A published name or a downloaded file goes in; a .safetensors file in the user's cache, spelt as ours, comes out."""

from __future__ import annotations

from pathlib import Path

from dfdet import files
from dfdet.errors import UserError
from dfdet.weights import cache
from dfdet.weights.converting import convert, recognise
from dfdet.weights.fetching import fetch
from dfdet.weights.mesonet import read_keras
from dfdet.weights.reading import State, WeightsError, known_kind, read
from dfdet.weights.registry import PUBLISHED, Published, named

FULL = 64  # digits of a SHA-256


def get(name: str) -> Path:
    """The weights of a published name in the cache, fetched and converted first where they are not there.

    Raises:
        UserError: There is no such name, it cannot be fetched by URL, or the download is not the published file.
    """
    entry = named(name)
    found = cache.kept(name)
    if found is not None:
        return found.path
    by_hand = (
        f"fetch {entry.file} from {entry.url or entry.page} by hand, then: dfdet weights import FILE --name {name}"
    )
    if not entry.url:
        raise UserError(
            f"{name} lies in a Google Drive folder, which cannot be fetched by URL",
            f"open {entry.page} in a browser, download {entry.file}, then: dfdet weights import FILE --name {name}",
        )
    with cache.alone():
        found = cache.kept(name)  # another process may have brought it meanwhile
        return found.path if found is not None else _fetched(entry, by_hand)


def _fetched(entry: Published, by_hand: str) -> Path:
    whole = cache.folder() / "downloads" / entry.file
    if not whole.is_file():
        fetch(entry.url, whole, by_hand, hashed=len(entry.sha256) == FULL)
    try:
        path = _taken(whole, entry, None)
    except WeightsError as error:
        whole.unlink(missing_ok=True)
        raise WeightsError(f"{error.what} (downloaded from {entry.url}, and removed)", by_hand) from error
    whole.unlink()
    return path


def take_in(path: Path, name: str | None = None, layout: str | None = None) -> Path:
    """Converts a file in hand into the cache.

    Args:
        path: As its authors publish it: torch's or Keras' file, or .safetensors.
        name: Which published weights it is; then its hash must be theirs. None: known by its hash, else it goes by the
            file's name.
        layout: How it is spelt, where its keys do not tell.

    Raises:
        UserError: The name or layout is unknown, or the file is not what it should be.
    """
    if name is not None and layout is not None:
        raise UserError("both --name and --layout are given", "the name tells the layout: leave --layout out")
    entry = named(name) if name is not None else None
    with cache.alone():
        return _taken(path, entry, layout)


def _taken(path: Path, entry: Published | None, layout: str | None) -> Path:
    known_kind(path)
    digest = files.sha256(path)
    entry = entry or _by_hash(digest)
    if entry is not None:
        digest = cache.check_hash(path, entry)
    elif path.stem in PUBLISHED:
        raise UserError(
            f"{path} is called like published weights, but its hash is not known to be theirs",
            f"say --name {path.stem} if it is that file, else rename it",
        )
    found, state = _converted(path, layout or (entry.layout if entry is not None else None))
    kept = cache.keep(entry.name if entry is not None else path.stem, state, found, path.name, digest)
    if entry is not None:
        cache.pin(entry, digest)
    return kept


def _by_hash(digest: str) -> Published | None:
    pinned = cache.pins()
    for entry in PUBLISHED.values():
        wanted = entry.sha256 or pinned.get(entry.name, "")
        if wanted and digest.startswith(wanted):
            return entry
    return None


def _converted(path: Path, layout: str | None) -> tuple[str, State]:
    """The layout's name and the tensors as ours are spelt."""
    content = read(path)
    if content.kind == "HDF5":
        found, state = read_keras(path)
    else:
        if "polarity" in content.notes or "class_path" in content.notes:
            raise WeightsError(f"{path} is dfdet's own", "give it as it is: --init_from FILE, --weights FILE")
        chosen = recognise(path, content.state, layout)
        found, state = chosen.name, convert(path, content.state, chosen)
    if layout is not None and found != layout:
        raise WeightsError(f"{path} is {found}, not {layout}", "leave --name and --layout out: its keys tell")
    return found, state
