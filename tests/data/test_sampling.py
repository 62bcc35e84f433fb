"""What the choice of an epoch's videos promises: shares, evenness over epochs, pairs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dfdet.data.sampling import draw, pair_up, quotas, walk

# source 0: 10 real, 30 fake; source 1: 5 real, 5 fake; source 2: 8 fake alone
SOURCE = np.repeat([0, 1, 2], [40, 10, 8])
LABEL = np.concatenate([np.repeat([0, 1], [10, 30]), np.repeat([0, 1], [5, 5]), np.ones(8, int)])


def drawn(weights=(None, None, None), *, keep=slice(None), balance=True, total=60, epoch=0, seed=0):
    source, label = SOURCE[keep], LABEL[keep]
    return source, label, draw(source, label, weights, balance=balance, total=total, epoch=epoch, seed=seed)[0]


@pytest.mark.parametrize(("total", "shares"), [(10, [1, 1]), (7, [1, 1, 1]), (100, [0.3, 0.3, 0.4]), (1, [1, 2])])
def test_quotas_add_up_and_lie_within_one_of_the_exact_share(total, shares):
    found = quotas(total, shares)
    assert sum(found) == total
    exact = total * np.array(shares) / sum(shares)
    assert (np.abs(np.array(found) - exact) < 1).all()


@pytest.mark.parametrize("weights", [(None, None, None), (1.0, 1.0, 1.0), (5.0, 1.0, 2.0)])
def test_balanced_means_half_real_and_half_fake_also_beside_a_source_of_fakes_alone(weights):
    _, label, items = drawn(weights)
    assert Counter(label[items].tolist()) == {0: 30, 1: 30}


def test_weights_are_shares_of_the_visits():
    source, label, items = drawn((3.0, 1.0), keep=slice(0, 50), total=80)
    assert Counter(source[items].tolist()) == {0: 60, 1: 20}
    assert Counter(zip(source[items].tolist(), label[items].tolist(), strict=True)) == {
        (0, 0): 30, (0, 1): 30, (1, 0): 10, (1, 1): 10,
    }  # fmt: skip


def test_unbalanced_and_unweighted_one_epoch_is_every_video_once():
    _, _, items = drawn(balance=False, total=58)
    assert sorted(items.tolist()) == list(range(58))


@pytest.mark.parametrize("quota", [1, 3, 7, 10, 23])
def test_over_epochs_each_video_is_seen_equally_often_whatever_the_quota(quota):
    members = np.arange(100, 110)
    seen = Counter()
    for epoch in range(10):
        drawn, laps = walk(members, quota, epoch, 5, "x")
        for member, lap in zip(drawn.tolist(), laps.tolist(), strict=True):
            assert lap == seen[member]
            seen[member] += 1
        assert max(seen.values()) - min(seen[m] for m in members.tolist()) <= 1
    assert set(seen.values()) == {quota}


def test_an_epoch_is_a_function_of_seed_and_epoch():
    assert drawn(epoch=3)[2].tolist() == drawn(epoch=3)[2].tolist()
    assert drawn(epoch=3)[2].tolist() != drawn(epoch=4)[2].tolist()
    assert drawn(seed=0)[2].tolist() != drawn(seed=1)[2].tolist()


def test_the_minority_is_visited_more_often_but_evenly():
    _, label, items = drawn((None,), keep=slice(0, 40), total=40)
    counts = Counter(items[label[items] == 0].tolist())
    assert set(counts.values()) == {2}
    assert len(counts) == 10


def test_each_fake_stands_beside_the_video_that_it_was_made_from():
    rows = [
        {"corpus": "a", "video_id": "r0", "original": None},
        {"corpus": "a", "video_id": "f0", "original": "r0"},
        {"corpus": "b", "video_id": "r0", "original": None},
        {"corpus": "b", "video_id": "f1", "original": "r0"},
        {"corpus": "b", "video_id": "f2", "original": "gone"},
        {"corpus": "b", "video_id": "f3", "original": "f1"},
        {"corpus": "a", "video_id": "f4", "original": "r0"},
    ]
    label = np.array([0, 1, 0, 1, 1, 1, 1])
    assert pair_up(rows, label).tolist() == [[1, 0], [3, 2], [6, 0]]


def test_no_pair_is_an_empty_table_of_pairs():
    assert pair_up([], np.zeros(0, int)).shape == (0, 2)
