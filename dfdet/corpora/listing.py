"""A list of one's own, CSV, JSON lines or Parquet (corpus ``csv``) -> manifest rows.

Required columns: ``path`` (relative to the list's folder) and ``label`` (0, 1, real, fake; true = fake; empty =
unlabelled). Every column of :data:`dfdet.manifest.CORPUS_COLUMNS` may stand there too: ``split`` (train, val, test,
``dev`` = val, ``extra`` or empty = none), ``method``, ``group``, ``identity``, ``original`` (a video_id, or the bare
name of a real video of the list) ... Other columns are kept as ``x_<name>``. An empty field is null.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dfdet.corpora.lists import read_csv, split_word
from dfdet.corpora.rows import Reading, Row, finish, without_extension
from dfdet.errors import UserError, nearest
from dfdet.manifest import CORPUS_COLUMNS

NAMES = ("labels.csv", "labels.jsonl", "labels.parquet")
LABELS = {"0": 0, "real": 0, "false": 0, "0.0": 0, "1": 1, "fake": 1, "true": 1, "1.0": 1}


def read(
    root: Path, *, name: str | None = None, relative_to: Path | None = None, columns: list[str] | None = None
) -> Reading:
    """Lists what a table names.

    Args:
        root: The list (.csv, .jsonl or .parquet), or the folder that holds it as labels.csv, .jsonl or .parquet.
        name: The name to record for all rows; by default the list's column corpus, else csv.
        relative_to: The folder that the paths are relative to; by default the one that the list lies in.
        columns: Columns that have another name in the list, as ours=theirs: path=file.

    Raises:
        UserError: If the list cannot be read, lacks a column, or holds a value that is not known (with row and value).
    """
    file = _file(root)
    base = Path(relative_to) if relative_to is not None else file.parent
    records = _renamed(_records(file), columns or [], file)
    if not records:
        raise UserError(f"{file} holds no rows", "write one row a video, with path and label")
    for column in ("path", "label"):
        if not any(column in record for record in records):
            raise UserError(
                f"{file} lacks the column {column!r} (it has {', '.join(records[0])})",
                f"name it so, or say columns {column}=<its name>",
            )
    rows = [_row(r, f"{file}, row {number} ({r.get('path')})", base) for number, r in enumerate(records, 1)]
    _read_numbers(rows)
    _resolve_originals(rows)
    missing = 0
    for row in rows:
        if name is not None:
            row["corpus"] = name
        if not (base / row["path"]).exists():
            row.update(status="missing", reason="named in the list, not there")
            missing += 1
    return finish(rows, "csv", base, notes=_notes(rows, missing, base), missing=missing)


def _file(root: Path) -> Path:
    if root.is_file():
        return root
    found = [root / name for name in NAMES if (root / name).is_file()]
    if not found:
        raise UserError(f"{root} holds no list", f"give the list itself, or call it {' or '.join(NAMES)}")
    return found[0]


def _records(file: Path) -> list[dict[str, Any]]:
    readers: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
        ".csv": read_csv,
        ".jsonl": _from_json_lines,
        ".parquet": _from_parquet,
    }
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise UserError(f"{file} is no kind of list that is known", f"known: {', '.join(readers)}")
    try:
        return reader(file)
    except (UnicodeDecodeError, json.JSONDecodeError, pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file} cannot be read: {error}", "save it as UTF-8 text, or as Parquet") from error


def _from_json_lines(file: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise UserError(f"{file}, row {number} is no object", 'write {"path": ..., "label": ...} on each line')
    return rows


def _from_parquet(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    return rows


def _renamed(records: list[dict[str, Any]], columns: list[str], file: Path) -> list[dict[str, Any]]:
    names = {}
    for pair in columns:
        ours, _, theirs = pair.partition("=")
        if ours not in CORPUS_COLUMNS:
            raise UserError(f"columns: {pair!r} does not begin with a column of ours", nearest(ours, CORPUS_COLUMNS))
        if not any(theirs in record for record in records):
            raise UserError(f"{file} has no column {theirs!r}", nearest(theirs, records[0] if records else ()))
        names[theirs] = ours
    # a column that another one takes the name of is kept under x_
    taken = set(names.values()) - set(names)
    return [{names.get(k, f"x_{k}" if k in taken else k): v for k, v in record.items()} for record in records]


def _row(record: dict[str, Any], where: str, base: Path) -> Row:
    values = {name: None if _is_empty(value) else value for name, value in record.items()}
    row: Row = {"label": None}
    for name, value in values.items():
        if name in CORPUS_COLUMNS:
            row[name] = _value(name, value, where)
        else:
            row[name if name.startswith("x_") else f"x_{name}"] = value
    if row.get("path") is None:
        raise UserError(f"{where} has no path", "name the file")
    row["path"] = _relative(row["path"], base)
    return row


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and value != value)


def _value(column: str, value: Any, where: str) -> Any:
    if column == "split":
        return split_word(None if value is None else str(value), where)
    if value is None:
        return None
    if column in ("label", "audio_label"):
        word = str(value).strip().lower()
        if word not in LABELS:
            raise UserError(f"{where}: {column} {value!r} is not known", "write 0 or real, 1 or fake, or nothing")
        return LABELS[word]
    if column == "part":
        try:
            return int(value)
        except ValueError as error:
            raise UserError(f"{where}: part {value!r} is no whole number", "write 0, 1, 2 ...") from error
    return str(value)


def _relative(path: str, base: Path) -> str:
    """POSIX, below the base where it lies there; what lies elsewhere keeps its absolute path."""
    posix = Path(path.replace("\\", "/"))
    absolute = base.resolve()
    if posix.is_absolute() and posix.is_relative_to(absolute):
        posix = posix.relative_to(absolute)
    return Path(os.path.normpath(posix)).as_posix()


def _read_numbers(rows: list[Row]) -> None:
    """Turns the text of CSV in columns that are not ours into numbers, where all of it is; 007 stays a name."""
    columns = {name for row in rows for name in row if name not in CORPUS_COLUMNS}
    for column in columns:
        texts = [row[column] for row in rows if row.get(column) is not None]
        for kind in (int, float):
            numbers = [_number(text, kind) for text in texts]
            if texts and None not in numbers:
                for row in rows:
                    row[column] = _number(row.get(column), kind)
                break


def _number(text: Any, kind: type[int] | type[float]) -> int | float | None:
    digits = text.lstrip("-") if isinstance(text, str) else ""
    if not digits or not digits[0].isdigit() or (digits[0] == "0" and digits[1:2].isdigit()) or "_" in digits:
        return None
    try:
        return kind(text)
    except ValueError:
        return None


def _resolve_originals(rows: list[Row]) -> None:
    """An original given by its file or its bare name -> the video_id of the one row that it can mean."""
    identifiers = {row.get("video_id") or without_extension(row["path"]) for row in rows}
    by_path = {row["path"]: row.get("video_id") or without_extension(row["path"]) for row in rows}
    by_name: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["label"] != 1:
            by_name[Path(row["path"]).stem].add(by_path[row["path"]])
    for row in rows:
        original = row.get("original")
        if original is None or original in identifiers:
            continue
        named = by_name.get(original) or by_name.get(Path(original).name) or by_name.get(Path(original).stem) or set()
        row["original"] = by_path.get(original) or (next(iter(named)) if len(named) == 1 else original)


def _notes(rows: list[Row], missing: int, base: Path) -> list[str]:
    notes = []
    if missing:
        notes.append(f"{missing} of {len(rows)} file(s) of the list are not there (looked for in {base}).")
    unlabelled = sum(row["label"] is None for row in rows)
    if unlabelled:
        notes.append(f"{unlabelled} row(s) have no label: they can be scored, and count in no number.")
    outside = sum(row["path"].startswith(("/", "../")) for row in rows)
    if outside:
        notes.append(f"{outside} file(s) lie outside {base}: moving the folder will lose them.")
    return notes
