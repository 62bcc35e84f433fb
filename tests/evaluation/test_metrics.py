"""Metrics agree with scikit-learn, do not change with what must not matter, and say when they are undefined."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn import metrics as reference

from dfdet.errors import UserError
from dfdet.evaluation import metrics

EXACT = {"rel": 0, "abs": 1e-12}


def cases(count: int = 300) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Both classes, 2 to 400 rows, few to many distinct logits, useless to perfect and inverted scores."""
    random = np.random.default_rng(7)
    for _ in range(count):
        size = int(random.integers(2, 400))
        labels = (random.random(size) < random.uniform(0.05, 0.95)).astype(np.int64)
        labels[:2] = 0, 1
        logits = random.normal(size=size) * random.choice([0.3, 3.0]) + labels * random.choice([-2.0, 0.0, 1.0, 4.0])
        order = random.permutation(size)
        yield labels[order], logits.round(int(random.choice([0, 0, 1, 2, 12])))[order]


def reference_eer(labels: np.ndarray, logits: np.ndarray) -> float:
    false, true, _ = reference.roc_curve(labels, logits)
    curve = interp1d(false, true)
    return brentq(lambda x: 1.0 - x - curve(x), 0.0, 1.0, xtol=1e-15, rtol=1e-15, maxiter=500)


def test_rank_statistics_equal_scikit_learn_with_and_without_ties():
    for labels, logits in cases():
        assert metrics.auroc(labels, logits) == pytest.approx(reference.roc_auc_score(labels, logits), **EXACT)
        expected = reference.average_precision_score(labels, logits)
        assert metrics.average_precision(labels, logits) == pytest.approx(expected, **EXACT)


def test_equal_error_rate_is_the_interpolated_crossing():
    for labels, logits in cases():
        assert metrics.equal_error_rate(labels, logits)[0] == pytest.approx(reference_eer(labels, logits), **EXACT)


def test_equal_error_rate_is_not_the_nearest_grid_point():
    labels, logits = np.array([0] * 7 + [1] * 3), np.array([1, 2, 3, 4, 5, 6, 8.0, 0, 7, 9])
    # between FPR 1/7 (one real above 7) and FNR 1/3 (one fake below): they meet on the flat piece at FNR = 1/3
    assert metrics.equal_error_rate(labels, logits)[0] == pytest.approx(1 / 3, **EXACT)


def test_numbers_at_a_threshold_equal_scikit_learn():
    for labels, logits in cases(60):
        for threshold in (0.0, float(logits[0])):
            called = (logits > threshold).astype(int)
            expected = reference.accuracy_score(labels, called), reference.balanced_accuracy_score(labels, called)
            assert metrics.accuracy(labels, logits, threshold) == pytest.approx(expected[0], **EXACT)
            assert metrics.balanced_accuracy(labels, logits, threshold) == pytest.approx(expected[1], **EXACT)
            by_class = reference.recall_score(labels, called, average=None, labels=[0, 1], zero_division=0)
            assert metrics.recalls(labels, logits, threshold) == pytest.approx(tuple(by_class), **EXACT)


def test_log_loss_equals_scikit_learn_where_sigmoids_are_exact_enough():
    for labels, logits in cases():
        expected = reference.log_loss(labels, 1 / (1 + np.exp(-logits)), labels=[0, 1])
        assert metrics.log_loss(labels, logits) == pytest.approx(expected, **EXACT)


def test_log_loss_of_huge_logits_is_finite():
    assert metrics.log_loss([0, 1], [1000.0, 1000.0]) == 500.0
    assert metrics.log_loss([0, 1], [-1000.0, 1000.0]) == 0.0


def test_a_weight_is_that_many_rows():
    random = np.random.default_rng(3)
    for labels, logits in cases(60):
        weights = random.integers(0, 4, size=len(labels))
        weights[np.argmax(labels)] = weights[np.argmin(labels)] = 1
        many = np.repeat(labels, weights), np.repeat(logits, weights)
        for metric in (metrics.auroc, metrics.equal_error_rate, metrics.best_threshold):
            assert metric(labels, logits, weights) == metric(*many)
        assert metrics.auroc_over(labels, logits)(weights) == metrics.auroc(*many)
        for metric in (metrics.average_precision, metrics.log_loss):
            assert metric(labels, logits, weights) == pytest.approx(metric(*many), **EXACT)
        assert metrics.accuracy(labels, logits, 0.5, weights) == metrics.accuracy(*many, 0.5)
        assert metrics.balanced_accuracy(labels, logits, 0.5, weights) == metrics.balanced_accuracy(*many, 0.5)


