"""What the plan of an epoch promises, whatever the sizes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dfdet.data.plan import batches_in, plan_epoch, visits_in_block


def drawn_sizes(count):
    """Random sizes of an epoch, small and large, that fill a batch on each rank."""
    rng = np.random.default_rng(7)
    found = []
    while len(found) < count:
        width = int(rng.integers(1, 3))
        sizes = {
            "visits": int(rng.integers(1, 120)),
            "width": width,
            "clips": int(rng.integers(1, 7)),
            "batch_size": width * int(rng.integers(1, 17)),
            "block": int(rng.integers(1, 60)),
            "world": int(rng.integers(1, 5)),
        }
        if (sizes["visits"] // sizes["world"]) * width * sizes["clips"] >= sizes["batch_size"]:
            found.append(sizes)
    return found


SIZES = drawn_sizes(60)
FILLED = [s for s in SIZES if s["visits"] // s["world"] >= s["batch_size"] // s["width"]]


def plan_of(visits, width, clips, batch_size, block, world, rank=0, seed=3, epoch=2):
    items = np.arange(visits * width).reshape(visits, width)
    return plan_epoch(
        items,
        np.zeros(visits, int),
        clips=clips,
        batch_size=batch_size,
        block=block,
        seed=seed,
        epoch=epoch,
        rank=rank,
        world=world,
    )


def batches(plan):
    """The (visit number, clip) pairs of every batch."""
    units = plan.batch_size // plan.visits.shape[1]
    slots = [(int(plan.numbers[v]), int(c)) for v, c in plan.slots]
    return [slots[b * units : (b + 1) * units] for b in range(plan.num_batches)]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
class TestWhateverTheSizes:
    def test_every_visit_gives_each_of_its_clips_once(self, sizes):
        plan = plan_of(**sizes)
        expected = {(v, c) for v in range(len(plan.visits)) for c in range(sizes["clips"])}
        assert Counter(map(tuple, plan.slots.tolist())) == Counter(expected)

    def test_starting_at_a_batch_asks_for_the_clips_of_it_and_what_follows(self, sizes):
        plan = plan_of(**sizes)
        whole = batches(plan)
        for first in range(plan.num_batches + 1):
            asked = {(int(plan.numbers[v]), c) for v, clips in plan.wanted(first) for c in clips}
            assert asked == {slot for batch in whole[first:] for slot in batch}

    def test_resuming_makes_at_most_one_block_of_visits_again(self, sizes):
        plan = plan_of(**sizes)
        bound = visits_in_block(sizes["block"], sizes["batch_size"], sizes["width"], len(plan.visits))
        units = sizes["batch_size"] // sizes["width"]
        for first in range(plan.num_batches):
            before = {int(v) for v, _ in plan.slots[: first * units]}
            assert len(before & {v for v, _ in plan.wanted(first)}) <= bound

    def test_every_rank_has_as_many_batches_as_was_said_beforehand(self, sizes):
        said = batches_in(sizes["visits"], sizes["width"], sizes["clips"], sizes["batch_size"], sizes["world"])
        assert {plan_of(**sizes, rank=r).num_batches for r in range(sizes["world"])} == {said}

    def test_ranks_share_no_visit_and_leave_out_fewer_than_one_each(self, sizes):
        numbers = np.concatenate([plan_of(**sizes, rank=r).numbers for r in range(sizes["world"])])
        assert len(set(numbers.tolist())) == len(numbers)
        assert sizes["visits"] - len(numbers) < sizes["world"]


@pytest.mark.parametrize("sizes", FILLED, ids=str)
def test_no_visit_stands_twice_in_one_batch_where_a_rank_has_as_many_as_a_batch_holds(sizes):
    for batch in batches(plan_of(**sizes)):
        visits = [visit for visit, _ in batch]
        assert len(set(visits)) == len(visits)


def test_a_plan_is_a_function_of_its_arguments():
    sizes = SIZES[0]
    one, two = plan_of(**sizes), plan_of(**sizes)
    assert one.slots.tolist() == two.slots.tolist()
    assert one.visits.tolist() == two.visits.tolist()


@pytest.mark.parametrize("change", [{"seed": 4}, {"epoch": 3}])
def test_another_seed_or_epoch_gives_another_order(change):
    sizes = {"visits": 64, "width": 1, "clips": 4, "batch_size": 8, "block": 32, "world": 1}
    assert plan_of(**sizes).slots.tolist() != plan_of(**sizes, **change).slots.tolist()


def test_the_clips_of_a_visit_are_spread_over_its_block():
    plan = plan_of(visits=256, width=1, clips=4, batch_size=8, block=64, world=1)
    where = {}
    for number, batch in enumerate(batches(plan)):
        for visit, _ in batch:
            where.setdefault(visit, []).append(number)
    assert all(len(set(found)) == 4 for found in where.values())
    assert all(max(found) - min(found) < 64 * 4 // 8 for found in where.values())


def test_items_of_a_visit_stay_side_by_side():
    plan = plan_of(visits=40, width=2, clips=3, batch_size=8, block=16, world=2, rank=1)
    assert (plan.visits[:, 1] == plan.visits[:, 0] + 1).all()
