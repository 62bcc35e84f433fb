"""Visits in, batches out: workers decode, batches are put together behind them in the order of the plan."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dfdet.data.batch import ClipBatch, ClipSample, collate
from dfdet.data.plan import EpochPlan
from dfdet.data.visits import EvalVisit, TrainVisit, VisitMaker

Request = TrainVisit | EvalVisit


class _Visits(Dataset[list[ClipSample]]):
    def __init__(self, maker: VisitMaker) -> None:
        self.maker = maker

    def __getitem__(self, request: Request) -> list[ClipSample]:  # type: ignore[override]
        return self.maker(request)


class _Requests(Sampler[Any]):
    """The requests of the coming pass; set anew before each, so that workers can live on."""

    def __init__(self) -> None:
        self.requests: Sequence[Request] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.requests)

    def __len__(self) -> int:
        return len(self.requests)


def _start_worker(_: int) -> None:
    # Ctrl-C reaches the whole process group: the main process alone decides what it means
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _as_is(value: Any) -> Any:
    return value


class _VisitLoader:
    """What both loaders share: a torch DataLoader over requests, whose workers live as long as it does."""

    def __init__(self, maker: VisitMaker, num_workers: int, pin_memory: bool) -> None:
        self._requests = _Requests()
        self._pin = pin_memory
        self._loader = DataLoader(
            _Visits(maker),
            batch_size=None,
            sampler=self._requests,
            collate_fn=_as_is,
            num_workers=num_workers,
            worker_init_fn=_start_worker,
            persistent_workers=num_workers > 0,
            prefetch_factor=4 if num_workers > 0 else None,
        )

    def _visit(self, requests: Sequence[Request]) -> Iterator[list[ClipSample]]:
        self._requests.requests = requests
        return iter(self._loader)

    def _batch(self, samples: Sequence[ClipSample]) -> ClipBatch:
        batch = collate(samples)
        return batch.pin_memory() if self._pin else batch


class TrainLoader(_VisitLoader):
    """Batches of training, epoch after epoch.

    Args:
        maker: Makes the clips.
        plan_of: The plan of an epoch.
        num_batches: Batches an epoch, the same in all.
        position: (epoch, batch) to start from; asked when an epoch's first batch is taken, so that a resumed
            run starts inside its epoch.
        num_workers: Worker processes; 0 decodes in this one.
        pin_memory: Page-locked batches, for a GPU.
    """

    def __init__(
        self,
        maker: VisitMaker,
        plan_of: Callable[[int], EpochPlan],
        num_batches: int,
        position: Callable[[], tuple[int, int]],
        num_workers: int,
        pin_memory: bool,
    ) -> None:
        super().__init__(maker, num_workers, pin_memory)
        self._plan_of, self._num_batches, self._position = plan_of, num_batches, position

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[ClipBatch]:
        epoch, first = self._position()
        yield from self.batches(epoch, first)

    def batches(self, epoch: int, first: int = 0) -> Iterator[ClipBatch]:
        """The batches of one epoch from number ``first`` on."""
        plan = self._plan_of(epoch)
        wanted = plan.wanted(first)
        requests = [
            TrainVisit(tuple(plan.visits[v].tolist()), int(plan.numbers[v]), epoch, tuple(clips)) for v, clips in wanted
        ]
        made = zip(wanted, self._visit(requests), strict=True)
        width = plan.visits.shape[1]
        units = plan.batch_size // width
        waiting: dict[tuple[int, int], list[ClipSample]] = {}
        for batch in range(first, self._num_batches):
            slots = [(int(v), int(c)) for v, c in plan.slots[batch * units : (batch + 1) * units]]
            while any(slot not in waiting for slot in slots):
                (visit, clips), samples = next(made)
                for j, clip in enumerate(clips):
                    waiting[(visit, clip)] = samples[j * width : (j + 1) * width]
            yield self._batch([sample for slot in slots for sample in waiting.pop(slot)])
        for _ in made:  # lets the workers finish the pass, so that the next one starts clean
            pass


class EvalLoader(_VisitLoader):
    """Every clip of every video once, in the order of the items; the last batch may be smaller.

    Args:
        maker: Makes the clips.
        requests: The visits of this rank.
        batch_size: Clips a batch.
        num_workers: Worker processes; 0 decodes in this one.
        pin_memory: Page-locked batches, for a GPU.
    """

    def __init__(
        self, maker: VisitMaker, requests: Sequence[EvalVisit], batch_size: int, num_workers: int, pin_memory: bool
    ) -> None:
        super().__init__(maker, num_workers, pin_memory)
        self._visits, self._batch_size = requests, batch_size
        self._clips = sum(len(r.clips) for r in requests)

    def __len__(self) -> int:
        return -(-self._clips // self._batch_size)

    def __iter__(self) -> Iterator[ClipBatch]:
        waiting: list[ClipSample] = []
        for samples in self._visit(self._visits):
            waiting += samples
            while len(waiting) >= self._batch_size:
                yield self._batch(waiting[: self._batch_size])
                waiting = waiting[self._batch_size :]
        if waiting:
            yield self._batch(waiting)
