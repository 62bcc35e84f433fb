"""Tasks in, records out, spread over child processes; one that hangs or dies is ended and costs its file only."""

from __future__ import annotations

import multiprocessing as mp
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from dfdet.indexing.examine import Task, examine, verdict

# A child beats at every sampled frame; between two beats lie five decoded frames and one detection, so a silence
# this long is a hang. Reading the readers' verdict has no beat: it gets this, or twenty times the decoding.
SILENCE = 120.0
VERDICT_FLOOR, VERDICT_FACTOR = 20.0, 20.0
BEAT_EVERY = 1.0


def _child(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    last = time.monotonic()

    def beat() -> None:
        nonlocal last
        if time.monotonic() - last > BEAT_EVERY:
            last = time.monotonic()
            pipe.send(("beat", None))

    while True:
        try:
            task = pipe.recv()
        except EOFError:  # the parent has closed its end: no more work, or it is gone
            return
        started = time.monotonic()
        record, media = examine(task, beat)
        pipe.send(("examined", (record, time.monotonic() - started)))
        pipe.send(("verdict", verdict(task, media)))


@dataclass
class _Worker:
    """One child, the task it is at, what it has said of it, and when it must have spoken again."""

    context: Any
    process: Any = None
    pipe: Any = None
    task: Task | None = None
    record: dict[str, Any] | None = None
    deadline: float = field(default=float("inf"))

    def start(self) -> None:
        self.pipe, theirs = self.context.Pipe()
        self.process = self.context.Process(target=_child, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, task: Task) -> None:
        self.task, self.record = task, None
        self.deadline = time.monotonic() + SILENCE
        self.pipe.send(task)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()


def run(tasks: Sequence[Task], workers: int) -> Iterator[tuple[Task, dict[str, Any]]]:
    """Yields (task, record) as files are finished, in no fixed order.

    A record is what :func:`dfdet.indexing.examine.examine` returns, completed by the verdict. Where a child hangs or
    dies while decoding, the file is ``unreadable``; where it does so while decord is tried, decord is not used for it.
    """
    context = mp.get_context("spawn")
    left = list(reversed(tasks))
    crew = [_Worker(context) for _ in range(min(workers, len(tasks)))]
    try:
        for worker in crew:
            worker.start()
            worker.give(left.pop())
        while busy := [w for w in crew if w.task is not None]:
            for worker in _heard(busy):
                finished = _listen(worker)
                if finished is None:
                    continue
                yield finished
                worker.task, worker.deadline = None, float("inf")
                if left:
                    worker.give(left.pop())
    finally:
        for worker in crew:
            worker.stop()


def _heard(busy: list[_Worker]) -> list[_Worker]:
    """The workers that have spoken, died, or been silent too long."""
    patience = max(min(w.deadline for w in busy) - time.monotonic(), 0.0)
    ready = wait([w.pipe for w in busy], timeout=patience)
    now = time.monotonic()
    return [w for w in busy if w.pipe in ready or now >= w.deadline]


def _listen(worker: _Worker) -> tuple[Task, dict[str, Any]] | None:
    """Takes one message; returns the finished record, if it finishes one."""
    assert worker.task is not None
    task = worker.task
    if not worker.pipe.poll():
        return task, _ended(worker, f"gave no sign of life for {SILENCE:.0f} s")
    try:
        kind, content = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        return task, _ended(worker, f"ended the process that read it (exit code {worker.process.exitcode})")
    if kind == "beat":
        worker.deadline = time.monotonic() + SILENCE
        return None
    if kind == "examined":
        worker.record, seconds = content
        worker.deadline = time.monotonic() + max(VERDICT_FLOOR, VERDICT_FACTOR * seconds)
        return None
    assert worker.record is not None
    worker.record["row"] |= content
    return task, worker.record


def _ended(worker: _Worker, how: str) -> dict[str, Any]:
    """What is recorded of a file that hung or crashed its child; a new child takes the worker's place."""
    record = worker.record
    worker.stop()
    worker.start()
    if record is not None:
        record["row"] |= {"reader": "pyav", "reader_reason": f"decord {how}"}
        return record
    row = {"num_frames": 0, "reader": "none", "reader_reason": f"decoding {how}"}
    return {"row": row | {"status": "unreadable", "reason": f"decoding {how}"}, "tracks": {}}
