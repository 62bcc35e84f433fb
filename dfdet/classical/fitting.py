"""A table of features in, a fitted pipeline of scikit-learn out; and how its word on rows becomes logits of clips."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

from dfdet import console
from dfdet.classical.table import FeatureTable, Ints
from dfdet.errors import UserError

Floats = npt.NDArray[np.float64]
# a forest may be sure of everything: its log-odds end here, at +-13.8
_SURE = 1e-6


def fit_on(table: FeatureTable, make: Callable[[int, int], Pipeline]) -> Pipeline:
    """A pipeline fitted on a table; says what on and how long it took.

    Args:
        table: Features and labels.
        make: The pipeline for a number of rows and a seed.

    Raises:
        UserError: The table is empty, holds one class alone, or numbers that are not finite.
    """
    features, label = table.sorted()
    if len(label) == 0:
        raise UserError("the table of features is empty: no training clip gave any", "the warnings above say why")
    kinds = set(np.unique(label).tolist())
    if kinds != {0, 1}:
        only = "real" if kinds == {0} else "fake"
        raise UserError(
            f"the table of features holds only {only} clips", "both are needed; the warnings above may say why"
        )
    bad = ~np.isfinite(features)
    if bad.any():
        rows, columns = np.any(bad, axis=1), np.any(bad, axis=0)
        raise UserError(
            f"{int(rows.sum())} of {len(label)} rows of features are not finite, in {int(columns.sum())} of "
            f"{features.shape[1]} columns (first: column {int(columns.argmax())})",
            "the detector's extract must give numbers",
        )
    estimator = make(len(label), table.seed)
    name = type(estimator.steps[-1][1]).__name__
    console.say(f"fitting {name} on {len(label)} rows, {int((label == 1).sum())} of them fake")
    start = time.monotonic()
    with warnings.catch_warnings():
        # a fixed number of passes is part of a recipe
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(features, label)
    console.say(f"fitted in {time.monotonic() - start:.1f} s")
    return estimator


def pool_mean(value: Floats, clip: Ints, clips: int) -> Floats:
    """Means of rows (R,) by clip (R,) -> (B,); 0 for a clip without rows."""
    count = np.bincount(clip, minlength=clips)
    return np.bincount(clip, weights=value, minlength=clips) / np.maximum(count, 1)


def log_odds(probability: Floats) -> Floats:
    """Probabilities in [0, 1] as logits in +-13.8."""
    inside = np.clip(probability, _SURE, 1 - _SURE)
    return np.log(inside) - np.log1p(-inside)
