"""Tasks in, records out, spread over child processes; one that hangs or dies is ended and costs its file only."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from dfdet.errors import UserError
from dfdet.indexing.examine import Beat, Task, examine, size_of, verdict
from dfdet.processes import end_with_the_parent, interrupts_held

# A child beats at every sampled frame; between two beats lie five decoded frames and one detection, so a silence
# this long is a hang. Reading the readers' verdict has no beat: it gets this, or twenty times the decoding.
SILENCE = 120.0
VERDICT_FLOOR, VERDICT_FACTOR = 20.0, 20.0
BEAT_EVERY = 1.0
# A child that dies at a file may have been killed for what another process did (out of memory, a user's kill): the file
# is at fault when it has happened this often. Before a child has begun it is never the file's fault.
TRIES, STARTS = 3, 10


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _child(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_the_parent()
    last = time.monotonic()

    def beat() -> None:
        nonlocal last
        if time.monotonic() - last > BEAT_EVERY:
            last = time.monotonic()
            pipe.send(("beat", None))

    # the parent has closed its end, no more work; or it was killed, and there is nobody to speak to
    with suppress(EOFError, OSError):
        while True:
            _work(pipe.recv(), pipe, beat)


def _work(task: Task, pipe: Connection, beat: Beat) -> None:
    """Tells the parent what :func:`_listen` understands of one file."""
    pipe.send(("begun", None))
    started = time.monotonic()
    try:
        record, media = examine(task, beat)
        pipe.send(("examined", (record, time.monotonic() - started)))
        pipe.send(("verdict", verdict(task, media)))
    except UserError as error:  # a face model that cannot be loaded is no fault of the file
        pipe.send(("refused", (error.what, error.hint)))
    except MemoryError:
        pipe.send(("starved", None))
    except Exception as error:  # noqa: BLE001 - a file that trips one of the libraries costs itself only
        pipe.send(("failed", f"{type(error).__name__}: {error}"))


@dataclass
class _Worker:
    """One child, the task it is at, what it has said of it, and when it must have spoken again.

    Attributes:
        begun: Whether the child has said that it is at the task.
        tries: Children that died at the task.
        starts: Children that were started one after the other and did not come to a task.
    """

    context: Any
    process: Any = None
    pipe: Any = None
    task: Task | None = None
    record: dict[str, Any] | None = None
    begun: bool = False
    tries: int = 0
    starts: int = 0
    deadline: float = field(default=float("inf"))

    def start(self) -> None:
        self.pipe, theirs = self.context.Pipe()
        self.process = self.context.Process(target=_child, args=(theirs,), daemon=True)
        with interrupts_held():
            self.process.start()
        theirs.close()

    def give(self, task: Task) -> None:
        self.task, self.tries = task, 0
        self.send()

    def send(self) -> None:
        """Sends the child its task, from the beginning."""
        self.record, self.begun = None, False
        self.deadline = time.monotonic() + SILENCE
        with suppress(OSError):  # it died between two files: that is seen when it is listened to
            self.pipe.send(self.task)

    def restart(self) -> None:
        """A new child takes the place of one that hung or died."""
        self.stop()
        self.start()

    def stop(self) -> None:
        if self.process is not None and self.process.pid is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()


def run(tasks: Sequence[Task], workers: int) -> Generator[tuple[Task, dict[str, Any]], None, None]:
    """Yields (task, record) as files are finished, in no fixed order.

    A record is what :func:`dfdet.indexing.examine.examine` returns, completed by the verdict. Where a child hangs while
    decoding, or dies each time, the file is ``unreadable``; where it does so while decord is tried, decord is not used
    for it.

    Raises:
        UserError: If a face model cannot be loaded, or children die before they begin.
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
        # without the seconds: two runs are equal byte for byte
        return _given_up(worker, "hung") if worker.begun else _started_again(worker, "hang")
    try:
        kind, content = worker.pipe.recv()
    except (EOFError, OSError):  # OSError: it died in the middle of a message
        worker.process.join()
        code = worker.process.exitcode
        if not worker.begun:
            return _started_again(worker, f"die with exit code {code}")
        return _tried(worker, f"ended the process that read it (exit code {code})")
    if kind == "begun":
        worker.begun, worker.starts = True, 0
        return None
    if kind == "refused":
        raise UserError(*content)
    if kind == "starved":
        return _tried(worker, "ran out of memory")
    if kind == "failed":
        return task, _ended(worker, f"failed ({' '.join(content.split())})")
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


def _started_again(worker: _Worker, how: str) -> tuple[Task, dict[str, Any]] | None:
    """A new child takes the place of one that never came to its file; nothing is finished by that.

    Raises:
        UserError: If none of many does.
    """
    worker.starts += 1
    if worker.starts >= STARTS:
        raise UserError(
            f"the processes that are to read files {how} before they begin",
            "is there memory enough? Fewer --workers need less",
        )
    worker.restart()
    worker.send()
    return None


def _tried(worker: _Worker, how: str) -> tuple[Task, dict[str, Any]] | None:
    """A new child tries the file again, unless that has been done often enough."""
    worker.tries += 1
    if worker.tries >= TRIES:
        return _given_up(worker, how)
    worker.restart()
    worker.send()
    return None


def _given_up(worker: _Worker, how: str) -> tuple[Task, dict[str, Any]]:
    """What is known of a file on which no child came to an end, and a new child for the next one."""
    assert worker.task is not None
    record = _ended(worker, how)
    worker.restart()
    return worker.task, record


def _ended(worker: _Worker, how: str) -> dict[str, Any]:
    """What is recorded of a file on which the child came to no end."""
    assert worker.task is not None
    record = worker.record
    if record is not None:
        # its seeks may not have been proven either: it is decoded from its start
        unproven = {"pts_start": None, "pts_step": None, "pts": None}
        record["row"] |= {"reader": "pyav", "reader_reason": f"decord {how}", **unproven}
        return record
    reason = f"decoding {how}"
    row = {"num_frames": 0, "reader": "none", "reader_reason": reason, "status": "unreadable", "reason": reason}
    if (size := size_of(worker.task.path)) is not None:
        row["size"] = size
    return {"row": row, "tracks": {}}
