"""A way of making a visit's clips in, the seconds of putting them into batches by worker processes out.

Rivals get what a plain user would build: torch's own DataLoader, one visit an item, batches stacked in the order of
the visits. That is less work than the data module does, which mixes them.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dfdet.bench.clips import Shape, VisitClips
from dfdet.bench.competitors import ClipShape, Make
from dfdet.data.augment import Augment
from dfdet.data.module import VideoDataModule

PREFETCH = 4


class _Visits(Dataset[Tensor]):
    def __init__(self, make: Make, visits: Sequence[VisitClips], shape: ClipShape, augment: str) -> None:
        self.make, self.visits, self.shape, self.augment = make, visits, shape, Augment(augment)

    def __getitem__(self, request: tuple[int, bool]) -> Tensor:  # type: ignore[override]
        number, altered = request
        visit = self.visits[number]
        made = self.make(visit, self.shape)
        if altered:
            for out, clip in zip(made, visit.clips, strict=False):  # decoding alone makes none
                out[:] = self.augment(out, clip.draw or 0)
        return torch.from_numpy(made)


class _Order(Sampler[Any]):
    def __init__(self) -> None:
        self.requests: list[tuple[int, bool]] = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self.requests)

    def __len__(self) -> int:
        return len(self.requests)


def _start_worker(_: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


class Pipeline:
    """Makes all visits over and over; its workers stay between the passes.

    Args:
        make: Makes a visit's clips.
        visits: The visits.
        shape: (T, S, S, 3).
        workers: Processes; 0 works in this one.
        batch_size: Clips a batch.
        augment: What is done to the clips of a timed pass.
    """

    def __init__(
        self,
        make: Make,
        visits: Sequence[VisitClips],
        shape: ClipShape,
        workers: int,
        batch_size: int,
        augment: str = "flip",
    ) -> None:
        self.visits, self.batch_size = visits, batch_size
        self._order = _Order()
        fork = workers and sys.platform == "linux"
        self._loader: DataLoader[Tensor] = DataLoader(
            _Visits(make, visits, shape, augment),
            batch_size=None,
            sampler=self._order,
            num_workers=workers,
            worker_init_fn=_start_worker,
            persistent_workers=workers > 0,
            prefetch_factor=PREFETCH if workers else None,
            multiprocessing_context=multiprocessing.get_context("fork") if fork else None,
        )

    def made(self, altered: bool = False) -> Iterator[tuple[VisitClips, np.ndarray]]:
        """Each visit and its clips, uint8 (clips, T, S, S, 3); not augmented, unless asked for."""
        self._order.requests = [(number, altered) for number in range(len(self.visits))]
        for visit, made in zip(self.visits, self._loader, strict=True):
            yield visit, made.numpy()

    def seconds(self) -> float:
        """One pass over all visits, batches put together."""
        started = time.perf_counter()
        waiting: list[Tensor] = []
        for _, made in self.made(altered=True):
            waiting += torch.from_numpy(made)
            while len(waiting) >= self.batch_size:
                torch.stack(waiting[: self.batch_size])
                waiting = waiting[self.batch_size :]
        return time.perf_counter() - started


class LoaderRun:
    """Times whole epochs of a data module whose workers have started."""

    def __init__(self, data: VideoDataModule, shape: Shape) -> None:
        self.data, self.shape = data, shape
        self.loader = data.train_dataloader()
        for _ in self.loader.batches(0, len(self.loader) - 1):
            pass

    @property
    def clips(self) -> int:
        """Clips of one epoch."""
        return len(self.loader) * self.shape.batch_size

    def seconds(self) -> float:
        """One epoch, always the first."""
        started = time.perf_counter()
        for _ in self.loader.batches(0):
            pass
        return time.perf_counter() - started

    def a_batch(self) -> float:
        """Seconds a batch."""
        return self.seconds() / len(self.loader)
