"""Crops that were extracted as PNG in, the same batches as the streaming data module's out: a plain torch Dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from dfdet.bench.clips import VisitClips
from dfdet.bench.extracted import Pictures
from dfdet.data.batch import ClipBatch, ClipSample, collate
from dfdet.data.module import Stage, VideoDataModule
from dfdet.data.sources import Items
from dfdet.data.wanted import Wanted


class PictureModule(LightningDataModule):
    """Trains and scores on extracted crops: the same clips in the same batches as ``data``.

    Args:
        data: The streaming data module.
        epochs: What the visits of each epoch want.
        scored: What those of ``val`` and ``test`` want.
        folder: Crops, in a folder a stage.
        workers: Loader workers.
    """

    def __init__(
        self,
        data: VideoDataModule,
        epochs: Sequence[Sequence[VisitClips]],
        scored: Mapping[str, Sequence[VisitClips]],
        folder: Path,
        workers: int,
    ) -> None:
        super().__init__()
        self.data, self.epochs, self.scored, self.folder, self.workers = data, epochs, scored, folder, workers

    def describe(self, stage: Stage) -> Items:
        """What ``ClipBatch.item`` points into."""
        return self.data.describe(stage)

    def train_dataloader(self) -> DataLoader[ClipBatch]:
        """Batches as the plan of each epoch has them."""
        clips: list[Wanted] = []
        batches: list[list[list[int]]] = []
        for epoch, visits in enumerate(self.epochs):
            plan = self.data.plan(epoch)
            # visits come in the order in which the plan first wants them, their clips too
            names = [(v, c) for v, numbers in plan.wanted(0) for c in numbers]
            place = {name: len(clips) + n for n, name in enumerate(names)}
            clips += [clip for visit in visits for clip in visit.clips]
            slots = [place[v, c] for v, c in plan.slots[: plan.num_batches * plan.batch_size].tolist()]
            batches.append([slots[n : n + plan.batch_size] for n in range(0, len(slots), plan.batch_size)])
        return self._loader("train", clips, _Batches(batches, self._epoch))

    def _epoch(self) -> int:
        assert self.trainer is not None
        return self.trainer.current_epoch

    def val_dataloader(self) -> DataLoader[ClipBatch]:
        """The validation videos."""
        return self._eval_loader("val")

    def test_dataloader(self) -> DataLoader[ClipBatch]:
        """The test videos."""
        return self._eval_loader("test")

    def _eval_loader(self, stage: Stage) -> DataLoader[ClipBatch]:
        clips = [clip for visit in self.scored[stage] for clip in visit.clips]
        size = self.data.eval_batch_size
        batches = [list(range(n, min(n + size, len(clips)))) for n in range(0, len(clips), size)]
        return self._loader(stage, clips, _Batches([batches], lambda: 0))

    def _loader(self, stage: Stage, clips: Sequence[Wanted], batches: _Batches) -> DataLoader[ClipBatch]:
        return DataLoader(  # type: ignore[return-value]
            _Clips(self.data, stage, clips, self.folder / stage),
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.workers,
            worker_init_fn=_start_worker,
            persistent_workers=self.workers > 0,
            generator=torch.Generator(),
        )


class _Batches(Sampler[list[int]]):
    def __init__(self, epochs: list[list[list[int]]], epoch: Callable[[], int]) -> None:
        self.epochs, self.epoch = epochs, epoch

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.epochs[self.epoch()])

    def __len__(self) -> int:
        return len(self.epochs[0])


class _Clips(Dataset[Any]):
    def __init__(self, data: VideoDataModule, stage: Stage, clips: Sequence[Wanted], folder: Path) -> None:
        self.clips, self.pictures = clips, Pictures(folder, ".png")
        self.shape = data.maker(stage).clip_shape
        self.augment, self.label = data.augment, data.items(stage).label

    def __getitem__(self, number: int) -> ClipSample:
        clip = self.clips[number]
        n, T = len(clip.frames), self.shape[0]
        pixels = self.pictures.clip(clip, self.shape)
        if clip.draw is not None:
            pixels[:n] = self.augment(pixels[:n], clip.draw)
            pixels[n:] = pixels[n - 1]
        frames = np.concatenate([clip.frames, np.full(T - n, clip.frames[-1])]).astype(np.int64)
        return ClipSample(
            pixels, np.arange(T) < n, frames, clip.item, clip.track, clip.clip, int(self.label[clip.item]),
            pad=float(clip.crop.pad),
        )  # fmt: skip


def _start_worker(_: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
