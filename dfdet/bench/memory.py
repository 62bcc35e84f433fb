"""A loader in, the memory that it and its workers hold after more and more clips out."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfdet.data.loader import TrainLoader

FIRST_LOOK = 1 / 20  # of the clips: 500 of 10,000


@dataclass(frozen=True)
class Growth:
    """Resident memory of the main process and its workers, MiB, shared pages counted once.

    Attributes:
        start: The most, in the stretch after the first look.
        end: The most, in as long a stretch at the end.
        first_look: Clips made before the first look.
        clips: Clips made in all.
    """

    start: float
    end: float
    first_look: int
    clips: int

    @property
    def ratio(self) -> float:
        """End by start."""
        return self.end / self.start


def can_look() -> bool:
    """Whether this system tells what a process shares with others."""
    return Path("/proc/self/smaps_rollup").is_file()


def resident() -> float:
    """MiB that this process and its children hold, pages that they share counted once (PSS)."""
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children() if child.pid)]
    return sum(map(_proportional, pids)) / 1024


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def growth(loader: TrainLoader, clips: int, batch_size: int, block: int) -> Growth:
    """Takes batches, epoch after epoch, and looks at the memory after each.

    What is held swings with the plan's blocks, so the most of one block's clips is compared with the most of another's.

    Args:
        loader: The loader.
        clips: How many clips to take, at least; never fewer than two blocks and the first look.
        batch_size: Clips a batch.
        block: Clips that one block of the plan holds.
    """
    stretch = -(-block // batch_size)
    # the first block fills what stays filled
    first = max(int(clips * FIRST_LOOK) // batch_size, stretch)
    total = max(-(-clips // batch_size), first + 2 * stretch)
    seen: list[float] = []
    for _, _ in zip(range(total), _endless(loader), strict=False):
        seen.append(resident())
    start, end = np.max(seen[first : first + stretch]), np.max(seen[-stretch:])
    return Growth(float(start), float(end), first * batch_size, total * batch_size)


def _endless(loader: TrainLoader) -> Iterator[object]:
    epoch = 0
    while True:
        yield from loader.batches(epoch)
        epoch += 1
