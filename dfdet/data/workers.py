"""Visits in, their clips out in order: worker processes decode into memory that they share with this one.

A worker that dies (a decoder that crashes) or hangs costs the visits that it was at: their clips have weight 0 and say
so. The others are made by new workers, from the place that had been reached.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from dfdet import console
from dfdet.data.batch import ClipSample
from dfdet.data.visits import VisitMaker
from dfdet.data.wanted import Visit, clips_in
from dfdet.errors import UserError
from dfdet.processes import end_with_the_parent

PREFETCH = 4  # visits that each worker makes ahead
STARTING = 120.0  # seconds that a worker may take to start
LOOK_EVERY = 1.0  # seconds between looks at whether the workers live
CLOSING = 600.0  # seconds that a worker may take to write what it holds for the store
MOST_DEATHS = 16  # in one pass: more is no matter of single files
NOTHING = -1
_NONE = np.empty(0, np.uint8)


def shared_zeros(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Memory that workers share with this process.

    Where they are forked it has no name: nothing is left of it whoever is killed, and a small /dev/shm does not matter.
    """
    count = int(np.prod(shape))
    if sys.platform != "linux" or count == 0:
        return torch.zeros(tuple(shape), dtype=dtype).share_memory_()
    return torch.frombuffer(mmap.mmap(-1, count * dtype.itemsize), dtype=dtype).view(tuple(shape))


class _Request(NamedTuple):
    """A visit to make; None: the pass is over."""

    number: int
    slot: int
    in_pass: int
    visit: Visit | None


class _Answer(NamedTuple):
    """The clips of a visit, their pixels where they are in no store and no slot, and what the user should be told."""

    clips: list[ClipSample]
    pixels: np.ndarray | None
    notes: list[str]


class _Visits(Dataset[Any]):
    """A request -> its clips, their pixels in its slot of the ring.

    Args:
        maker: Makes the clips.
        diary: int64 (workers, 2), shared: the process of each worker and the request that it is at, -1 for none.
        ring: uint8 (slots, clips, T, S, S, 3), shared.
    """

    def __init__(self, maker: VisitMaker, diary: Tensor, ring: Tensor) -> None:
        self.maker, self.diary, self.ring = maker, diary, ring
        self._pass = NOTHING

    def __getitem__(self, request: _Request) -> _Answer:  # type: ignore[override]
        self._note(request.number)
        if request.in_pass != self._pass:
            self._pass = request.in_pass
            self.maker.begin_pass()
        made: list[ClipSample] = []
        pixels = None
        if request.visit is None:
            self.maker.end_pass()
        elif get_worker_info() is None:
            made = self.maker(request.visit)
        else:
            slot, count = self.ring[request.slot], clips_in(request.visit)
            fits = count <= len(slot)
            made = self.maker(request.visit, slot[:count].numpy() if fits else None)
            if not fits and len(slot) and not all(sample.place for sample in made):
                # a video with many faces: its clips travel by pipe
                pixels = np.stack([sample.pixels for sample in made])
            made = [replace(sample, pixels=_NONE) for sample in made]
        self._note(NOTHING)
        return _Answer(made, pixels, self.maker.notes())

    def _note(self, number: int) -> None:
        worker = get_worker_info()
        if worker is not None:
            self.diary.numpy()[worker.id] = os.getpid(), number


class _Requests(Sampler[Any]):
    """The requests of the coming pass; set anew before each, so that workers can live on."""

    def __init__(self) -> None:
        self.requests: Sequence[_Request] = ()

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
    end_with_the_parent()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _as_is(value: Any) -> Any:
    return value


