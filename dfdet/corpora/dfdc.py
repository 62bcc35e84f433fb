"""The Deepfake Detection Challenge, full set, as released -> manifest rows.

Layout, below the root; any part of it will do::

    dfdc_train_part_{0..49}/{<10 letters>.mp4, metadata.json}    100,000 fake + 19,154 real, about 10 s each
    train_sample_videos/{<10 letters>.mp4, metadata.json}        Kaggle's 400 of them, most without their original
    test/{<name>.mp4, labels.csv}                                2,500 fake + 2,500 real; ``filename,label``, 1 = fake

``metadata.json``: ``{"x.mp4": {"label": "FAKE", "split": "train", "original": "y.mp4"}, ...}``. FAKE may mean the face,
the voice or both, and nothing says which: label 1 is presumed to be seen. Identities are not released; a fake and its
original are one group. As released the parts are train and the labelled test set is test, without validation; the rule
``parts`` is the one of Bonettini et al. (ICPR 2020). Terms: kaggle.com/c/deepfake-detection-challenge,
ai.meta.com/datasets/dfdc (login).
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from dfdet.corpora.lists import read_csv, read_json
from dfdet.corpora.rows import Reading, Row, finish, walk, without_extension
from dfdet.errors import UserError, nearest

RULES = ("released", "parts")
SAMPLE, TEST = "train_sample_videos", "test"
LICENCE = "DFDC terms (login): ai.meta.com/datasets/dfdc"
LABELS = {"REAL": 0, "FAKE": 1, "0": 0, "1": 1}

_PART = re.compile(r"dfdc_train_part_(\d{1,2})")


def read(root: Path, *, split_rule: str = "released", expect_all: bool = False) -> Reading:
    """Lists the DFDC.

    Args:
        root: The folder that holds ``dfdc_train_part_0`` and so on, ``train_sample_videos`` or ``test``.
        split_rule: released (parts and samples are train, the labelled test set is test) or parts
            (parts 0-34 train, 35-39 val, 40-49 test, the rest without a split).
        expect_all: Also list the videos that a metadata.json or labels.csv names and that are not there, as missing.

    Raises:
        UserError: If the rule is unknown, a list cannot be read, or no labelled video lies where it should.
    """
    if split_rule not in RULES:
        raise UserError(f"split rule {split_rule!r} is not known", nearest(split_rule, RULES))
    paths, skipped = walk(root)
    there = set(paths)
    rows: list[Row] = []
    absent: list[Row] = []
    notes: list[str] = []
    for folder in sorted(
        p for p in root.iterdir() if p.is_dir() and (_PART.fullmatch(p.name) or p.name in (SAMPLE, TEST))
    ):
        entries = _entries(folder)
        if entries is None:
            notes.append(f"{folder.name} has no {_list_of(folder).name}: its videos have no label and are passed over.")
            continue
        for name, entry in entries.items():
            row = _row(folder.name, name, entry, split_rule)
            (rows if row["path"] in there else absent).append(row)
    if not rows and not (expect_all and absent):
        raise _nothing(root, len(absent))
    skipped += _unlabelled(there - {row["path"] for row in rows})
    if absent and not expect_all:
        notes.append(f"{len(absent)} video(s) of the lists are not there; expect_all lists them as missing.")
    for row in absent if expect_all else ():
        rows.append({**row, "status": "missing", "reason": "named in the corpus' list, not there"})
    notes += _notes(rows, split_rule)
    return finish(rows, "dfdc", root, notes=notes, skipped=skipped, missing=len(absent), content_of=_content_of)


def _content_of(video_id: str) -> str:
    """The bare name: the sample videos lie in a training part too, and are the same there."""
    return video_id.rpartition("/")[2]


def _list_of(folder: Path) -> Path:
    return folder / ("labels.csv" if folder.name == TEST else "metadata.json")


def _entries(folder: Path) -> dict[str, dict[str, Any]] | None:
    """File name -> its entry ``{label, original}``; None where the folder has no list."""
    file = _list_of(folder)
    if not file.is_file():
        return None
    entries = _from_csv(file) if file.suffix == ".csv" else read_json(file, dict, "unpack it again from the release")
    for name, entry in entries.items():
        if not isinstance(entry, dict) or str(entry.get("label")) not in LABELS or "/" in name:
            raise UserError(f"{file}: {name!r} has the entry {entry!r}", "its label should be FAKE or REAL")
    return entries


def _from_csv(file: Path) -> dict[str, dict[str, Any]]:
    return {row["filename"]: {"label": row["label"]} for row in read_csv(file, ("filename", "label"))}


def _row(folder: str, name: str, entry: dict[str, Any], split_rule: str) -> Row:
    match = _PART.fullmatch(folder)
    part = int(match[1]) if match else None
    label = LABELS[str(entry["label"])]
    original = entry.get("original")
    path = f"{folder}/{name}"
    return {
        "path": path,
        "content_id": _content_of(without_extension(path)),
        "label": label,
        "method": "dfdc" if label else "real",
        "split": _split(folder, part, split_rule),
        "original": without_extension(f"{folder}/{original}") if original and label else None,
        "part": part,
        "licence": LICENCE,
    }


def _split(folder: str, part: int | None, split_rule: str) -> str | None:
    if split_rule == "released":
        return "test" if folder == TEST else "train"
    if part is None:
        return None
    return "train" if part < 35 else "val" if part < 40 else "test"


def _nothing(root: Path, absent: int) -> UserError:
    if _PART.fullmatch(root.name) or (root / "metadata.json").is_file():
        return UserError(f"{root} is one part of the DFDC", f"give the folder above it: {root.resolve().parent}")
    if absent:
        return UserError(
            f"none of the {absent} videos that {root} lists is there", "unpack the videos beside the lists"
        )
    return UserError(
        f"{root} holds no labelled video of the DFDC",
        "expected dfdc_train_part_0/metadata.json, train_sample_videos/metadata.json or test/labels.csv with videos",
    )


def _unlabelled(paths: set[str]) -> Counter[str]:
    known = [path for path in paths if _PART.fullmatch(path.split("/")[0]) or path.split("/")[0] in (SAMPLE, TEST)]
    return Counter(
        {"in no list, so without a label": len(known), "outside the released folders": len(paths) - len(known)}
    )


def _notes(rows: list[Row], split_rule: str) -> list[str]:
    notes = []
    twice = sum(count - 1 for count in Counter(row["content_id"] for row in rows).values())
    if twice:
        notes.append(f"{twice} video(s) lie in a training part and in {SAMPLE}; they share a group.")
    if split_rule == "parts" and any(row["part"] is None for row in rows):
        notes.append(f"{SAMPLE} and {TEST} are in no part: they have no split under this rule.")
    return notes
