"""The LightningDataModule: manifests in, batches of clips out, streamed from the released files."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal
from weakref import WeakSet

import numpy as np
from lightning import LightningDataModule

from dfdet import console
from dfdet.data import clips as clip_choice
from dfdet.data import sampling, sources
from dfdet.data.augment import Augment
from dfdet.data.clips import ClipSpec
from dfdet.data.crop_rule import CropOptions
from dfdet.data.loader import EvalLoader, TrainLoader
from dfdet.data.plan import EpochPlan, batches_in, plan_epoch, visits_in_block
from dfdet.data.sources import MEDIA, Items, Source
from dfdet.data.visits import VisitMaker
from dfdet.data.wanted import EvalVisit, tracks_of, usable_runs
from dfdet.data.workers import SLOTS
from dfdet.errors import UserError
from dfdet.store import CropStore, StoreSpec
from dfdet.video import Media, describe_choice

Stage = Literal["train", "val", "test"]
STORED_POOL = 16  # clips a track that a crop store holds, where data.clip_pool does not say
Given = str | Source | list[str | Source] | None


class VideoDataModule(LightningDataModule):
    """Clips of face tracks, decoded while training.

    Args:
        train: Manifest(s) whose train split is trained on: a path, or several, each with weight, filter and root.
        val: Manifest(s) to validate on; None: the val split of the training manifests.
        test: Manifest(s) to test on; None: the test split of the training manifests.
        clip: Frames a clip and how they are taken.
        crop: How a face is cropped.
        augment: A preset (none, flip, mesonet, icpr, deepfakebench) or a list of albumentations transforms.
        per_frame_noise: Draw sensor noise anew for each frame of a clip rather than once.
        balance: ``label``: as many reals as fakes are visited; ``none``: as they come.
        pairs: Put each fake and the real video it was made from into one batch, at the same frames.
        multi_face_fakes: ``keep`` trains on the main track of a fake with several faces; ``drop`` leaves it out, since
            one of the faces may be real.
        clips_per_visit: Clips taken from one pass through a video in training; they go to different batches.
        clip_pool: Draw training clips from that many fixed ones a track, which visits go through in turn; None: from
            anywhere in it, but from 16 with a crop store.
        crop_store: Folder that keeps the crops of all clips as they were decoded, so that later epochs and runs read
            them from there, to the same bits; see dfdet store --help.
        eval_clips: Clips a track in evaluation, evenly spread.
        batch_size: Clips a batch of one process.
        eval_batch_size: The same in evaluation; None: as in training.
        epoch_visits: Visits an epoch; None: one a video.
        block_visits: Visits that are mixed with each other; more mixes better and holds more clips in memory.
        num_workers: Processes that decode; None: the processors, at most 8.
        reader: ``auto`` takes the fastest reader that is exact for the file; ``decord`` or ``pyav`` insist.
        seed: Seed of all draws; taken from seed_everything.
    """

    def __init__(
        self,
        train: Given = None,
        val: Given = None,
        test: Given = None,
        clip: ClipSpec = ClipSpec(),  # noqa: B008 - frozen
        crop: CropOptions = CropOptions(),  # noqa: B008 - never changed
        augment: str | list[dict[str, Any]] = "none",
        per_frame_noise: bool = False,
        balance: Literal["label", "none"] = "label",
        pairs: bool = False,
        multi_face_fakes: Literal["keep", "drop"] = "keep",
        clips_per_visit: int = 4,
        clip_pool: int | None = None,
        crop_store: str | None = None,
        eval_clips: int = 8,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        epoch_visits: int | None = None,
        block_visits: int = 256,
        num_workers: int | None = None,
        reader: Literal["auto", "decord", "pyav"] = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.train_sources = sources.as_sources(train)
        self.val_sources = sources.as_sources(val)
        self.test_sources = sources.as_sources(test)
        self.clip, self.crop = clip, crop
        self.augment = Augment(augment, per_frame_noise)
        self.balance, self.pairs, self.multi_face_fakes = balance, pairs, multi_face_fakes
        self.clips_per_visit, self.eval_clips = clips_per_visit, eval_clips
        self.clip_pool = STORED_POOL if clip_pool is None and crop_store is not None else clip_pool
        self.crop_store = crop_store
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.epoch_visits, self.block_visits = epoch_visits, block_visits
        self.num_workers, self.reader, self.seed = num_workers, reader, seed
        self.size = crop.size
        self._store: CropStore | None = None
        self._items: dict[Stage, Items] = {}
        self._units: np.ndarray | None = None
        self._loaders: WeakSet[TrainLoader | EvalLoader] = WeakSet()
        self._check_options()

    def _check_options(self) -> None:
        if self.pairs and self.batch_size % 2:
            raise UserError(f"data.pairs puts two clips side by side, batch_size is {self.batch_size}", "make it even")
        for name in ("clips_per_visit", "eval_clips", "batch_size", "block_visits"):
            if getattr(self, name) < 1:
                raise UserError(f"data.{name} is {getattr(self, name)}", "it must be at least 1")
        if self.clip_pool is not None and self.clip_pool < self.clips_per_visit:
            raise UserError(
                f"data.clip_pool is {self.clip_pool}, a visit takes data.clips_per_visit = {self.clips_per_visit}",
                "make the pool at least as large",
            )
        if self.clip.frames < 1 or self.clip.stride < 1:
            raise UserError("data.clip.frames and data.clip.stride must be at least 1")
        self.crop.spec(self.size or 1)  # an unknown preset is refused before anything is read

    # What is there ---------------------------------------------------------------------------------------------

    def items(self, stage: Stage) -> Items:
        """The videos of a stage, read once. Training holds only what can be trained on; evaluation holds every row."""
        if stage not in self._items:
            own = {"train": self.train_sources, "val": self.val_sources, "test": self.test_sources}[stage]
            # what a training source says of its split holds for training alone
            given = own or [replace(source, split=None) for source in self.train_sources]
            if not given:
                raise UserError("data.train names no manifest", "give one: --data.train x.parquet")
            # a corpus without a split stands whole in evaluation, if it is named for it
            found = sources.load(given, stage, whole_if_unsplit=bool(own) and stage != "train")
            self._items[stage] = self._trainable(found) if stage == "train" else found
            self._check_reader(self._items[stage])
        return self._items[stage]

    def _trainable(self, items: Items) -> Items:
        keep = items.trainable
        if self.multi_face_fakes == "drop":
            several = items.table["num_tracks"].to_pandas().fillna(0).to_numpy() > 1
            keep &= ~((items.label == 1) & several)
        for number, name in enumerate(items.names):
            if not (keep & (items.source == number)).any():
                raise UserError(
                    f"no video of {name} can be trained on: none of the train split and the filter is labelled, "
                    "readable and has a face", f"dfdet check {name} counts them",
                )  # fmt: skip
        return items.take(keep)

    def _check_reader(self, items: Items) -> None:
        if self.reader != "decord":
            return
        verdicts = np.array([v or "" for v in items.table["reader"].to_pylist()])
        other = int((np.isin(verdicts, ["pyav"]) & items.readable).sum())
        if other:
            raise UserError(
                f"data.reader is decord, but decord does not read {other} of {len(items)} videos exactly",
                "take reader auto, which uses it wherever it was proven right",
            )

    def describe(self, stage: Stage) -> Items:
        """What ``ClipBatch.item`` of this stage points into."""
        return self.items(stage)

    def use(self, items: Items, clips: int) -> None:
        """Scores these items as the test stage, whatever the sources say; their crops are not kept."""
        self._items["test"], self.eval_clips, self.crop_store = items, clips, None

    def maker(self, stage: Stage) -> VisitMaker:
        """Makes the clips of a stage."""
        if self.size is None:
            raise UserError("data.crop.size is not set and the detector names none", "give --data.crop.size 224")
        return VisitMaker(
            self.items(stage),
            self.clip,
            self.crop.spec(self.size),
            self.augment,
            seed=self.seed,
            clips_per_visit=self.clips_per_visit,
            clip_pool=self.clip_pool,
            reader=self.reader,
            store=self.store(),
        )

    def store(self) -> CropStore | None:
        """The crop store, opened once; None where none is asked for.

        Raises:
            UserError: It was made with other settings.
        """
        if self._store is None and self.crop_store is not None:
            crop = asdict(self.crop.spec(self.size or 1))
            spec = StoreSpec.here(self.clip.frames, crop.pop("size"), crop)
            self._store = CropStore.open(Path(self.crop_store), spec)
        return self._store

    # Training --------------------------------------------------------------------------------------------------

    @property
    def _visit_width(self) -> int:
        return 2 if self.pairs else 1

    def _pairs(self) -> np.ndarray:
        if self._units is None:
            items = self.items("train")
            rows = items.table.select(["corpus", "video_id", "original"]).to_pylist()
            self._units = sampling.pair_up(rows, items.label)
            if len(self._units) == 0:
                raise UserError(
                    "data.pairs is set, but no training fake names an original that is in the training split"
                )
        return self._units

    def units(self) -> np.ndarray:
        """Int (U, u): what a visit may go to: the videos of training, or its pairs (fake, real)."""
        return self._pairs() if self.pairs else np.arange(len(self.items("train")))[:, None]

    def visits_of(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The items that each visit of an epoch goes to, on all ranks together, and how often it went there before.

        Returns:
            int (V, u) and int (V,).
        """
        items, units = self.items("train"), self.units()
        first = units[:, 0]
        drawn, laps = sampling.draw(
            items.source[first], items.label[first], items.weights, balance=self.balance == "label",
            total=self._num_visits, epoch=epoch, seed=self.seed,
        )  # fmt: skip
        return units[drawn], laps

    def plan(self, epoch: int) -> EpochPlan:
        """The plan of one epoch for this process."""
        return plan_epoch(
            *self.visits_of(epoch), clips=self.clips_per_visit, batch_size=self.batch_size, block=self.block_visits,
            seed=self.seed, epoch=epoch, rank=self._rank, world=self._world,
        )  # fmt: skip

    @property
    def block_bytes(self) -> int:
        """What the clips of one block may hold in memory at once."""
        size = self.size or 0
        clip = self.clip.frames * 3 * size * size
        mine = self._num_visits // self._world
        visits = visits_in_block(self.block_visits, self.batch_size, self._visit_width, mine)
        # beside the block: what the workers have ready of the next one
        ahead = min(SLOTS * self.workers, mine)
        return (visits + ahead) * self._visit_width * self.clips_per_visit * clip

    @property
    def _num_visits(self) -> int:
        return self.epoch_visits or (len(self._pairs()) if self.pairs else len(self.items("train")))

    def train_dataloader(self) -> TrainLoader:
        """Batches of training; starts where the trainer stands."""
        batches = batches_in(self._num_visits, self._visit_width, self.clips_per_visit, self.batch_size, self._world)
        if batches == 0:
            raise UserError(
                f"an epoch of {self._num_visits} visits x {self.clips_per_visit} clips fills no batch of "
                f"{self.batch_size}", "lower data.batch_size or raise data.epoch_visits",
            )  # fmt: skip
        made = TrainLoader(self.maker("train"), self.plan, batches, self._position, self.workers, self._pin)
        self._loaders.add(made)
        return made

    def _position(self) -> tuple[int, int]:
        """(epoch, batch) at which the trainer stands, also in an epoch that is resumed."""
        if self.trainer is None:
            return 0, 0
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready

    # Evaluation ------------------------------------------------------------------------------------------------

    def eval_visits(self, stage: Stage) -> list[EvalVisit]:
        """Every video once, on all ranks together: the clips of all its tracks, in one pass."""
        items = self.items(stage)
        return [EvalVisit(item, self._eval_clips(items, item)) for item in np.flatnonzero(items.readable).tolist()]

    def _eval_clips(self, items: Items, item: int) -> tuple[tuple[int, int, tuple[int, ...]], ...]:
        """(track, clip, frames) of an item; one clip without frames, which will say why, where there is none."""
        media = Media.from_row(items.row(item, MEDIA))
        try:
            tracks = tracks_of(items, item, media.num_frames)
        except ValueError:  # the worker meets it again, and its clip tells it
            tracks = {}
        runs = {number: usable_runs(track, media) for number, track in tracks.items()}
        clips = clip_choice.evaluated(self.clip, runs, self.eval_clips)
        return tuple(clips) or ((int(items.main_track[item]), 0, ()),)

    def eval_dataloader(self, stage: Stage) -> EvalLoader:
        """Batches of evaluation: this rank's videos, unpadded."""
        mine = self.eval_visits(stage)[self._rank :: self._world]
        made = EvalLoader(self.maker(stage), mine, self.eval_batch_size, self.workers, self._pin)
        self._loaders.add(made)
        return made

    def val_dataloader(self) -> EvalLoader:
        """The validation videos."""
        return self.eval_dataloader("val")

    def test_dataloader(self) -> EvalLoader:
        """The test videos."""
        return self.eval_dataloader("test")

    def teardown(self, stage: str) -> None:
        """Ends the workers of all loaders; a trainer's objects, which hold on to each other, would keep them alive."""
        for loader in list(self._loaders):
            loader.close()

    # Where we run ----------------------------------------------------------------------------------------------

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0

    @property
    def _world(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    @property
    def workers(self) -> int:
        """Loader processes."""
        return default_workers() if self.num_workers is None else self.num_workers

    @property
    def _pin(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def announce(self) -> None:
        """Says in one line what will be trained on and what the loader may hold in memory."""
        items = self.items("train")
        real, fake = int((items.label == 0).sum()), int((items.label == 1).sum())
        console.say(
            f"training on {real} real and {fake} fake videos; {self._num_visits} visits an epoch, "
            f"{self.workers} loader workers, at most {self.block_bytes / 2**20:.0f} MiB of clips waiting; "
            f"read by {self._readers(items)}"
        )
        store = self.store()
        if store is not None:
            whole = self.stored_clips()
            store.check_space(max(whole - len(store), 0), "training with it")
            console.say(
                f"crop store {store.path}: {len(store)} clips are there; training and validation have at most {whole}, "
                f"{store.bytes_for(whole) / 1e9:.2f} GB"
            )

    def _readers(self, items: Items) -> str:
        """Which readers the files of training will be read by: ``pyav 28, image 3``."""
        chosen: Counter[str] = Counter()
        for _, alike in items.table.select(["kind", "reader"]).to_pandas().groupby(["kind", "reader"], dropna=False):
            media = Media.from_row(items.row(int(alike.index[0]), MEDIA))
            chosen[describe_choice(self.reader, media)] += len(alike)
        return ", ".join(f"{name} {count}" for name, count in chosen.most_common())

    def stored_clips(self) -> int:
        """How many clips training and validation have in a crop store, at most."""
        tracks = self.items("val").table["num_tracks"].to_pandas().fillna(0)
        return len(self.items("train")) * (self.clip_pool or 0) + int(tracks.sum()) * self.eval_clips


def default_workers() -> int:
    """The processors that this process may use, at most 8."""
    import os

    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)
