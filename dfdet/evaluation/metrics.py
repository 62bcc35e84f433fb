"""Labels and raw logits in, one float64 number out: the metrics themselves, on counts of distinct scores.

Every function takes arrays of one length N: ``labels`` (0 real, 1 fake), ``logits`` (finite; larger says fake, a row is
called fake when its logit is *above* the threshold) and, where a row stands for several, ``weights`` (whole numbers
from 0 on: a bootstrap draw is such a vector). Rank statistics are taken on the logits as they are, never on
probabilities, since a sigmoid makes large logits equal; counts stay integers until the last division.

What cannot be said is NaN: a statistic of two classes where only one is present, and everything of nothing.
All functions raise :class:`BadScoresError` on a logit that is NaN or infinite and ValueError on arrays that do not fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dfdet.errors import UserError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class BadScoresError(UserError, ValueError):
    """Logits that are NaN or infinite; the text says how many of how many."""


@dataclass(frozen=True)
class _Tally:
    """Rows by distinct score: ``scores`` (K,) ascending; ``reals`` and ``fakes`` (K,) rows with that score."""

    scores: Floats
    reals: Ints
    fakes: Ints

    @property
    def sizes(self) -> tuple[int, int]:
        """How many reals and how many fakes."""
        return int(self.reals.sum()), int(self.fakes.sum())

    @property
    def one_class(self) -> bool:
        return 0 in self.sizes


def checked(labels: npt.ArrayLike, logits: npt.ArrayLike, weights: npt.ArrayLike | None) -> tuple[Ints, Floats, Ints]:
    """The three arrays as int64, float64 and int64, or an error.

    Raises:
        BadScoresError: If a logit is NaN or infinite.
        ValueError: If lengths differ, a label is neither 0 nor 1, or a weight is not a whole number from 0 on.
    """
    y, z = np.asarray(labels), np.asarray(logits, dtype=np.float64)
    w = np.ones(len(z), np.int64) if weights is None else np.asarray(weights)
    if not (y.shape == z.shape == w.shape) or z.ndim != 1:
        raise ValueError(f"labels {y.shape}, logits {z.shape} and weights {w.shape} must be vectors of one length")
    wrong = int(len(z) - np.isfinite(z).sum())
    if wrong:
        raise BadScoresError(f"{wrong} of {len(z)} logits are not finite", "leave them out or count them as not scored")
    if not np.logical_or(y == 0, y == 1).all():
        raise ValueError("labels must be 0 (real) or 1 (fake)")
    if w.dtype.kind not in "iu" or (len(w) and w.min() < 0):
        raise ValueError("weights must be whole numbers from 0 on")
    return y.astype(np.int64), z, w.astype(np.int64)


def _tally(labels: npt.ArrayLike, logits: npt.ArrayLike, weights: npt.ArrayLike | None) -> _Tally:
    y, z, w = checked(labels, logits, weights)
    if not (z[1:] >= z[:-1]).all():  # a bootstrap sorts once and comes here a thousand times
        order = np.argsort(z, kind="stable")
        y, z, w = y[order], z[order], w[order]
    if not len(z):
        return _Tally(z, y, y)
    starts = np.concatenate([[0], np.flatnonzero(z[1:] != z[:-1]) + 1])
    rows = np.add.reduceat(w, starts)
    fakes = np.add.reduceat(w * y, starts)
    present = rows > 0
    return _Tally(z[starts][present], (rows - fakes)[present], fakes[present])


def _cuts(counts: Ints) -> Ints:
    """(K + 1,) rows below each cut: cut j parts scores 0 .. j-1 (called real) from scores j .. K-1 (called fake)."""
    return np.concatenate([[0], np.cumsum(counts)])


def _between(low: float, high: float) -> float:
    """The midpoint of two neighbouring scores, at least ``low`` and below ``high`` whatever the rounding."""
    middle = low / 2 + high / 2
    return middle if low <= middle < high else low


def auroc(labels: npt.ArrayLike, logits: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Area under the ROC curve: how often a fake scores above a real, ties counting one half. In [0, 1]."""
    t = _tally(labels, logits, weights)
    if t.one_class:
        return math.nan
    reals, fakes = t.sizes
    twice = int(np.sum(t.fakes * (2 * _cuts(t.reals)[:-1] + t.reals)))
    return twice / (2 * reals * fakes)


