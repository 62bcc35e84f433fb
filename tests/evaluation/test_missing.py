"""What was not scored counts as a guess: checked pair by pair and row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dfdet.evaluation import metrics, missing

EXACT = {"rel": 0, "abs": 1e-12}


def cases(count=60):
    random = np.random.default_rng(11)
    for _ in range(count):
        size = int(random.integers(4, 40))
        labels = np.arange(size) % 2
        logits = (random.normal(size=size) + labels).round(int(random.choice([0, 1, 8])))
        logits[random.random(size) < random.uniform(0, 0.6)] = np.nan
        logits[:2] = 0.3, 0.2
        yield labels, logits


def pair(real, fake):
    if np.isnan(real) or np.isnan(fake) or real == fake:
        return 0.5
    return float(fake > real)


def test_auroc_counts_one_half_for_every_pair_with_a_missing_row():
    for labels, logits in cases():
        expected = np.mean([pair(real, fake) for real in logits[labels == 0] for fake in logits[labels == 1]])
        assert missing.auroc(labels, logits) == pytest.approx(expected, **EXACT)


def test_prepared_for_many_draws_auroc_is_the_same():
    random = np.random.default_rng(2)
    for labels, logits in cases():
        prepared = missing.auroc_over(labels, logits)
        for _ in range(3):
            weights = random.integers(0, 3, size=len(labels))
            expected = missing.auroc(labels, logits, weights)
            assert prepared(weights) == pytest.approx(expected, **EXACT, nan_ok=True)


def test_accuracies_count_a_missing_row_as_half_right():
    for labels, logits in cases():
        right = np.where(np.isnan(logits), 0.5, (logits > 0.25) == labels)
        assert missing.accuracy(labels, logits, 0.25) == pytest.approx(right.mean(), **EXACT)
        expected = (right[labels == 0].mean() + right[labels == 1].mean()) / 2
        assert missing.balanced_accuracy(labels, logits, 0.25) == pytest.approx(expected, **EXACT)


def test_log_loss_gives_a_missing_row_probability_one_half():
    for labels, logits in cases():
        assert missing.log_loss(labels, logits) == pytest.approx(
            metrics.log_loss(labels, np.nan_to_num(logits)), **EXACT
        )


def test_with_nothing_missing_the_numbers_are_the_plain_ones():
    labels, logits = np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.4, 0.2, 0.15, 3.0])
    assert missing.auroc(labels, logits) == metrics.auroc(labels, logits)
    assert missing.log_loss(labels, logits) == pytest.approx(metrics.log_loss(labels, logits), **EXACT)
    assert missing.coverage(labels, logits) == (1.0, 1.0)


def test_weights_count_in_the_coverage():
    assert missing.coverage([0, 0, 1, 1], [1.0, np.nan, 1.0, np.nan], [3, 1, 1, 0]) == (0.75, 1.0)


def test_a_class_without_any_score_is_undefined_not_one_half():
    labels, logits = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, np.nan, np.nan])
    assert math.isnan(missing.auroc(labels, logits))
    assert math.isnan(missing.balanced_accuracy(labels, logits, 0.0))
    assert missing.coverage(labels, logits) == (1.0, 0.0)


def test_infinite_logits_are_refused_rather_than_taken_for_missing():
    with pytest.raises(metrics.BadScoresError):
        missing.auroc([0, 1], [0.0, np.inf])
