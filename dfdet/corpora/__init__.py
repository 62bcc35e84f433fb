"""The name of a corpus and its folder -> manifest rows: one released layout, one small file.

A new corpus is a new module with ``read(root, *, options) -> Reading`` and a line in :data:`CORPORA`. What lies
outside the package needs no line: an import path (``my_lab.my_corpus`` or ``my_lab.my_corpus.read``) is a name too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from dfdet.corpora.rows import Reading, finish
from dfdet.errors import UserError, nearest
from dfdet.imports import import_object

__all__ = ["CORPORA", "Reading", "read", "resolve"]

#: Name -> ``module:function``; imported only when it is asked for.
CORPORA: dict[str, str] = {
    "csv": "dfdet.corpora.listing:read",
    "dfdc": "dfdet.corpora.dfdc:read",
    "faceforensics": "dfdet.corpora.faceforensics:read",
    "folder": "dfdet.corpora.folder:read",
}


def resolve(name: str) -> Callable[..., Any]:
    """The function that reads a corpus. Its keyword-only arguments are the corpus' options.

    Args:
        name: One of :data:`CORPORA`, or the import path of a function or of a module with a function ``read``.

    Raises:
        UserError: If there is no such corpus, or the import path leads to nothing that can be called.
    """
    path = CORPORA.get(name, name)
    if "." not in path and ":" not in path:
        raise UserError(
            f"no corpus {name!r}", f"{nearest(name, CORPORA)} (or the import path of your own: my_lab.my_corpus)"
        )
    found = import_object(path.replace(":", "."), "corpus")
    if isinstance(found, ModuleType):
        found = getattr(found, "read", None)
    if not callable(found):
        raise UserError(f"corpus {name!r} has no function 'read'", "define read(root, **options), or name the function")
    return found  # type: ignore[no-any-return]


def read(name: str, root: str | Path, /, **options: Any) -> Reading:
    """Lists a corpus: no file is decoded, two calls give equal tables.

    Args:
        name: As for :func:`resolve`.
        root: Where the corpus lies.
        **options: The corpus' own options.

    Returns:
        The rows with what was passed over; ``Reading.root`` is what the paths are relative to.

    Raises:
        UserError: If the corpus, an option or the folder is not there, or nothing in it is as released.
    """
    reader = resolve(name)
    _check_options(name, reader, options)
    root = Path(root)
    if not root.exists():
        raise UserError(f"{root} does not exist", f"give the folder that holds {name}")
    result = reader(root, **options)
    return result if name in CORPORA else _adopted(name, root, result)


def _check_options(name: str, reader: Callable[..., Any], options: dict[str, Any]) -> None:
    parameters = list(inspect.signature(reader).parameters.values())[1:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters]
    for option in options:
        if option not in known:
            raise UserError(f"corpus {name!r} has no option {option!r}", nearest(option, known) if known else "")


def _adopted(name: str, root: Path, result: object) -> Reading:
    """What a user's own reader gives, a Reading or a table, brought to our columns and checked."""
    corpus = name.replace(":", ".").removesuffix(".read").rpartition(".")[2]
    if isinstance(result, pd.DataFrame):
        result = Reading(result)
    if not isinstance(result, Reading):
        raise UserError(
            f"corpus {name!r} returned {type(result).__name__}", "return a dfdet.corpora.Reading or a DataFrame"
        )
    return finish(
        [{str(k): v for k, v in row.items()} for row in result.table.to_dict("records")],
        corpus,
        result.root or root,
        notes=result.notes,
        skipped=result.skipped,
        missing=result.missing,
    )
