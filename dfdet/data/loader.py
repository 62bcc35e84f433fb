"""Visits in, batches out: workers decode, batches are put together behind them in the order of the plan."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from dfdet.data.batch import ClipBatch, ClipSample, collate
from dfdet.data.plan import EpochPlan
from dfdet.data.visits import EvalVisit, TrainVisit, VisitMaker
from dfdet.errors import UserError

Request = TrainVisit | EvalVisit

PREFETCH = 4  # visits that each worker makes ahead
PATIENCE = 600.0  # seconds that one visit may take; the longest exact pass through an hour of video stays below
LOOK_EVERY = 5.0  # seconds between looks at whether the workers live
MOST_DEATHS = 16  # in one pass: more is no matter of single files
NOTHING = -1
ELSEWHERE = torch.empty(0, dtype=torch.uint8)


class _Visits(Dataset[Any]):
    """(number, request) -> the clips' pixels in one tensor, and the clips without them.

    One tensor, because each that comes from a worker holds an open file as long as it lives (an empty one does not).

    Args:
        maker: Makes the clips.
        diary: int64 (workers, 2), shared: the process of each worker and the request that it is at, -1 for none.
    """

    def __init__(self, maker: VisitMaker, diary: Tensor) -> None:
        self.maker, self.diary = maker, diary

    def __getitem__(self, numbered: tuple[int, Request]) -> tuple[Tensor, list[ClipSample]]:  # type: ignore[override]
        number, request = numbered
        self._note(number)
        samples = self.maker(request)
        self._note(NOTHING)
        videos = torch.stack([sample.video for sample in samples])
        return videos, [replace(sample, video=ELSEWHERE) for sample in samples]

    def _note(self, number: int) -> None:
        worker = get_worker_info()
        if worker is not None:
            self.diary[worker.id] = torch.tensor([os.getpid(), number])


class _Requests(Sampler[Any]):
    """The numbered requests of the coming pass; set anew before each, so that workers can live on."""

    def __init__(self) -> None:
        self.requests: Sequence[tuple[int, Request]] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.requests)

    def __len__(self) -> int:
        return len(self.requests)


class _LostError(Exception):
    """Workers died or hang; ``why`` by the number of the request that each was at."""

    def __init__(self, why: dict[int, str]) -> None:
        super().__init__(f"{len(why)} visits were lost with their loader workers")
        self.why = why


def _start_worker(_: int) -> None:
    # these reach the whole process group or job step: the main process alone decides what they mean
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _as_is(value: Any) -> Any:
    return value


class _VisitLoader:
    """What both loaders share: a torch DataLoader over requests, whose workers live as long as it does.

    A worker that dies (a decoder that crashes) or hangs costs the visits that it was at: their clips have weight 0 and
    say so. The others are made by new workers, from the place that the loader had reached.
    """

    def __init__(self, maker: VisitMaker, num_workers: int, pin_memory: bool, patience: float) -> None:
        self._maker, self._workers, self._pin, self._patience = maker, num_workers, pin_memory, patience
        self._requests = _Requests()
        self._start()

    def _start(self) -> None:
        self._diary = torch.full((self._workers, 2), NOTHING, dtype=torch.int64).share_memory_()
        parallel = self._workers > 0
        self._loader = DataLoader(
            _Visits(self._maker, self._diary),
            batch_size=None,
            sampler=self._requests,
            collate_fn=_as_is,
            num_workers=self._workers,
            worker_init_fn=_start_worker,
            persistent_workers=parallel,
            prefetch_factor=PREFETCH if parallel else None,
            timeout=min(LOOK_EVERY, self._patience) if parallel else 0,
            # its own, or the number of workers would decide what torch's global generator gives to the network
            generator=torch.Generator(),
        )

    def _visit(self, requests: Sequence[Request]) -> Iterator[list[ClipSample]]:
        """The clips of each request, in order."""
        lost: dict[int, str] = {}
        place = deaths = 0
        while place < len(requests):
            left = range(place, len(requests))
            self._requests.requests = [(n, requests[n]) for n in left if n not in lost]
            results = self._results()
            for place in left:
                if place in lost:
                    made = self._maker.blank(requests[place], lost[place])
                else:
                    try:
                        made = self._next(results, place)
                    except _LostError as error:
                        lost |= error.why
                        break
                yield made
            else:
                return
            deaths += 1
            if deaths > MOST_DEATHS:
                raise UserError(
                    f"loader workers died or hung {deaths} times in one pass",
                    "is there memory enough? Fewer data.num_workers and data.block_visits need less",
                )
            del results
            self._start()

    def _results(self) -> Iterator[Any]:
        with _one_opencv_thread(), _child_signal_kept():
            try:
                return iter(self._loader)
            except RuntimeError:  # a worker has died, or still hangs, since the last pass
                self._start()
                return iter(self._loader)

    def _next(self, results: Iterator[Any], place: int) -> list[ClipSample]:
        since = time.monotonic()
        while True:
            try:
                videos, samples = next(results)
                break
            except (OSError, EOFError):  # what a dead worker had ready cannot be fetched any more
                raise _LostError(self._blamed() or {}) from None
            except RuntimeError as error:
                blamed = self._blamed()
                if blamed is not None:
                    raise _LostError(blamed) from None
                if not str(error).startswith("DataLoader timed out"):
                    raise
                if time.monotonic() - since > self._patience:
                    raise _LostError({place: f"its reader gave no answer for {self._patience:.0f} s"}) from None
        # copies, where the clips came through shared memory: they wait long, and would keep it
        return [replace(s, video=v.clone() if self._workers else v) for v, s in zip(videos, samples, strict=True)]

    def _blamed(self) -> dict[int, str] | None:
        """The requests that dead workers were at, none if they were idle; None where nobody died at work."""
        alive = {child.pid for child in multiprocessing.active_children()}
        dead = [number for pid, number in self._diary.tolist() if pid != NOTHING and pid not in alive]
        return {number: "the process that read it died" for number in dead if number != NOTHING} if dead else None

    def _batch(self, samples: Sequence[ClipSample]) -> ClipBatch:
        batch = collate(samples)
        return batch.pin_memory() if self._pin else batch


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Ends OpenCV's threads while workers are forked: one that inherits their pool without them waits for ever."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


@contextmanager
def _child_signal_kept() -> Iterator[None]:
    """Takes back the handler by which torch raises a worker's death wherever the main process happens to be."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before if before is not None else signal.SIG_DFL)


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
        patience: Seconds after which a visit that gives no answer is given up.
    """

    def __init__(
        self,
        maker: VisitMaker,
        plan_of: Callable[[int], EpochPlan],
        num_batches: int,
        position: Callable[[], tuple[int, int]],
        num_workers: int,
        pin_memory: bool,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(maker, num_workers, pin_memory, patience)
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
        patience: Seconds after which a visit that gives no answer is given up.
    """

    def __init__(
        self,
        maker: VisitMaker,
        requests: Sequence[EvalVisit],
        batch_size: int,
        num_workers: int,
        pin_memory: bool,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(maker, num_workers, pin_memory, patience)
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
