"""The table of features: bounded, and the same whatever the order in which batches come."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfdet.classical.table import FeatureTable
from dfdet.errors import UserError

CLIPS, ROWS = 40, 6


def parts(batch_of, seed=0):
    """Ten batches of four clips of six rows each, with features that name clip and row."""
    video = torch.zeros(4, 1, 3, 2, 2, dtype=torch.uint8)
    for first in range(0, CLIPS, 4):
        clip = np.repeat(np.arange(4), ROWS)
        features = np.stack([clip + first, np.tile(np.arange(ROWS), 4)], 1).astype(np.float32)
        yield features, clip, batch_of(video, first=first)


def filled(batch_of, limit, seed=0, order=None):
    table = FeatureTable(limit, seed)
    given = list(parts(batch_of))
    for place in order if order is not None else range(len(given)):
        table.add(*given[place])
    return table


@pytest.mark.parametrize("limit", [1000, 240, 100, 7])
def test_what_stays_is_the_same_in_any_order_of_batches(batch_of, limit):
    features, label = filled(batch_of, limit).sorted()
    other, same = filled(batch_of, limit, order=[7, 1, 9, 0, 3, 2, 8, 6, 5, 4]).sorted()
    assert len(features) == min(limit, CLIPS * ROWS)
    assert np.array_equal(features, other)
    assert np.array_equal(label, same)
    assert np.array_equal(label, features[:, 0] % 2)


def test_it_is_a_fair_draw_that_the_seed_decides(batch_of):
    drawn = [filled(batch_of, 60, seed).sorted()[0] for seed in range(40)]
    assert len({one.tobytes() for one in drawn}) == 40
    count = np.zeros((CLIPS, ROWS))
    for one in drawn:
        assert len(np.unique(one, axis=0)) == 60
        np.add.at(count, tuple(one.astype(int).T), 1)
    # 40 draws of a quarter of the rows: 10 each, standard deviation 2.7; no row and no clip is favoured
    assert count.min() > 0
    assert count.max() < 24
    assert np.abs(count.mean(1) - 10).max() < 5


def test_rows_come_out_by_item_and_row(batch_of):
    features, _ = filled(batch_of, 1000, order=[7, 1, 9, 0, 3, 2, 8, 6, 5, 4]).sorted()
    assert features.tolist() == [[clip, row] for clip in range(CLIPS) for row in range(ROWS)]


def test_several_processes_together_keep_what_one_would(batch_of):
    given = list(parts(batch_of))
    tables = [FeatureTable(50), FeatureTable(50)]
    for place, part in enumerate(given):
        tables[place % 2].add(*part)
    whole = FeatureTable(50)
    for table in tables:
        whole.merge(table)
    assert np.array_equal(whole.sorted()[0], filled(batch_of, 50).sorted()[0])


def test_memory_is_bounded_by_the_limit(batch_of):
    table = filled(batch_of, 50)
    assert len(table) == 50
    assert all(len(part) == 50 for part in (table._features, table._keys, table._draws))


def test_its_state_goes_on_where_it_was(batch_of):
    given = list(parts(batch_of))
    first = FeatureTable(50)
    for part in given[:6]:
        first.add(*part)
    second = FeatureTable(50)
    second.restore({name: tensor.clone() for name, tensor in first.state().items()})
    for part in given[6:]:
        second.add(*part)
    assert np.array_equal(second.sorted()[0], filled(batch_of, 50).sorted()[0])


def test_bytes_stay_bytes_until_they_are_fitted_on(batch_of):
    _, clip, batch = next(parts(batch_of))
    table = FeatureTable(1000)
    table.add(np.full((len(clip), 5), 255, np.uint8), clip, batch)
    assert table.rows()[0].dtype == np.uint8
    assert table.sorted()[0].dtype == np.float32


def test_a_batch_without_rows_adds_none(batch_of):
    _, _, batch = next(parts(batch_of))
    table = FeatureTable(10)
    table.add(np.empty((0, 5), np.float32), np.empty(0, np.int64), batch)
    assert len(table) == 0


def test_a_damaged_state_is_one_line():
    with pytest.raises(UserError, match="the checkpoint's feature table is damaged"):
        FeatureTable(10).restore({"features": torch.zeros(3, 2)})
