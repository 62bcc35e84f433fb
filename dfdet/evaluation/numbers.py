"""Rows with labels and logits in, all numbers of them out, and in words why one is undefined."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from dfdet.evaluation import metrics
from dfdet.evaluation import missing as as_chance
from dfdet.evaluation.intervals import Interval, bootstrap, clusters
from dfdet.evaluation.metrics import Floats, Ints


@dataclass(frozen=True)
class Numbers:
    """The numbers of one set of rows; NaN where undefined, ``notes`` then says why.

    Attributes:
        auroc: In [0, 1].
        interval: The 95 % interval of ``auroc``, over groups of videos.
        average_precision: Of what was scored, fakes as positives; rises with their share.
        equal_error_rate: Of what was scored, in [0, 1].
        threshold: The validation threshold that the accuracies are taken at, a logit.
        accuracy: At ``threshold``.
        balanced_accuracy: At ``threshold``.
        log_loss: In nats.
        reals: Real videos or frames, scored or not.
        fakes: Fake videos or frames, scored or not.
        coverage_real: The share of ``reals`` that was scored.
        coverage_fake: The share of ``fakes`` that was scored.
        notes: Why something is undefined, one clause each.
    """

    auroc: float
    interval: Interval
    average_precision: float
    equal_error_rate: float
    threshold: float
    accuracy: float
    balanced_accuracy: float
    log_loss: float
    reals: int
    fakes: int
    coverage_real: float
    coverage_fake: float
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {**asdict(self), "interval": self.interval.as_dict(), "notes": list(self.notes)}


def numbers_of(table: pd.DataFrame, threshold: float | None, missing: str, draws: int, seed: int) -> Numbers:
    """All numbers of one set of rows.

    Args:
        table: Columns ``corpus``, ``video_id``, ``group``, ``label`` (never null), ``logit`` (NaN: not scored) and
            maybe ``rows``, as :mod:`dfdet.evaluation.levels` gives them.
        threshold: The validation threshold, a logit; None where there is none.
        missing: ``as_chance`` or ``exclude``.
        draws: Bootstrap draws of the interval; 0 for none.
        seed: Of the draws.
    """
    everything, scored = _arrays(table), _arrays(table[table["logit"].notna()])
    labels, _, rows = everything
    judged, rules = (everything, as_chance) if missing == "as_chance" else (scored, metrics)
    at = math.nan if threshold is None else float(threshold)
    coverage = as_chance.coverage(*everything)
    auroc = rules.auroc(*judged)
    interval = _interval(table, missing, auroc, draws, seed)
    return Numbers(
        auroc=auroc,
        interval=interval,
        average_precision=metrics.average_precision(*scored),
        equal_error_rate=metrics.equal_error_rate(*scored)[0],
        threshold=at,
        accuracy=_at(rules.accuracy, judged, at),
        balanced_accuracy=_at(rules.balanced_accuracy, judged, at),
        log_loss=rules.log_loss(*judged),
        reals=int(rows[labels == 0].sum()),
        fakes=int(rows[labels == 1].sum()),
        coverage_real=coverage[0],
        coverage_fake=coverage[1],
        notes=tuple(_reasons(coverage, at, auroc, interval)),
    )


def _arrays(table: pd.DataFrame) -> tuple[Ints, Floats, Ints]:
    rows = table["rows"].to_numpy(np.int64) if "rows" in table else np.ones(len(table), np.int64)
    return table["label"].to_numpy(np.int64), table["logit"].to_numpy(np.float64), rows


def _at(metric: Callable[[Ints, Floats, float, Ints], float], judged: tuple[Ints, Floats, Ints], at: float) -> float:
    labels, logits, rows = judged
    return math.nan if math.isnan(at) else metric(labels, logits, at, rows)


def _interval(table: pd.DataFrame, missing: str, auroc: float, draws: int, seed: int) -> Interval:
    if math.isnan(auroc):
        return Interval(math.nan, math.nan, reason="the AUROC is undefined")
    if not draws:
        return Interval(math.nan, math.nan, reason="no draws were asked for")
    if missing == "as_chance":
        return bootstrap(as_chance.auroc, table, clusters(table), draws, seed)
    scored = table[table["logit"].notna()]
    return bootstrap(metrics.auroc, scored, clusters(scored), draws, seed)


def _reasons(coverage: tuple[float, float], threshold: float, auroc: float, interval: Interval) -> list[str]:
    reasons = []
    for share, word in zip(coverage, ("reals", "fakes"), strict=True):
        if not share > 0:
            what = f"there are no {word}" if math.isnan(share) else f"none of the {word} was scored"
            reasons.append(f"{what}, so what compares both classes is undefined")
    if math.isnan(threshold):
        reasons.append("no threshold from validation, so the accuracies are undefined")
    if not math.isnan(auroc) and not interval:
        reasons.append(f"no interval: {interval.reason}")
    if interval.redrawn:
        reasons.append(f"{interval.redrawn} draws lacked a class and were drawn again")
    return reasons
