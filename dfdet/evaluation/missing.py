"""Labels and logits with NaN for what was not scored in, numbers out in which the missing count as guesses.

The rule ``as_chance``: a pair with a missing row counts one half in the AUROC, a missing row counts as probability .5
in the log-loss and as half right at a threshold. Each number is therefore the one of what was scored, drawn towards
that of a guess by the share that is missing. Nothing scored of a class stays NaN: the rule alone is no measurement.

Arrays as in :mod:`dfdet.evaluation.metrics`, of length N, beside the NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from dfdet.evaluation import metrics
from dfdet.evaluation.metrics import Floats, Ints


def coverage(labels: npt.ArrayLike, logits: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> tuple[float, float]:
    """The share of reals and of fakes that were scored; NaN for a class that is absent."""
    y, z, w = _arrays(labels, logits, weights)
    real, fake = (_share(w[(y == c) & ~np.isnan(z)], w[y == c]) for c in (0, 1))
    return real, fake


def _arrays(labels: npt.ArrayLike, logits: npt.ArrayLike, weights: npt.ArrayLike | None) -> tuple[Ints, Floats, Ints]:
    y, z = np.asarray(labels, dtype=np.int64), np.asarray(logits, dtype=np.float64)
    return y, z, np.ones(len(z), np.int64) if weights is None else np.asarray(weights, dtype=np.int64)


def _share(part: Ints, whole: Ints) -> float:
    return int(part.sum()) / int(whole.sum()) if whole.sum() else math.nan


def _towards(guess: float, value: float, share: float) -> float:
    return guess + (value - guess) * share


def auroc(labels: npt.ArrayLike, logits: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """AUROC in which each pair with a missing row counts one half."""
    y, z, w = _arrays(labels, logits, weights)
    real, fake = coverage(y, z, w)
    scored = ~np.isnan(z)
    return _towards(0.5, metrics.auroc(y[scored], z[scored], w[scored]), real * fake)


def auroc_over(labels: npt.ArrayLike, logits: npt.ArrayLike) -> Callable[[Ints], float]:
    """:func:`auroc` as a function of the weights alone, as :func:`dfdet.evaluation.metrics.auroc_over`."""
    y, z, _ = _arrays(labels, logits, None)
    scored = ~np.isnan(z)
    of_scored, fake = metrics.auroc_over(y[scored], z[scored]), y == 1

    def value(weights: Ints) -> float:
        seen = weights[scored]
        total, fakes, seen_total, seen_fakes = weights.sum(), weights @ fake, seen.sum(), seen @ fake[scored]
        pairs = int(fakes) * int(total - fakes)
        share = int(seen_fakes) * int(seen_total - seen_fakes) / pairs if pairs else math.nan
        return _towards(0.5, of_scored(seen), share)

    return value


def accuracy(
    labels: npt.ArrayLike, logits: npt.ArrayLike, threshold: float, weights: npt.ArrayLike | None = None
) -> float:
    """Accuracy in which each missing row is half right."""
    y, z, w = _arrays(labels, logits, weights)
    scored = ~np.isnan(z)
    return _towards(0.5, metrics.accuracy(y[scored], z[scored], threshold, w[scored]), _share(w[scored], w))


def balanced_accuracy(
    labels: npt.ArrayLike, logits: npt.ArrayLike, threshold: float, weights: npt.ArrayLike | None = None
) -> float:
    """Balanced accuracy in which each missing row is half right, class by class."""
    y, z, w = _arrays(labels, logits, weights)
    scored = ~np.isnan(z)
    found = metrics.recalls(y[scored], z[scored], threshold, w[scored])
    return sum(_towards(0.5, value, share) for value, share in zip(found, coverage(y, z, w), strict=True)) / 2


def log_loss(labels: npt.ArrayLike, logits: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Log-loss in nats in which each missing row has probability .5."""
    y, z, w = _arrays(labels, logits, weights)
    scored = ~np.isnan(z)
    return _towards(math.log(2), metrics.log_loss(y[scored], z[scored], w[scored]), _share(w[scored], w))
