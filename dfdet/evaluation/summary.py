"""Scores in, numbers by level and by method out: what is printed after a test and what reports are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from dfdet.console import Table
from dfdet.errors import UserError, nearest
from dfdet.evaluation import metrics
from dfdet.evaluation.levels import LEVELS, frame_level, video_level
from dfdet.evaluation.numbers import Numbers, numbers_of
from dfdet.evaluation.scores import OK, VIDEO, Scores

Policy = Literal["as_chance", "exclude"]
POLICIES = {"as_chance": "count as a guess", "exclude": "are left out of the numbers"}


@dataclass(frozen=True)
class Summary:
    """What a score file says.

    Attributes:
        levels: The numbers by level: ``frame`` and ``video``.
        methods: The videos of each fake method against all real ones; empty where there is only one method.
        missing: How videos without a score count: ``as_chance`` or ``exclude``.
        notes: What holds for all numbers: coverage, stamps, thresholds.
        stamps: The score file's stamps.
    """

    levels: dict[str, Numbers]
    methods: dict[str, Numbers]
    missing: str
    notes: list[str] = field(default_factory=list)
    stamps: list[str] = field(default_factory=list)

    def table(self, title: str) -> Table:
        """One row a level, with all notes."""
        table = Table(title, ["level", *_ALL])
        _fill(table, self.levels, _ALL)
        table.notes.extend(self.notes)
        return table

    def by_method(self, title: str) -> Table | None:
        """One row a fake method, or None where there is only one."""
        if not self.methods:
            return None
        table = Table(title, ["method", *_OF_A_METHOD])
        _fill(table, self.methods, _OF_A_METHOD)
        table.notes.append("videos of the method against all real ones")
        return table

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data; NaN where undefined."""
        return {
            "levels": {name: numbers.as_dict() for name, numbers in self.levels.items()},
            "by_method": {name: numbers.as_dict() for name, numbers in self.methods.items()},
            "missing": self.missing,
            "notes": list(self.notes),
            "stamps": list(self.stamps),
        }


_ALL = {
    "AUROC": lambda n: n.auroc,
    "95 % interval": lambda n: f"{n.interval.low:.3f} to {n.interval.high:.3f}" if n.interval else None,
    "AP": lambda n: n.average_precision,
    "EER": lambda n: n.equal_error_rate,
    "balanced acc.": lambda n: n.balanced_accuracy,
    "accuracy": lambda n: n.accuracy,
    "log-loss": lambda n: n.log_loss,
    "reals": lambda n: n.reals,
    "fakes": lambda n: n.fakes,
    "coverage real": lambda n: n.coverage_real,
    "coverage fake": lambda n: n.coverage_fake,
}
_OF_A_METHOD = {
    column: _ALL[column] for column in ("AUROC", "95 % interval", "EER", "balanced acc.", "fakes", "coverage fake")
}


def _fill(table: Table, rows: Mapping[str, Numbers], columns: Mapping[str, Any]) -> None:
    said: dict[str, list[str]] = {}
    for name, numbers in rows.items():
        table.add(name, *(read(numbers) for read in columns.values()))
        for note in numbers.notes:
            said.setdefault(note, []).append(name)
    table.notes.extend(f"{', '.join(names)}: {note}" for note, names in said.items())


def summarise(
    scores: Scores,
    thresholds: Mapping[str, float] | None = None,
    missing: Policy = "as_chance",
    draws: int = 1000,
    seed: int = 0,
) -> Summary:
    """The numbers of a score file at both levels and by method.

    Args:
        scores: As read. Rows without a label are left out, with a note.
        thresholds: Logits by level, from validation (:func:`thresholds_from`); None: those in the scores' metadata.
        missing: ``as_chance`` counts what was not scored as a guess (:mod:`dfdet.evaluation.missing`), ``exclude``
            leaves it out. Average precision and equal error rate are taken on what was scored either way.
        draws: Bootstrap draws of the intervals; 0 for no intervals.
        seed: Of the draws.

    Raises:
        UserError: If ``missing`` is not a known rule.
    """
    if missing not in POLICIES:
        raise UserError(f"no rule for missing videos is called {missing!r}", nearest(missing, POLICIES))
    at = scores.thresholds if thresholds is None else dict(thresholds)
    frames, videos = frame_level(scores), video_level(scores)
    levels = {
        name: numbers_of(_labelled(table), at.get(name), missing, draws, seed)
        for name, table in zip(LEVELS, (frames, videos), strict=True)
    }
    judged = _labelled(videos)
    methods = {
        name: numbers_of(table, at.get("video"), missing, draws, seed) for name, table in _of_each_method(judged)
    }
    return Summary(levels, methods, missing, _notes(scores, videos, missing), scores.stamps)


def thresholds_from(scores: Scores) -> dict[str, float]:
    """The threshold with the highest balanced accuracy at each level, a logit; levels with one class are left out.

    Args:
        scores: Of the validation split of the corpus that was trained on.
    """
    found = {}
    for name, table in zip(LEVELS, (frame_level(scores), video_level(scores)), strict=True):
        rows = _labelled(table)
        rows = rows[rows["logit"].notna()]
        best = metrics.best_threshold(rows["label"].to_numpy(np.int64), rows["logit"].to_numpy(np.float64))
        if not math.isnan(best):
            found[name] = best
    return found


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["label"].notna()]


def _of_each_method(videos: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    methods = videos["method"].astype(object).where(videos["method"].notna(), "unknown")
    fake = videos["label"] == 1
    names = sorted(methods[fake].unique())
    return [(name, videos[~fake | (methods == name)]) for name in names] if len(names) > 1 else []


def _notes(scores: Scores, videos: pd.DataFrame, policy: str) -> list[str]:
    notes = []
    lost = videos.loc[videos["status"] != OK, "status"].value_counts(sort=False).sort_index()
    if len(lost):
        why = ", ".join(f"{count} {reason}" for reason, count in lost.items())
        notes.append(f"{int(lost.sum())} of {len(videos)} videos could not be scored ({why}); they {POLICIES[policy]}")
    unlabelled = int(videos["label"].isna().sum())
    if unlabelled:
        notes.append(f"{unlabelled} videos have no label and are left out")
    alone = int(videos["group"].isna().sum())
    if alone:
        notes.append(f"{alone} videos have no group: the intervals take them as independent")
    partial = scores.table[scores.table["logit"].isna()].merge(videos.loc[videos["status"] == OK, VIDEO], on=VIDEO)
    if len(partial):
        count = len(partial.drop_duplicates(VIDEO))
        notes.append(f"{count} videos are judged by a part of their clips; {len(partial)} clips could not be scored")
    return notes + [f"stamp: {stamp}" for stamp in scores.stamps]
