"""What all records of a store share goes in; ``store.json`` comes out, made once and compared ever after."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dfdet import files
from dfdet.errors import UserError

SCHEMA = "dfdet.store"
VERSION = 1
NAME = "store.json"
ALIGN = 64  # bytes at which a record starts: a cache line, and what vector instructions like
_ABSENT = "nothing"


@dataclass(frozen=True)
class StoreSpec:
    """What all records of a store share.

    Attributes:
        frames: T, frames that a record has room for; a clip may hold fewer.
        size: S, side of the crops, pixels.
        crop: The crop rule, plain values.
        versions: Whatever may change a bit of a decoded and resized picture: libraries and the kind of processor.
    """

    frames: int
    size: int
    crop: dict[str, Any]
    versions: dict[str, str]

    @classmethod
    def here(cls, frames: int, size: int, crop: Mapping[str, Any]) -> StoreSpec:
        """The same with the versions of this installation."""
        import av
        import cv2

        libraries = {f"lib{name}": _dotted(av.library_versions[f"lib{name}"]) for name in ("avcodec", "swscale")}
        try:
            decord = version("decord")
        except PackageNotFoundError:
            decord = "none"
        found = {"av": av.__version__, **libraries, "decord": decord, "opencv": cv2.__version__}
        return cls(frames, size, dict(crop), {**found, "machine": platform.machine()})

    @property
    def frame_bytes(self) -> int:
        """Bytes of one crop, uint8 (S, S, 3)."""
        return self.size * self.size * 3

    @property
    def record_bytes(self) -> int:
        """Bytes that a record takes in its shard, padding included."""
        return -(-self.frames * self.frame_bytes // ALIGN) * ALIGN

    @property
    def digest(self) -> str:
        """Eight bytes, hexadecimal, that differ between specs; every shard carries them."""
        return hashlib.blake2b(json.dumps(asdict(self), sort_keys=True).encode(), digest_size=8).hexdigest()


def _dotted(parts: tuple[int, ...]) -> str:
    return ".".join(map(str, parts))


def settle(folder: Path, spec: StoreSpec) -> StoreSpec:
    """Makes ``store.json`` in ``folder``, or checks the one that is there; returns what it says.

    Raises:
        UserError: The folder holds a store with other settings, or other things and no store.
    """
    path = folder / NAME
    if not path.exists():
        _refuse_foreign(folder)
        _create(path, spec)
    there = read_spec(folder)
    own = StoreSpec(**json.loads(json.dumps(asdict(spec))))  # tuples become lists there too
    if there != own:
        told = ", ".join(f"{name} {was} (this run: {now})" for name, was, now in _differences(there, own))
        raise UserError(f"{folder} holds crops made with {told}", "give another --data.crop_store")
    return there


def read_spec(folder: Path) -> StoreSpec:
    """What the store in ``folder`` holds.

    Raises:
        UserError: There is no store, it cannot be read, or it has another version.
    """
    path = folder / NAME
    if not path.is_file():
        raise UserError(
            f"{folder} holds no crop store (no {NAME})",
            "dfdet fit --data.crop_store DIR or dfdet store build makes one",
        )
    remedy = "give another --data.crop_store"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        schema, number = document.pop("schema", None), document.pop("version", None)
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error})", remedy) from error
    if (schema, number) != (SCHEMA, VERSION):
        raise UserError(
            f"{path} is {schema!r} of version {number}; this dfdet reads {SCHEMA!r} of version {VERSION}", remedy
        )
    try:
        return StoreSpec(**document)
    except TypeError as error:
        raise UserError(f"{path} is damaged ({error})", remedy) from error


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is no folder", "give another --data.crop_store")
    # hidden files: a snapshot folder of the disk, or the draft of another process that makes the same store now
    others = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []
    if others and others != [NAME]:  # it may have come since
        raise UserError(
            f"{folder} is no crop store and not empty (it holds {others[0]})", "give another --data.crop_store"
        )


def _create(path: Path, spec: StoreSpec) -> None:
    """Of several processes that create at once exactly one does; what differs is found by reading it back."""
    draft = path.with_name(f".{NAME}.{os.urandom(8).hex()}")
    files.write_json(draft, {"schema": SCHEMA, "version": VERSION, **asdict(spec)})
    try:
        os.link(draft, path)
    except FileExistsError:
        return
    except OSError:  # a disk without hard links
        draft.replace(path)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()


def _differences(there: StoreSpec, own: StoreSpec) -> Iterator[tuple[str, Any, Any]]:
    """(setting, what the store says, what this run says) for each that differs."""
    before, now = flat(asdict(there)), flat(asdict(own))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name, _ABSENT) != now.get(name, _ABSENT):
            yield name, before.get(name, _ABSENT), now.get(name, _ABSENT)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
