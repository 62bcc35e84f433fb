"""A list that comes with a corpus, CSV or JSON -> plain values, or one line that says what is wrong with the file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dfdet.errors import UserError

#: How lists name the splits, in lower case. What is set aside ("extra") belongs to none.
SPLIT_WORDS: dict[str, str | None] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("", "extra", "none", "null"), None),
}


def split_word(value: str | None, where: str) -> str | None:
    """``train``, ``val``, ``test`` or None for the word of a list.

    Args:
        value: The word: ``dev`` and ``validation`` are val, ``extra`` and the empty string are none.
        where: File and row, for the error.
    """
    word = (value or "").strip().lower()
    if word not in SPLIT_WORDS:
        raise UserError(f"{where}: split {value!r} is not known", "write train, val, test, or nothing")
    return SPLIT_WORDS[word]


def read_csv(file: Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """The rows of a CSV with a header, as text.

    Args:
        file: UTF-8, with or without a byte order mark.
        columns: Columns that it must have.

    Raises:
        UserError: If it is no such file, lacks a column, or a row has not as many fields as the header.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            rows: list[dict[Any, Any]] = list(reader)
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserError(f"{file} cannot be read as CSV: {error}", "save it as UTF-8 text") from error
    header = list(reader.fieldnames or ())
    for column in columns:
        if column not in header:
            raise UserError(f"{file} lacks the column {column!r}", f"it has {', '.join(header) or 'none'}")
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise UserError(f"{file}, row {number} has not as many fields as the header", "quote fields with a comma")
    return rows


def read_json(file: Path, kind: type[list[Any]] | type[dict[str, Any]], remedy: str) -> Any:
    """The content of a JSON file.

    Args:
        file: UTF-8.
        kind: list or dict, what it must hold.
        remedy: What to do where it does not.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{file} cannot be read as JSON: {error}", remedy) from error
    if not isinstance(content, kind):
        raise UserError(f"{file} holds no {'list' if kind is list else 'object'}", remedy)
    return content
