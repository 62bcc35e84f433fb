"""Intervals: whole groups are drawn, they cover what they say, and too few groups give none."""

from __future__ import annotations

import math
import time

import numpy as np
import pandas as pd
import pytest

from dfdet import seeds
from dfdet.evaluation import metrics
from dfdet.evaluation.intervals import bootstrap, clusters


def simulated(random, groups=60, per_group=4, shift=1.0, spread=0.7):
    """Groups with an offset of their own, each with reals and fakes, so that rows of a group go together."""
    group = np.repeat(np.arange(groups), per_group)
    label = np.tile(np.arange(per_group) % 2, groups)
    logit = random.normal(size=len(group)) + shift * label + spread * random.normal(size=groups)[group]
    return pd.DataFrame({"label": label, "logit": logit}), group


def test_a_draw_takes_whole_groups_as_a_slow_reference_does():
    table, groups = simulated(np.random.default_rng(0), groups=12, per_group=3)
    table["logit"] = table["logit"].round(1)
    random, values = seeds.generator(4, 0, "groups", "bootstrap"), []
    while len(values) < 200:
        drawn = random.integers(12, size=12)
        rows = pd.concat([table[groups == g] for g in drawn])
        if rows["label"].nunique() == 2:
            values.append(metrics.auroc(rows["label"], rows["logit"]))
    found = bootstrap(metrics.auroc, table, groups, draws=200, seed=4, level=0.9)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])), abs=1e-12)


def test_draws_without_both_classes_are_drawn_again_and_counted():
    label = np.repeat([0, 1], 10)
    table = pd.DataFrame({"label": label, "logit": label * 1.0})
    seen = []

    def metric(labels, logits, weights):
        seen.append(weights)
        return math.nan if weights[0] < 1 else metrics.auroc(labels, logits, weights)

    found = bootstrap(metric, table, np.arange(20), draws=50)
    assert found.redrawn == len(seen) - 50 > 0
    assert (found.low, found.high) == (1.0, 1.0)


def test_a_metric_that_is_never_defined_gives_no_interval_and_ends():
    table, groups = simulated(np.random.default_rng(0))
    found = bootstrap(lambda *_: math.nan, table, groups, draws=20)
    assert not found
    assert "undefined" in found.reason


@pytest.mark.parametrize(("label", "word"), [(0, "reals"), (1, "fakes")])
def test_fewer_than_ten_groups_of_a_class_give_no_interval_and_the_reason(label, word):
    table = pd.DataFrame({"label": [label] * 9 + [1 - label] * 40, "logit": np.arange(49.0)})
    found = bootstrap(metrics.auroc, table, np.arange(49))
    assert not found
    assert math.isnan(found.low)
    assert found.reason == f"9 groups with scored {word}, at least 10 are needed"
    table.loc[9, "label"] = label
    assert bootstrap(metrics.auroc, table, np.arange(49), draws=20)


def test_a_group_that_was_not_scored_does_not_count_as_one():
    table = pd.DataFrame({"label": [0, 1] * 10, "logit": np.arange(20.0)})
    table.loc[0, "logit"] = np.nan
    assert "9 groups with scored reals" in bootstrap(metrics.auroc, table, np.arange(20)).reason


def test_the_order_of_the_rows_and_the_names_of_the_groups_do_not_matter_and_the_seed_does():
    table, groups = simulated(np.random.default_rng(1))
    first = bootstrap(metrics.auroc, table, groups, draws=100, seed=1)
    order = np.random.default_rng(2).permutation(len(table))
    assert bootstrap(metrics.auroc, table.iloc[order], groups[order], draws=100, seed=1) == first
    named = np.array([f"g{g:03d}" for g in groups])
    assert bootstrap(metrics.auroc, table, named, draws=100, seed=1) == first
    assert bootstrap(metrics.auroc, table, groups, draws=100, seed=2) != first


def test_rows_that_go_together_make_the_interval_wider():
    random = np.random.default_rng(3)
    label = np.repeat(np.arange(40) % 2, 10)
    groups = np.repeat(np.arange(40), 10)
    table = pd.DataFrame(
        {"label": label, "logit": label + 2 * random.normal(size=40)[groups] + random.normal(size=400)}
    )
    together = bootstrap(metrics.auroc, table, groups, draws=300)
    apart = bootstrap(metrics.auroc, table, np.arange(400), draws=300)
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


def test_a_95_percent_interval_holds_the_truth_about_that_often():
    random = np.random.default_rng(8)
    far, _ = simulated(random, groups=4000)
    # the truth is over independent pairs: those within one group are too few to matter at 4000 groups
    truth = metrics.auroc(far["label"], far["logit"])
    held = []
    for seed in range(200):
        found = bootstrap(metrics.auroc, *simulated(random), draws=200, seed=seed)
        held.append(found.low <= truth <= found.high)
    assert 0.90 <= np.mean(held) <= 0.99


def test_a_thousand_draws_over_five_thousand_videos_take_less_than_three_seconds():
    table, groups = simulated(np.random.default_rng(9), groups=2500, per_group=2)
    start = time.process_time()
    assert bootstrap(metrics.auroc, table, groups, draws=1000)
    assert time.process_time() - start < 3


def test_groups_are_told_apart_by_corpus_and_a_video_without_one_stands_alone():
    table = pd.DataFrame(
        {
            "corpus": ["a", "b", "a", "a", "a"],
            "video_id": ["v", "v", "w", "x", "y"],
            "group": ["g", "g", "g", None, None],
        }
    )
    keys = clusters(table).tolist()
    assert keys[0] == keys[2] != keys[1]
    assert len(set(keys)) == 4
