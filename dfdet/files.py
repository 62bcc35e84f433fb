"""Files that outlive a process: written whole or not at all; told apart by their content."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; on success it is flushed to disk and takes its name.

    On any error the temporary file is removed and what stood at ``path`` stays untouched. The temporary file lies in
    the same directory, so the last step is a rename, which is atomic on local disks and on NFS.

    Args:
        path: The file to write. Its directory is made where it is absent.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        yield draft
        with draft.open("rb+") as handle:
            os.fsync(handle.fileno())
        draft.replace(target)
        _sync_directory(target.parent)
    except OSError as error:
        # a full disk is reported without a name, and the draft's name says nothing to anybody
        if error.filename in (None, str(draft)):
            error.filename = str(target)
        raise
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()


def _sync_directory(directory: Path) -> None:
    """Makes a rename in ``directory`` durable; a no-op where a directory cannot be opened (Windows)."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except (PermissionError, NotImplementedError):
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    """Writes ``text`` as UTF-8, whole or not at all."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Writes ``value`` as indented JSON, whole or not at all; NaN and infinities, which JSON lacks, become null."""
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def sha256(path: str | Path) -> str:
    """The hexadecimal SHA-256 of a whole file, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
