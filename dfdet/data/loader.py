"""Plans in, batches out: each clip is put into its batch as soon as its visit is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dfdet.data.batch import BatchBuilder, ClipBatch
from dfdet.data.buffers import Buffers
from dfdet.data.plan import EpochPlan
from dfdet.data.visits import VisitMaker
from dfdet.data.wanted import EvalVisit, TrainVisit
from dfdet.data.workers import VisitWorkers


class TrainLoader:
    """Batches of training, epoch after epoch.

    Args:
        maker: Makes the clips.
        plan_of: The plan of an epoch.
        num_batches: Batches an epoch, the same in all.
        position: (epoch, batch) to start from; asked when an epoch's first batch is taken, so that a resumed
            run starts inside its epoch.
        num_workers: Worker processes; 0 decodes in this one.
        pin_memory: Page-locked batches, for a GPU.
        patience: Seconds after which a visit that gives no answer is given up; None: by the length of its file.
    """

    def __init__(
        self,
        maker: VisitMaker,
        plan_of: Callable[[int], EpochPlan],
        num_batches: int,
        position: Callable[[], tuple[int, int]],
        num_workers: int,
        pin_memory: bool,
        patience: float | None = None,
    ) -> None:
        self._plan_of, self._num_batches, self._position = plan_of, num_batches, position
        self._maker, self._num_workers, self._patience = maker, num_workers, patience
        self._buffers = Buffers(pin_memory)
        self._workers: VisitWorkers | None = None

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[ClipBatch]:
        epoch, first = self._position()
        yield from self.batches(epoch, first)

    def close(self) -> None:
        """Ends the workers; another pass starts new ones."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def batches(self, epoch: int, first: int = 0) -> Iterator[ClipBatch]:
        """The batches of one epoch from number ``first`` on."""
        plan = self._plan_of(epoch)
        width = plan.visits.shape[1]
        if self._workers is None:
            clips = self._maker.choose.clips_per_visit * width
            self._workers = VisitWorkers(self._maker, self._num_workers, clips, self._patience)
        wanted = plan.wanted(first)
        visits = [
            TrainVisit(tuple(plan.visits[v].tolist()), int(plan.numbers[v]), epoch, tuple(clips), int(plan.laps[v]))
            for v, clips in wanted
        ]
        rows = _rows(plan, first, width)
        made = zip(wanted, self._workers.clips(visits), strict=True)
        building: dict[int, BatchBuilder] = {}
        for batch in range(first, self._num_batches):
            while batch not in building or not building[batch].full:
                (visit, clips), samples = next(made)
                for j, clip in enumerate(clips):
                    to, row = rows[(visit, clip)]
                    builder = building.setdefault(to, BatchBuilder(plan.batch_size, self._buffers))
                    for k in range(width):
                        builder.put(row + k, samples[j * width + k])
            yield building.pop(batch).batch()
        for _ in made:  # lets the workers finish the pass, so that the next one starts clean
            pass


def _rows(plan: EpochPlan, first: int, width: int) -> dict[tuple[int, int], tuple[int, int]]:
    """The batch of each (visit, clip) that is still to come, and its row there."""
    units = plan.batch_size // width
    left = range(first * units, plan.num_batches * units)
    slots: np.ndarray = plan.slots
    return {(int(slots[n, 0]), int(slots[n, 1])): (n // units, n % units * width) for n in left}


class EvalLoader:
    """Every clip of every video once, in the order of the items; the last batch may be smaller.

    Args:
        maker: Makes the clips.
        visits: The visits of this rank.
        batch_size: Clips a batch.
        num_workers: Worker processes; 0 decodes in this one.
        pin_memory: Page-locked batches, for a GPU.
        patience: As for :class:`TrainLoader`.
    """

    def __init__(
        self,
        maker: VisitMaker,
        visits: Sequence[EvalVisit],
        batch_size: int,
        num_workers: int,
        pin_memory: bool,
        patience: float | None = None,
    ) -> None:
        self._maker, self._visits, self._batch_size = maker, visits, batch_size
        self._buffers = Buffers(pin_memory)
        self._num_workers, self._patience = num_workers, patience
        self._workers: VisitWorkers | None = None
        self._clips = sum(len(visit.clips) for visit in visits)

    def __len__(self) -> int:
        return -(-self._clips // self._batch_size)

    def close(self) -> None:
        """Ends the workers; another pass starts new ones."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def __iter__(self) -> Iterator[ClipBatch]:
        if self._workers is None:
            # one face a video is the rule: its clips shall fit into a slot of the workers' shared memory
            common = int(np.median([len(visit.clips) for visit in self._visits])) if self._visits else 1
            self._workers = VisitWorkers(self._maker, self._num_workers, common, self._patience)
        left = self._clips
        builder = BatchBuilder(min(self._batch_size, left), self._buffers)
        row = 0
        for samples in self._workers.clips(self._visits):
            for sample in samples:
                builder.put(row, sample)
                row, left = row + 1, left - 1
                if builder.full:
                    yield builder.batch()
                    builder, row = BatchBuilder(min(self._batch_size, left), self._buffers), 0
