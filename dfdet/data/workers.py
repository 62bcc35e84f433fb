"""Visits in, their clips out in order: worker processes decode into memory that they share with this one.

A worker that dies (a decoder that crashes) or hangs costs the visit that it was at: its clips have weight 0 and say
so. Another worker takes its place and makes the visits that it had before it.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing import util
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dfdet import console
from dfdet.data.batch import ClipSample
from dfdet.data.visits import VisitMaker
from dfdet.data.wanted import Visit, clips_in
from dfdet.data.worker import UNBORN, LostError, Outcome, Worker, shared_zeros
from dfdet.errors import UserError

PREFETCH = 4  # visits that each worker makes ahead
SLOTS = PREFETCH + 1  # where their clips lie: one more, since one visit's are still being copied
STARTING = 120.0  # seconds that a worker may take to start
LOOK_EVERY = 1.0  # seconds between looks at whether it lives
CLOSING = 600.0  # seconds that a worker may take to write what it holds for the store
ENDING = 5.0  # seconds that workers may take to end
MOST_DEATHS = 16  # in one pass: more is no matter of single files
_NONE = np.empty(0, np.uint8)


class _Request(NamedTuple):
    """A visit to make; None: the pass is over.

    ``serial`` tells it from all others of its place, ``number`` is the visit's in the pass.
    """

    serial: int
    number: int
    in_pass: int
    slot: int
    visit: Visit | None


class _Answer(NamedTuple):
    """The clips of a visit, their pixels where they are in no store and no slot, and what the user should be told."""

    clips: list[ClipSample]
    pixels: np.ndarray | None
    notes: list[str]


class _Making:
    """A request -> its clips, their pixels in its slot; runs in the worker.

    Args:
        maker: Makes the clips.
        ring: uint8 (SLOTS, clips, T, S, S, 3), shared.
    """

    def __init__(self, maker: VisitMaker, ring: Tensor) -> None:
        self.maker, self.ring = maker, ring
        self._pass = 0

    def __call__(self, request: _Request) -> _Answer:
        if request.in_pass != self._pass:
            self._pass = request.in_pass
            self.maker.begin_pass()
        made: list[ClipSample] = []
        pixels = None
        if request.visit is None:
            self.maker.end_pass()
        else:
            slot, count = self.ring[request.slot], clips_in(request.visit)
            fits = count <= len(slot)
            made = self.maker(request.visit, slot[:count].numpy() if fits else None)
            if not fits and len(slot) and not all(sample.place for sample in made):
                # a video with many faces: its clips travel by pipe
                pixels = np.stack([sample.pixels for sample in made])
            made = [replace(sample, pixels=_NONE) for sample in made]
        return _Answer(made, pixels, self.maker.notes())


class _Seat:
    """A worker, the slots of its clips, its visits that were asked for and those that wait; outlives the process.

    Args:
        maker: Makes the clips.
        clips: Clips that a slot holds.
    """

    def __init__(self, maker: VisitMaker, clips: int) -> None:
        self.ring = shared_zeros((SLOTS, clips, *maker.clip_shape), torch.uint8)
        self.asked: deque[_Request] = deque()
        self.waiting: deque[int] = deque()
        self._maker = maker
        self._serial = 0
        self._held = -1  # the slot whose clips are being copied
        self.worker = Worker(_Making(maker, self.ring))

    def ask(self, number: int, in_pass: int, visit: Visit | None) -> None:
        """Gives it a visit; a death is noticed when an answer is fetched."""
        taken = {self._held, *(request.slot for request in self.asked)}
        self._serial += 1
        slot = next(slot for slot in range(SLOTS) if slot not in taken)
        request = _Request(self._serial, number, in_pass, slot, visit)
        self.asked.append(request)
        with contextlib.suppress(LostError):
            self.worker.ask(request.serial, request)

    def answered(self) -> _Request:
        """Takes the oldest request off the list; its clips lie in its slot until the next one is taken off."""
        request = self.asked.popleft()
        self._held = request.slot
        return request

    def start_anew(self, without: int, in_pass: int) -> _Request | None:
        """Another process goes on with what was asked, but one request (by its serial) and those of other passes.

        Returns:
            That request, if it is of this pass.
        """
        self.worker.kill()
        left = [request for request in self.asked if request.in_pass == in_pass]
        self.asked = deque(request for request in left if request.serial != without)
        self.worker = Worker(_Making(self._maker, self.ring))
        with contextlib.suppress(LostError):
            for request in self.asked:
                self.worker.ask(request.serial, request)
        return next((request for request in left if request.serial == without), None)


class VisitWorkers:
    """Processes that make visits; they live as long as it does.

    Args:
        maker: Makes the clips.
        num_workers: Worker processes; 0 decodes in this one.
        clips: Clips that most visits give, at most; 0: their pixels are not wanted here.
        patience: Seconds after which a visit that gives no answer is given up; None: by the length of its file.
    """

    def __init__(self, maker: VisitMaker, num_workers: int, clips: int, patience: float | None = None) -> None:
        self._maker, self._patience, self._clips = maker, patience, clips
        self._pass = self._deaths = 0
        self._lost: dict[int, str] = {}
        self._places = [_Seat(maker, clips) for _ in range(num_workers)]
        # with its owner, and at the end of this process before it ends its children by itself
        self._end = util.Finalize(self, _end, (self._places,), exitpriority=10)

    def close(self) -> None:
        """Ends the processes; there are no clips of it afterwards."""
        self._end()

    def clips(self, visits: Sequence[Visit]) -> Iterator[list[ClipSample]]:
        """The clips of each visit, in order; their pixels hold until the next visit is asked for."""
        self._pass, self._deaths, self._lost = self._pass + 1, 0, {}
        if not self._places:
            yield from self._made_here(visits)
            return
        # each visit, and at last the end of the pass, by its number
        for turn, place in enumerate(self._places):
            place.waiting = deque([*range(turn, len(visits), len(self._places)), len(visits)])
            self._top_up(place, visits)
        for number in range(len(visits)):
            place = self._places[number % len(self._places)]
            samples = self._fetch(place, number, visits)
            self._top_up(place, visits)
            yield samples
        for place in self._places:
            self._fetch(place, len(visits), visits)

    def _made_here(self, visits: Sequence[Visit]) -> Iterator[list[ClipSample]]:
        self._maker.begin_pass()
        for visit in visits:
            made = self._maker(visit)
            self._tell(self._maker.notes())
            yield made
        self._maker.end_pass()
        self._tell(self._maker.notes())

    def _top_up(self, place: _Seat, visits: Sequence[Visit]) -> None:
        while place.waiting and len(place.asked) < PREFETCH:
            number = place.waiting.popleft()
            place.ask(number, self._pass, visits[number] if number < len(visits) else None)

    def _fetch(self, place: _Seat, number: int, visits: Sequence[Visit]) -> list[ClipSample]:
        """The clips of the visit that is the next in its place, blank ones where they are lost; none of the end."""
        visit = visits[number] if number < len(visits) else None
        while number not in self._lost:
            self._top_up(place, visits)
            outcome = self._outcome(place, visit)
            if outcome is None:
                continue
            request, (answer, error) = place.answered(), outcome
            if request.in_pass != self._pass:  # asked for by a pass that nobody wanted to its end
                continue
            if error is not None:
                raise error
            self._tell(answer.notes)
            return self._with_pixels(place.ring[request.slot], answer)
        return [] if visit is None else self._maker.blank(visit, self._lost[number])

    def _outcome(self, place: _Seat, visit: Visit | None) -> Outcome | None:
        """What has become of the oldest request of a place; None if its worker was replaced."""
        patience = self._patience
        if patience is None or visit is None:
            patience = CLOSING if visit is None else self._maker.patience(visit)
        asked = since = time.monotonic()
        at = place.worker.at
        while True:
            try:
                outcome = place.worker.answer(min(LOOK_EVERY, patience))
            except LostError:
                self._replace(place, place.worker.at, "the process that read it died")
                return None
            if outcome is not None:
                return outcome
            now = time.monotonic()
            if at != place.worker.at or (at == UNBORN and now - asked < STARTING):
                at, since = place.worker.at, now
            if now - since > patience:
                # a worker that is elsewhere, stopped with its answer under way, says nothing against the visit
                self._replace(place, at, f"its reader gave no answer for {patience:.0f} s")
                return None

    def _replace(self, place: _Seat, at: int, why: str) -> None:
        self._deaths += 1
        if self._deaths > MOST_DEATHS:
            raise UserError(
                f"loader workers died or hung {self._deaths} times in one pass",
                "is there memory enough? Fewer data.num_workers and data.block_visits need less",
            )
        lost = place.start_anew(at, self._pass)
        if lost is not None:
            self._lost[lost.number] = why

    def _with_pixels(self, slot: Tensor, answer: _Answer) -> list[ClipSample]:
        if self._clips == 0:
            return answer.clips
        pixels = slot.numpy() if answer.pixels is None else answer.pixels
        return [
            replace(sample, pixels=pixels[j]) if sample.place is None else self._maker.placed(sample)
            for j, sample in enumerate(answer.clips)
        ]

    @staticmethod
    def _tell(notes: Sequence[str]) -> None:
        for note in notes:
            console.warn(note)


def _end(places: Sequence[_Seat]) -> None:
    until = time.monotonic() + ENDING
    for place in places:
        place.worker.stop()
    for place in places:
        place.worker.end(until)