def auroc_over(labels: npt.ArrayLike, logits: npt.ArrayLike) -> Callable[[Ints], float]:
    """:func:`auroc` as a function of the weights alone, some twenty times faster, for thousands of draws of one table.

    Returns:
        A function of (N,) int64 weights, which it does not check.
    """
    y, z, _ = checked(labels, logits, None)
    order = np.argsort(z, kind="stable")
    real, fake = order[y[order] == 0], order[y[order] == 1]
    below, up_to = np.searchsorted(z[real], z[fake], "left"), np.searchsorted(z[real], z[fake], "right")

    def value(weights: Ints) -> float:
        passed, drawn = _cuts(weights[real]), weights[fake]
        pairs = int(passed[-1]) * int(drawn.sum())
        return int(drawn @ (passed[below] + passed[up_to])) / (2 * pairs) if pairs else math.nan

    return value


def average_precision(labels: npt.ArrayLike, logits: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Average precision with fakes as positives: the step sum over distinct scores, not interpolated. In [0, 1]."""
    t = _tally(labels, logits, weights)
    if t.one_class:
        return math.nan
    found = np.cumsum(t.fakes[::-1])
    called = np.cumsum((t.fakes + t.reals)[::-1])
    return float(np.sum(t.fakes[::-1] * (found / called)) / t.sizes[1])


def equal_error_rate(
    labels: npt.ArrayLike, logits: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> tuple[float, float]:
    """Where false positive and false negative rate meet on the linearly interpolated ROC curve.

    Swapping the labels and negating the logits gives exactly the same rate and the negated threshold (the latter up to
    the rounding of a midpoint).

    Returns:
        The rate in [0, 1], and the threshold: the score whose tied rows the crossing divides, or the midpoint of the
        two scores that it falls between. Both NaN for one class.
    """
    t = _tally(labels, logits, weights)
    if t.one_class:
        return math.nan, math.nan
    reals, fakes = t.sizes
    missed, passed = _cuts(t.fakes), _cuts(t.reals)
    gap = reals * missed - fakes * (reals - passed)  # reals * fakes * (FNR - FPR): rises strictly from below to above 0
    j = int(np.argmax(gap >= 0))
    if gap[j] == 0:
        return int(missed[j]) / fakes, _between(float(t.scores[j - 1]), float(t.scores[j]))
    before, after = -int(gap[j - 1]), int(gap[j])
    rate = (int(missed[j - 1]) * after + int(missed[j]) * before) / ((before + after) * fakes)
    return rate, float(t.scores[j - 1])


def recalls(
    labels: npt.ArrayLike, logits: npt.ArrayLike, threshold: float, weights: npt.ArrayLike | None = None
) -> tuple[float, float]:
    """The share of reals at or below the threshold and the share of fakes above it; NaN for a class that is absent."""
    y, z, w = checked(labels, logits, weights)
    right = (z > threshold) == (y == 1)
    real, fake = (_share(int(w[(y == c) & right].sum()), int(w[y == c].sum())) for c in (0, 1))
    return real, fake


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def accuracy(
    labels: npt.ArrayLike, logits: npt.ArrayLike, threshold: float, weights: npt.ArrayLike | None = None
) -> float:
    """The share of rows on their side of the threshold. Defined for one class as well."""
    y, z, w = checked(labels, logits, weights)
    return _share(int(w[(z > threshold) == (y == 1)].sum()), int(w.sum()))


def balanced_accuracy(
    labels: npt.ArrayLike, logits: npt.ArrayLike, threshold: float, weights: npt.ArrayLike | None = None
) -> float:
    """The mean of both classes' :func:`recalls`; NaN for one class."""
    return sum(recalls(labels, logits, threshold, weights)) / 2


def log_loss(labels: npt.ArrayLike, logits: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Mean negative log-likelihood in nats, from the logits, so it is finite for any finite logit.

    Defined for one class as well.
    """
    y, z, w = checked(labels, logits, weights)
    losses: Any = np.logaddexp(0.0, np.where(y == 1, -z, z))
    return float(np.sum(losses * w) / w.sum()) if w.sum() else math.nan


def best_threshold(labels: npt.ArrayLike, logits: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """The threshold with the highest balanced accuracy.

    Candidates are the midpoints between neighbouring distinct scores, the highest score (everything is called real) and
    the number just below the lowest (everything is called fake). Of several that are equally good the middle one in
    ascending order is taken, of an even number the lower of the two in the middle. NaN for one class.
    """
    t = _tally(labels, logits, weights)
    if t.one_class:
        return math.nan
    reals, fakes = t.sizes
    gain = reals * (fakes - _cuts(t.fakes)) - fakes * (reals - _cuts(t.reals))
    best = np.flatnonzero(gain == gain.max())
    j = int(best[(len(best) - 1) // 2])
    if j == 0:
        return float(np.nextafter(t.scores[0], -np.inf))
    if j == len(t.scores):
        return float(t.scores[-1])
    return _between(float(t.scores[j - 1]), float(t.scores[j]))
