"""An epoch as a plan: which visit gives which clips to which batch; a pure function of its arguments.

A visit is one pass through a stretch of a video that yields several clips; they must not stand in one batch. So the
visits are taken in blocks: every visit of a block gives its first clip (in a shuffled order), then every one its
second, and so on; batches are cut from that row of slots. Starting at batch k means decoding again at most the visits
of one block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dfdet import seeds


@dataclass(frozen=True)
class EpochPlan:
    """Visits and slots of one epoch on one rank.

    Attributes:
        visits: int (V, u): the items of each visit (u = 2: a fake and its real, decoded side by side).
        laps: int (V,): how often its items were visited before.
        numbers: int (V,): the visit's number in the whole epoch, over all ranks: the name of its random draws.
        slots: int (n, 2): (visit, clip) in the order in which batches take them; a visit of u items fills u places.
        batch_size: Clips in a batch of this rank.
        epoch: The epoch.
    """

    visits: np.ndarray
    laps: np.ndarray
    numbers: np.ndarray
    slots: np.ndarray
    batch_size: int
    epoch: int

    @property
    def num_batches(self) -> int:
        """Whole batches; what is left over is not used in this epoch."""
        return len(self.slots) * self.visits.shape[1] // self.batch_size

    def wanted(self, first_batch: int) -> list[tuple[int, list[int]]]:
        """The visits that batches from ``first_batch`` on need, in order, each with the clips that are still wanted."""
        units = self.batch_size // self.visits.shape[1]
        rest = self.slots[first_batch * units : self.num_batches * units]
        clips: dict[int, list[int]] = {}
        for visit, clip in rest.tolist():
            clips.setdefault(visit, []).append(clip)
        return list(clips.items())


def visits_in_block(block: int, batch_size: int, items_a_visit: int, num_visits: int) -> int:
    """Visits of a rank that are mixed with each other, at most: ``block``, but at least two batches of them.

    What is left at the end and would not fill a batch is mixed with the block before it, so that it adds to that.
    """
    units = max(batch_size // items_a_visit, 1)
    return min(max(block, 2 * units) + units - 1, num_visits)


def batches_in(num_visits: int, items_a_visit: int, clips: int, batch_size: int, world: int) -> int:
    """How many batches an epoch has on each rank; the same number on all."""
    return (num_visits // world) * items_a_visit * clips // batch_size


def plan_epoch(
    items: np.ndarray,
    laps: np.ndarray,
    *,
    clips: int,
    batch_size: int,
    block: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
) -> EpochPlan:
    """Plans one epoch for one rank.

    Place p of the epoch's visits belongs to rank p mod world; so the union over ranks of batch k depends on the number
    of processes alone, not on how they are spread over nodes.

    Args:
        items: int (V, u): the epoch's visits in order (``sampling.draw``).
        laps: int (V,): how often each was visited before.
        clips: Clips a visit yields.
        batch_size: Clips in a batch of one rank; a multiple of u.
        block: Visits planned together on a rank: the larger, the better mixed, the more memory.
        seed: The run's seed.
        epoch: The epoch.
        rank: This process.
        world: Number of processes.
    """
    whole = len(items) // world * world
    mine = np.arange(rank, whole, world)
    units = max(batch_size // items.shape[1], 1)
    # neighbours of a block's rounds can only be kept out of one batch if the block holds two batches
    block = max(block, 2 * units)
    slots: list[np.ndarray] = []
    starts = list(range(0, len(mine), block))
    if len(starts) > 1 and len(mine) - starts[-1] < units:
        starts.pop()  # a block of fewer visits than a batch holds would put a visit into one batch twice
    for start, stop in zip(starts, [*starts[1:], len(mine)], strict=False):
        inside = np.arange(start, stop)
        slots += _rounds(inside, clips, units, sum(map(len, slots)), (seed, epoch, rank, start))
    order = np.concatenate(slots) if slots else np.zeros((0, 2), np.int64)
    return EpochPlan(items[mine], laps[mine], mine, order, batch_size, epoch)


def _rounds(
    inside: np.ndarray, clips: int, units: int, offset: int, name: tuple[int, int, int, int]
) -> list[np.ndarray]:
    """One array of (visit, clip) a round; no visit twice in one batch where the block has as many as a batch holds."""
    seed, epoch, rank, start = name
    rounds: list[np.ndarray] = []
    before = inside[:0]
    for clip in range(clips):
        draw = seeds.generator(seed, epoch, f"{rank}:{start}:{clip}", "round").permutation(len(inside))
        order = inside if clip == 0 else inside[draw]
        open_places = (offset + clip * len(inside)) % units
        tail = before[len(before) - open_places :] if clip and open_places else before[:0]
        clash = np.isin(order, tail)
        # what stands in the batch that is still open waits until that batch is full
        free, held = order[~clash], order[clash]
        room = units - open_places if open_places else 0
        order = np.concatenate([free[:room], held, free[room:]])
        rounds.append(np.stack([order, np.full(len(order), clip)], 1))
        before = order
    return rounds
