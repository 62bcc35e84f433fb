"""Requests in, what a function makes of them out: one process, with a pipe of its own.

Nothing is shared between workers that one of them could hold or spoil as it dies: with a common queue, as torch's
DataLoader has it, a process that is killed while it writes leaves half an answer, for whose other half everybody waits.
"""

from __future__ import annotations

import contextlib
import mmap
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor

from dfdet.processes import end_with_the_parent

UNBORN, IDLE = -2, -1  # what a worker notes when it is at no request
Make = Callable[[Any], Any]
Outcome = tuple[Any, Exception | None]  # what was made of a request, or what was raised


class LostError(Exception):
    """The process died."""


class Worker:
    """A process that works off requests in order.

    Args:
        make: Makes something of a request, in the process.
    """

    def __init__(self, make: Make) -> None:
        # the number of the request that it is at, or one of the above; and whether it shall end
        diary = shared_zeros((2,), torch.int64)
        self._diary = diary.numpy()  # a tensor that is made in inference mode may not be changed outside of it
        self._diary[0] = UNBORN
        context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, make, diary), daemon=True)
        with _one_opencv_thread():
            self._process.start()
        theirs.close()  # or its death would not end the pipe

    @property
    def at(self) -> int:
        """The number of the request that it is at, or was at as it died."""
        return int(self._diary[0])

    def ask(self, number: int, request: Any) -> None:
        """Gives it a request.

        Raises:
            LostError: It is dead.
        """
        try:
            self._pipe.send((number, request))
        except (BrokenPipeError, ConnectionResetError):
            raise LostError from None

    def answer(self, seconds: float) -> Outcome | None:
        """What has become of the oldest request; None if it is not known within some seconds.

        Raises:
            LostError: It is dead.
        """
        try:
            if not self._pipe.poll(seconds):
                if self._process.is_alive():
                    return None
                raise LostError
            outcome: Outcome = pickle.loads(self._pipe.recv_bytes())  # noqa: S301 - from our own child
        except (EOFError, ConnectionResetError):
            raise LostError from None
        return outcome

    def stop(self) -> None:
        """Lets it end after what it is at; it then runs what others have left to be done at the end of a process."""
        self._diary[1] = 1
        with contextlib.suppress(OSError):  # it is dead, and its pipe closed
            self._pipe.send((IDLE, None))  # wakes it

    def end(self, until: float) -> None:
        """Waits for its end until a time of ``time.monotonic()``, and kills it then, or if it hears nothing."""
        pid = self._process.pid
        while self._process.is_alive() and time.monotonic() < until and pid is not None and not _stuck(pid):
            self._process.join(0.05)
        self.kill()

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.join(1.0)  # one that waits for a dead disk goes when the disk answers
        self._pipe.close()


def _work(pipe: Connection, make: Make, diary: Tensor) -> None:
    # these reach the whole process group or job step: the main process alone decides what they mean
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_the_parent()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    note = diary.numpy()
    while True:
        note[0] = IDLE
        try:
            number, request = pipe.recv()
        except EOFError:
            return
        if note[1]:
            return
        note[0] = number
        try:
            answer = pickle.dumps((make(request), None), pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # noqa: BLE001 - raised where it can be told
            answer = _as_bytes(error)
        note[0] = IDLE
        with contextlib.suppress(BrokenPipeError):
            pipe.send_bytes(answer)


def _as_bytes(error: Exception) -> bytes:
    """An answer that is raised; by its text alone where it cannot travel."""
    text = traceback.format_exc()
    try:
        error.add_note(f"in a loader worker:\n{text}")
        made = pickle.dumps((None, error), pickle.HIGHEST_PROTOCOL)
        pickle.loads(made)  # noqa: S301 - some can be written and not read
    except Exception:  # noqa: BLE001 - whatever its class does
        made = pickle.dumps((None, RuntimeError(f"in a loader worker:\n{text}")), pickle.HIGHEST_PROTOCOL)
    return made


def shared_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Memory that workers share with this process.

    Where they are forked it has no name: nothing is left of it whoever is killed, and a small /dev/shm does not matter.
    """
    count = int(np.prod(shape))
    if sys.platform != "linux" or count == 0:
        return torch.zeros(shape, dtype=dtype).share_memory_()
    return torch.frombuffer(mmap.mmap(-1, count * dtype.itemsize), dtype=dtype).view(shape)


def _stuck(pid: int) -> bool:
    """Whether a process is stopped or waits for a disk, as far as the system tells."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in "TtD"


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """Ends OpenCV's threads while a worker is forked: one that inherits their pool without them waits for ever."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