class VisitWorkers:
    """A torch DataLoader over visits, whose workers live as long as it does.

    Args:
        maker: Makes the clips.
        num_workers: Worker processes; 0 decodes in this one.
        clips: Clips that most visits give, at most; 0: their pixels are not wanted here.
        patience: Seconds after which a visit that gives no answer is given up; None: by the length of its file.
    """

    def __init__(self, maker: VisitMaker, num_workers: int, clips: int, patience: float | None = None) -> None:
        self._maker, self._workers, self._patience = maker, num_workers, patience
        self._clips = clips
        self._requests = _Requests()
        self._pass = 0
        self._start()

    def _start(self) -> None:
        # torch sends the request PREFETCH x workers later when one is taken, whose clips are still being copied; and a
        # ring of their own, since a worker that was given up may still write into its
        slots = PREFETCH * self._workers + 1 if self._workers else 0
        self._ring = shared_zeros((slots, self._clips, *self._maker.clip_shape), torch.uint8)
        self._diary = shared_zeros((self._workers, 2), torch.int64).fill_(NOTHING)
        # at its end python waits for its children without a limit
        weakref.finalize(self, _kill, self._diary, any_state=False)
        parallel = self._workers > 0
        look = LOOK_EVERY if self._patience is None else min(LOOK_EVERY, self._patience)
        self._loader = DataLoader(
            _Visits(self._maker, self._diary, self._ring),
            batch_size=None,
            sampler=self._requests,
            collate_fn=_as_is,
            num_workers=self._workers,
            worker_init_fn=_start_worker,
            persistent_workers=parallel,
            prefetch_factor=PREFETCH if parallel else None,
            timeout=look if parallel else 0,
            multiprocessing_context="fork" if parallel and sys.platform == "linux" else None,
            # its own, or the number of workers would decide what torch's global generator gives to the network
            generator=torch.Generator(),
        )

    def _start_anew(self) -> None:
        """Ends all workers, those too that hear nothing weaker (they wait for a dead disk), and starts others."""
        _kill(self._diary, any_state=True)
        self._start()

    def clips(self, visits: Sequence[Visit]) -> Iterator[list[ClipSample]]:
        """The clips of each visit, in order; their pixels hold until the next visit is asked for."""
        self._pass += 1
        lost: dict[int, str] = {}
        place = deaths = 0
        while True:
            order = self._order(visits, place, lost)
            results = self._results()
            try:
                while place < len(visits):
                    if place in lost:
                        yield self._maker.blank(visits[place], lost[place])
                    else:
                        yield self._next(results, place, visits[place], order[place])
                    place += 1
                for n in range(max(self._workers, 1)):
                    self._next(results, place, None, len(order) + n)
                return
            except _LostError as error:
                lost |= error.why
            deaths += 1
            if deaths > MOST_DEATHS:
                raise UserError(
                    f"loader workers died or hung {deaths} times in one pass",
                    "is there memory enough? Fewer data.num_workers and data.block_visits need less",
                )
            del results
            self._start_anew()
            if place == len(visits):
                return

    def _order(self, visits: Sequence[Visit], place: int, lost: Container[int]) -> dict[int, int]:
        """Sets the requests of a pass from ``place`` on; which in turn each of them is."""
        left = [number for number in range(place, len(visits)) if number not in lost]
        requests = [_Request(number, self._slot(n), self._pass, visits[number]) for n, number in enumerate(left)]
        # torch hands requests to its workers in turn, so that each gets one of the last
        requests += [_Request(len(visits), 0, self._pass, None)] * max(self._workers, 1)
        self._requests.requests = requests
        return {number: n for n, number in enumerate(left)}

    def _slot(self, n: int) -> int:
        """Where in the ring the clips of the n-th request of a pass lie."""
        return n % max(len(self._ring), 1)

    def _results(self) -> Iterator[Any]:
        with _one_opencv_thread(), _child_signal_kept():
            try:
                return iter(self._loader)
            except RuntimeError:  # a worker has died, or still hangs, since the last pass
                self._start_anew()
                return iter(self._loader)

    def _next(self, results: Iterator[_Answer], place: int, visit: Visit | None, n: int) -> list[ClipSample]:
        """The clips of the visit number ``place``, the ``n``-th that was asked for in this pass."""
        asked = since = time.monotonic()
        patience = self._patience
        if patience is None:
            patience = CLOSING if visit is None else self._maker.patience(visit)
        while True:
            try:
                samples, pixels, notes = next(results)
                break
            except (OSError, EOFError):  # what a dead worker had ready cannot be fetched any more
                raise _LostError(self._blamed() or {}) from None
            except RuntimeError as error:
                blamed = self._blamed()
                if blamed is not None:
                    raise _LostError(blamed) from None
                if not str(error).startswith("DataLoader timed out"):
                    raise
                now = time.monotonic()
                pid, at = self._diary[n % self._workers].tolist()  # torch asks its workers in turn
                if pid == NOTHING and now - asked < STARTING:
                    since = now
                if now - since > patience:
                    # a worker that is elsewhere, stopped with its answer under way, says nothing against the visit
                    why = {place: f"its reader gave no answer for {patience:.0f} s"} if at == place else {}
                    raise _LostError(why) from None
        for note in notes:
            console.warn(note)
        if self._workers == 0 or self._clips == 0:
            return samples
        if pixels is None:
            pixels = self._ring[self._slot(n)].numpy()
        return [
            replace(sample, pixels=pixels[j]) if sample.place is None else self._maker.placed(sample)
            for j, sample in enumerate(samples)
        ]

    def _blamed(self) -> dict[int, str] | None:
        """The requests that dead workers were at, none if they were idle; None where nobody died at work."""
        alive = {child.pid for child in multiprocessing.active_children()}
        dead = [number for pid, number in self._diary.tolist() if pid != NOTHING and pid not in alive]
        return {number: "the process that read it died" for number in dead if number != NOTHING} if dead else None


def _kill(diary: Tensor, any_state: bool) -> None:
    """Ends workers for good; if not in any state, then only those that would never end by themselves."""
    alive = {child.pid for child in multiprocessing.active_children()}
    for pid, _ in diary.tolist():
        if pid in alive and (any_state or _stuck(pid)):
            os.kill(pid, signal.SIGKILL)


def _stuck(pid: int) -> bool:
    """Whether a process is stopped or waits for a disk, as far as the system tells."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in "TtD"


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
