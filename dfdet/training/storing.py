"""``store build`` as a function: the arguments of a fit in, a crop store that holds every clip of it out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dfdet import console
from dfdet.data.module import VideoDataModule
from dfdet.data.visits import VisitMaker
from dfdet.data.wanted import TrainVisit, Visit
from dfdet.data.workers import VisitWorkers
from dfdet.errors import UserError
from dfdet.store import CropStore
from dfdet.training.parser import DetectorCLI
from dfdet.training.setup import prepare


@dataclass
class Filled:
    """What filling a store has done.

    Attributes:
        store: The store.
        before: Clips that it held before.
        failed: One line for each clip that could not be made.
    """

    store: CropStore
    before: int
    failed: list[str]

    def table(self) -> console.Table:
        """The numbers, one row."""
        size = self.store.bytes_for(len(self.store))
        row = [str(self.store.path), self.before, len(self.store), f"{size / 1e9:.2f}", len(self.failed)]
        return console.Table("crop store", ["store", "clips before", "clips now", "GB", "could not be made"], [row])


def build_store(arguments: Sequence[str]) -> Filled:
    """Decodes every clip that training and validation will ask for, and keeps it; what is there is passed over.

    Args:
        arguments: As for :func:`dfdet.training.workflow.fit`, with ``--data.crop_store``.

    Raises:
        UserError: No store is named, or it was made with other settings, or the disk is too small.
    """
    _, data = prepare(DetectorCLI(list(arguments)))
    store = data.store()
    if store is None:
        raise UserError("dfdet store build does not know which store to fill", "give --data.crop_store DIR")
    data.announce()
    before = len(store)
    failed: list[str] = []
    # one pass a video gives all its clips
    data.clips_per_visit = data.clip_pool or data.clips_per_visit
    jobs: list[tuple[VisitMaker, Sequence[Visit]]] = [
        (data.maker("train"), _training(data)),
        (data.maker("val"), data.eval_visits("val")),
    ]
    with console.Progress("filling the store", sum(len(visits) for _, visits in jobs)) as bar:
        for maker, visits in jobs:
            for reason in _made(maker, visits, data.workers, bar):
                failed.append(reason)
    store.refresh()
    return Filled(store, before, failed)


def _training(data: VideoDataModule) -> list[Visit]:
    """One visit to every video, or pair, which takes the whole pool."""
    clips = tuple(range(data.clips_per_visit))
    units: np.ndarray = data.units()
    return [TrainVisit(tuple(items), number, 0, clips) for number, items in enumerate(units.tolist())]


def _made(maker: VisitMaker, visits: Sequence[Visit], workers: int, bar: console.Progress) -> Iterator[str]:
    for samples in VisitWorkers(maker, workers, clips=0).clips(visits):
        yield from (sample.error for sample in samples if sample.error is not None)
        bar.advance()
