"""Two folders, one of real and one of fake videos or images -> manifest rows.

Layout; the case of the folders' names does not matter, and below them anything goes::

    <root>/real/**   <root>/fake/**                                       no split
    <root>/{train,val,test}/real/**   <root>/{train,val,test}/fake/**     split by the upper folder

Also understood: ``0_real``, ``original``, ``originals``; ``1_fake``, ``manipulated``, ``deepfake``, ``deepfakes``.
Nothing says which fake was made from which real: every file is a group of its own, unless ``group_regex`` takes the
group from the names. An image is an item by itself, also where a folder holds nothing but images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from dfdet.corpora.lists import SPLIT_WORDS
from dfdet.corpora.rows import Reading, Row, finish, walk, without_extension
from dfdet.errors import UserError

REAL = ("real", "0_real", "original", "originals")
FAKE = ("fake", "1_fake", "manipulated", "deepfake", "deepfakes")
TREE = "expected real/ and fake/, or train/, val/ and test/ with real/ and fake/ in each"


def read(
    root: Path,
    *,
    name: str | None = None,
    real: list[str] | None = None,
    fake: list[str] | None = None,
    group_regex: str | None = None,
) -> Reading:
    r"""Lists a folder of real and fake files.

    Args:
        root: The folder that holds ``real`` and ``fake``, or ``train``, ``val`` and ``test`` with these in each.
        name: The name to record as corpus, so that two folders can be told apart; by default folder.
        real: Further names of folders with real files.
        fake: Further names of folders with fake files.
        group_regex: Files in whose path below the class folder, without extension, this regular expression finds
            the same text (its first parenthesis, or all of it) are one group: ``vs?(\d+)`` joins ``real/v1.mp4``
            and ``fake/vs1.mp4``.

    Raises:
        UserError: If there is no such folder, no file in it, or an option contradicts itself.
    """
    labels = _labels(real or [], fake or [])
    pattern = _pattern(group_regex)
    paths, skipped = walk(root)
    rows: list[Row] = []
    unmatched = split_below = 0
    for path in paths:
        row, below = _row(path, labels)
        if row is None:
            skipped["not below a folder of real or fake files"] += 1
            continue
        split_below += below.split("/")[0].lower() in _SPLITS and "/" in below
        match = pattern.search(without_extension(below)) if pattern else None
        if match:
            row["group"] = (match[1] if match.re.groups else None) or match[0]
        unmatched += pattern is not None and match is None
        rows.append(row)
    if not rows:
        raise _nothing(root, labels)
    notes = _notes(root, rows, pattern, unmatched)
    if split_below:
        notes.append(f"{split_below} file(s) lie in a split below real or fake: only a folder above them is a split.")
    return finish(rows, name or "folder", root, notes=notes, skipped=skipped)


_SPLITS: Mapping[str, str] = {word: split for word, split in SPLIT_WORDS.items() if split is not None}


def _labels(real: list[str], fake: list[str]) -> dict[str, int]:
    """Folder name in lower case -> label."""
    reals, fakes = ({name.strip("/").lower() for name in names} for names in ((*REAL, *real), (*FAKE, *fake)))
    both = sorted(reals & fakes)
    if both:
        raise UserError(f"the folder name {both[0]!r} stands for real and for fake", "name it once")
    return {**dict.fromkeys(reals, 0), **dict.fromkeys(fakes, 1)}


def _pattern(group_regex: str | None) -> re.Pattern[str] | None:
    if group_regex is None:
        return None
    try:
        return re.compile(group_regex)
    except re.error as error:
        raise UserError(f"group_regex {group_regex!r} is no regular expression: {error}") from error


def _row(path: str, labels: dict[str, int]) -> tuple[Row | None, str]:
    """The row of a file, and its path below the class folder."""
    parts = path.split("/")
    split = _SPLITS.get(parts[0].lower()) if len(parts) > 2 and parts[0].lower() not in labels else None
    place = 1 if split else 0
    if len(parts) < place + 2 or parts[place].lower() not in labels:
        return None, path
    row: Row = {"path": path, "label": labels[parts[place].lower()], "split": split}
    return row, "/".join(parts[place + 1 :])


def _nothing(root: Path, labels: dict[str, int]) -> UserError:
    classes = [p for p in (*root.glob("*/"), *root.glob("*/*/")) if p.is_dir() and p.name.lower() in labels]
    if classes:
        names = ", ".join(sorted(p.relative_to(root).as_posix() for p in classes))
        return UserError(f"no video or image lies in {root} below {names}", "put the files there")
    return UserError(f"{root} has no folders of real and fake files", f"{TREE}; other names go to real and fake")


def _notes(root: Path, rows: list[Row], pattern: re.Pattern[str] | None, unmatched: int) -> list[str]:
    notes = []
    if pattern is None:
        notes.append("Every file is a group of its own: whether splits share a person or a scene cannot be checked.")
    if unmatched:
        notes.append(f"{unmatched} file(s) do not match group_regex: each is a group of its own.")
    if len({row["label"] for row in rows}) == 1:
        notes.append(f"There are only {'fake' if rows[0]['label'] else 'real'} files.")
    if len({row["split"] is None for row in rows}) == 2:
        notes.append(f"{sum(row['split'] is None for row in rows)} file(s) lie outside the folders of the splits.")
    if (root / "labels.csv").is_file():
        notes.append("labels.csv in this folder was not read; the corpus csv reads it.")
    return notes
