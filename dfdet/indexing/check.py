"""A manifest -> tables for the eye: what is in it, and what looks wrong with it. Nothing is decoded or changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from dfdet.console import Table
from dfdet.manifest import SPLITS, STATUSES, USABLE, Manifest

#: Between real and fake videos of one corpus: above this, the search for faces itself tells the classes apart.
COVERAGE_GAP = 0.02

NO_SPLIT = "none"
_LABELS = {0: "real", 1: "fake"}


@dataclass(frozen=True)
class Finding:
    """One thing that looks wrong: a sentence, how many videos it touches, one of them."""

    sentence: str
    videos: int
    example: str


def check(manifest: Manifest) -> list[Table]:
    """Counts a manifest and says what looks wrong.

    Args:
        manifest: As :func:`dfdet.manifest.read` gives it; it may lack the columns of media and faces.

    Returns:
        Videos by corpus, split and label; methods; statuses; readers; face coverage by label; findings. A table about
        something that was not looked at (readers, faces) is left out.
    """
    table = _complete(manifest.table)
    tables = [_splits(table), _methods(table), _statuses(table)]
    if table["reader"].notna().any():
        tables.append(_readers(table))
    if table["face_status"].notna().any():
        tables.append(_faces(table))
    return [*tables, _findings(table)]


def findings(manifest: Manifest) -> list[Finding]:
    """What looks wrong with a manifest, by itself."""
    return list(_all_findings(_complete(manifest.table)))


def _complete(table: pd.DataFrame) -> pd.DataFrame:
    """With every column that is looked at, a null split and a null label as words, one usable flag."""
    wanted = ("method", "reason", "reader", "reader_reason", "face_status", "coverage", "sha256", "group", "original")
    full = table.assign(
        **{column: pd.Series(None, index=table.index, dtype=object) for column in wanted if column not in table}
    )
    full["split"] = full["split"].astype(object).where(full["split"].notna(), NO_SPLIT)
    full["label_word"] = full["label"].map(_LABELS).astype(object).where(full["label"].notna(), "unlabelled")
    full["usable"] = full["status"].isin(USABLE)
    return full.reset_index(drop=True)


def _splits(table: pd.DataFrame) -> Table:
    out = Table("Videos by split", ["corpus", "split", "real", "fake", "unlabelled", "usable", "groups"])
    for corpus, split, rows in _by_split(table):
        words = rows["label_word"].value_counts()
        counts = [int(words.get(word, 0)) for word in ("real", "fake", "unlabelled")]
        out.add(corpus, split, *counts, int(rows["usable"].sum()), rows["group"].nunique())
    return out


def _by_split(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for corpus, rows in table.groupby("corpus", sort=True):
        for split in (*SPLITS, NO_SPLIT):
            part = rows[rows["split"] == split]
            if len(part):
                yield str(corpus), split, part


def _methods(table: pd.DataFrame) -> Table:
    out = Table("Videos by method", ["corpus", "method", *SPLITS, NO_SPLIT, "total"])
    named = table.assign(method=table["method"].astype(object).where(table["method"].notna(), "-"))
    for (corpus, method), rows in named.groupby(["corpus", "method"], sort=True):
        counts = rows["split"].value_counts()
        out.add(corpus, method, *(int(counts.get(split, 0)) for split in (*SPLITS, NO_SPLIT)), len(rows))
    return out


def _statuses(table: pd.DataFrame) -> Table:
    """Reasons that differ in a number only (a frame, a size) count as one."""
    out = Table("Files by status", ["status", "reason", "videos"])
    for status in STATUSES:
        for reason, count in _counted(table.loc[table["status"] == status, "reason"]):
            out.add(status, reason, count)
    return out


def _readers(table: pd.DataFrame) -> Table:
    out = Table("Files by reader", ["reader", "reason", "videos"])
    for reader, rows in table.groupby("reader", sort=True):
        for reason, count in _counted(rows["reader_reason"]):
            out.add(reader, reason, count)
    return out


def _counted(reasons: pd.Series) -> list[tuple[str, int]]:
    """Reasons with how often they occur, the most frequent first; those that differ in numbers only are one, with N."""
    plain = reasons.astype(object).where(reasons.notna(), "").astype(str)
    kinds = plain.str.replace(r"\d+", "N", regex=True)
    found = []
    for kind, count in sorted(kinds.value_counts().items(), key=lambda item: (-item[1], str(item[0]))):
        alike = plain[kinds == kind]
        found.append((str(alike.iloc[0] if alike.nunique() == 1 else kind), int(count)))
    return found


def _faces(table: pd.DataFrame) -> Table:
    out = Table("Faces by label", ["corpus", "label", "videos", "mean coverage", "share few", "share none"])
    searched = table[table["face_status"].notna()]
    for (corpus, label), rows in searched.groupby(["corpus", "label_word"], sort=True):
        few, none = (float((rows["face_status"] == word).mean()) for word in ("few", "none"))
        out.add(corpus, label, len(rows), _mean_coverage(rows), few, none)
    out.notes.append("Coverage: share of the sampled frames in which a face was found.")
    return out


def _mean_coverage(rows: pd.DataFrame) -> float:
    return float(pd.to_numeric(rows["coverage"]).astype(float).fillna(0.0).mean())


def _findings(table: pd.DataFrame) -> Table:
    out = Table("What looks wrong", ["finding", "videos", "for example"])
    for finding in _all_findings(table):
        out.add(finding.sentence, finding.videos, finding.example)
    if not out.rows:
        out.notes.append("Nothing looks wrong.")
    return out


def _all_findings(table: pd.DataFrame) -> Iterator[Finding]:
    yield from _wrong_splits(table)
    yield from _wrong_files(table)
    yield from _wrong_faces(table)
    yield from _shared(table)
    yield from _absent_originals(table)


def _finding(sentence: str, rows: pd.DataFrame) -> Finding:
    return Finding(sentence, len(rows), str(rows["path"].iloc[0]) if len(rows) else "")


def _wrong_splits(table: pd.DataFrame) -> Iterator[Finding]:
    usable = table[table["usable"]]
    if not len(usable):
        yield _finding("No file can be used.", table)
    divided = set(usable.loc[usable["split"] != NO_SPLIT, "corpus"])
    for corpus, split, rows in _by_split(usable):
        # what a divided corpus sets aside is no set to rank; an undivided one is evaluated as a whole
        if split == NO_SPLIT and corpus in divided:
            continue
        words = set(rows["label_word"]) - {"unlabelled"}
        if len(words) == 1:
            where = f"{corpus}, split {split}" if split != NO_SPLIT else f"{corpus}, without a split"
            yield _finding(f"{where}: only {words.pop()} videos, so ranks and thresholds are undefined.", rows)
    for name, rows in usable.groupby("corpus", sort=True):
        train = rows[rows["split"] == "train"]
        if len(train) and not (rows["split"] == "val").any():
            sentence = f"{name}: there is a train split and no val: nothing to stop by or to take a threshold from."
            yield _finding(sentence, train)


def _wrong_files(table: pd.DataFrame) -> Iterator[Finding]:
    sentences = {
        "unreadable": "Files cannot be read.",
        "missing": "Files are not there.",
        "empty": "Files are empty.",
        "conflict": "Files contradict their list.",
        "partial": "Files decode in part; only their usable frames are taken.",
    }
    for status, sentence in sentences.items():
        rows = table[table["status"] == status]
        if len(rows):
            yield _finding(sentence, rows)


def _wrong_faces(table: pd.DataFrame) -> Iterator[Finding]:
    searched = table[table["face_status"].notna()]
    for corpus, rows in searched.groupby("corpus", sort=True):
        real, fake = (rows[rows["label_word"] == word] for word in ("real", "fake"))
        if not len(real) or not len(fake):
            continue
        a, b = _mean_coverage(real), _mean_coverage(fake)
        if abs(a - b) > COVERAGE_GAP + 1e-6:
            found = f"real {100 * a:.1f} %, fake {100 * b:.1f} %"
            sentence = (
                f"{corpus}: faces are found more often in one class ({found}): a missing face gives the label away."
            )
            yield _finding(sentence, rows[rows["face_status"] != "ok"])
    rows = searched[searched["face_status"] == "none"]
    if len(rows):
        yield _finding("No face was found.", rows)


def _shared(table: pd.DataFrame) -> Iterator[Finding]:
    """What stands on two sides: one file with two labels or in two splits, one group in two splits."""
    for column, value, what in (
        ("sha256", "label", "The same file stands under both labels"),
        ("sha256", "split", "The same file stands in two splits"),
        ("group", "split", "A group (shared person, original or upload) stands in two splits"),
    ):
        known = (
            table[table[column].notna() & table["label"].notna()] if value == "label" else table[table[column].notna()]
        )
        if value == "split":
            known = known[known["split"] != NO_SPLIT]
        # a group is a name within its corpus; a file is the same file in any
        keys = ["corpus", column] if column == "group" else [column]
        counts = known.groupby(keys)[value].transform("nunique")
        rows = known[counts > 1]
        if len(rows):
            yield _finding(f"{what} ({len(rows[keys].drop_duplicates())} such).", rows)


def _absent_originals(table: pd.DataFrame) -> Iterator[Finding]:
    there = set(table["video_id"]) | set(table["corpus"].astype(str) + ":" + table["video_id"].astype(str))
    rows = table[table["original"].notna() & ~table["original"].isin(there)]
    if len(rows):
        yield _finding(
            f"The real video that a fake was made from is not here ({rows['original'].nunique()} such).", rows
        )