def test_rank_statistics_keep_under_permutation_and_monotone_transforms():
    random = np.random.default_rng(5)
    for labels, logits in cases(100):
        order = random.permutation(len(labels))
        for changed in (logits, logits**3 + 2 * logits, logits * 1e6 - 17):
            shuffled = labels[order], changed[order]
            assert metrics.auroc(*shuffled) == metrics.auroc(labels, logits)
            assert metrics.average_precision(*shuffled) == metrics.average_precision(labels, logits)
            assert metrics.equal_error_rate(*shuffled)[0] == metrics.equal_error_rate(labels, logits)[0]


def test_swapping_labels_and_negating_logits_keeps_auroc_and_equal_error_rate():
    for labels, logits in cases(100):
        assert metrics.auroc(1 - labels, -logits) == metrics.auroc(labels, logits)
        rate, threshold = metrics.equal_error_rate(labels, logits)
        swapped = metrics.equal_error_rate(1 - labels, -logits)
        assert swapped[0] == rate
        assert -swapped[1] == pytest.approx(threshold, **EXACT)


def test_at_the_equal_error_threshold_the_rates_enclose_the_equal_error_rate():
    for labels, logits in cases(100):
        rate, threshold = metrics.equal_error_rate(labels, logits)
        missed = np.mean(logits[labels == 1] < threshold), np.mean(logits[labels == 1] <= threshold)
        passed = np.mean(logits[labels == 0] > threshold), np.mean(logits[labels == 0] >= threshold)
        assert missed[0] - 1e-12 <= rate <= missed[1] + 1e-12
        assert passed[0] - 1e-12 <= rate <= passed[1] + 1e-12


def test_large_logits_stay_apart_where_a_sigmoid_would_tie_them():
    for dtype in (np.float32, np.float64):
        assert metrics.auroc([0, 1, 0, 1], np.array([20, 30, 40, 50], dtype)) == 0.75


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_is_undefined(labels):
    logits = np.arange(len(labels), dtype=float)
    assert math.isnan(metrics.auroc(labels, logits))
    assert math.isnan(metrics.average_precision(labels, logits))
    assert all(math.isnan(value) for value in metrics.equal_error_rate(labels, logits))
    assert math.isnan(metrics.balanced_accuracy(labels, logits, 0.0))
    assert math.isnan(metrics.best_threshold(labels, logits))


def test_weights_can_leave_one_class():
    assert math.isnan(metrics.auroc([0, 1], [1.0, 2.0], [1, 0]))
    assert math.isnan(metrics.log_loss([0, 1], [1.0, 2.0], [0, 0]))


def test_no_threshold_has_a_higher_balanced_accuracy_than_the_best():
    for labels, logits in cases(100):
        found = metrics.balanced_accuracy(labels, logits, metrics.best_threshold(labels, logits))
        tried = [metrics.balanced_accuracy(labels, logits, t) for t in (logits.min() - 1, *np.unique(logits))]
        assert found == pytest.approx(max(tried), **EXACT)


def test_the_best_threshold_is_a_midpoint_and_of_equals_the_middle_one():
    assert metrics.best_threshold([0, 0, 1, 1], [-3.0, -1.0, 2.0, 5.0]) == 0.5
    assert metrics.best_threshold([0, 1, 0, 1, 0, 1], [0.0, 1, 2, 3, 4, 5]) == 2.5  # cuts at .5, 2.5 and 4.5 tie
    assert metrics.best_threshold([0, 1], [3.0, 3.0]) == np.nextafter(3.0, 0.0)  # nothing to part: the lower end
    assert metrics.best_threshold([1, 0], [1.0, 2.0]) == np.nextafter(1.0, 0.0)  # inverted: calling all fake is best


def test_neighbouring_floats_and_the_largest_floats_are_still_parted():
    for low, high in ((1.0, np.nextafter(1.0, 2.0)), (-1.7e308, 1.7e308), (0.0, 5e-324), (-5e-324, 0.0)):
        threshold = metrics.best_threshold([0, 1], [low, high])
        assert metrics.accuracy([0, 1], [low, high], threshold) == 1.0
        assert low <= metrics.equal_error_rate([0, 1], [low, high])[1] < high


@pytest.mark.parametrize(
    "metric", [metrics.auroc, metrics.average_precision, metrics.equal_error_rate, metrics.log_loss]
)
def test_logits_that_are_not_finite_are_counted_and_refused(metric):
    with pytest.raises(ValueError, match="2 of 4 logits are not finite") as caught:
        metric([0, 1, 0, 1], [0.0, np.nan, np.inf, 1.0])
    assert isinstance(caught.value, UserError)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="one length"):
        metrics.auroc([0, 1], [0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match=r"0 .real. or 1 .fake."):
        metrics.auroc([0, 2], [0.0, 1.0])
    with pytest.raises(ValueError, match="whole numbers"):
        metrics.auroc([0, 1], [0.0, 1.0], [0.5, 1.0])
