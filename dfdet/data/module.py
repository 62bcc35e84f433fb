"""The LightningDataModule: manifests in, batches of clips out, streamed from the released files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from lightning import LightningDataModule

from dfdet import console
from dfdet.data import clips as clip_choice
from dfdet.data import sampling, sources
from dfdet.data.augment import Augment
from dfdet.data.clips import ClipSpec
from dfdet.data.crop import CropSpec, crop_spec
from dfdet.data.loader import PREFETCH, EvalLoader, TrainLoader
from dfdet.data.plan import EpochPlan, batches_in, plan_epoch, visits_in_block
from dfdet.data.sources import MEDIA, Items, Source
from dfdet.data.visits import EvalVisit, VisitMaker, tracks_of, usable_runs
from dfdet.errors import UserError
from dfdet.video import Media

Stage = Literal["train", "val", "test"]
Given = str | Source | list[str | Source] | None


@dataclass
class CropOptions:
    """How a face is cropped: a preset, and what to change in it (see ``dfdet.data.crop``).

    Attributes:
        preset: default, ffpp, icpr, selim, tight, mesonet or dlib.
        size: S, side of the crop that the network sees, pixels; None takes the detector's own.
        scale: Side of the square in units of the face box's height.
        shift_y: Shift of the square downwards, in the same units.
        align: none, similarity (five points to the ArcFace template) or upright (MesoNet's).
        pad: What lies outside the frame: zero or reflect.
        mode: resize the square to S, or take a native window of S pixels out of it.
        box: constant (one square a clip) or smoothed (follows the face).
    """

    preset: str = "default"
    size: int | None = None
    scale: float | None = None
    shift_y: float | None = None
    align: Literal["none", "similarity", "upright"] | None = None
    pad: Literal["zero", "reflect"] | None = None
    mode: Literal["resize", "native"] | None = None
    box: Literal["constant", "smoothed"] | None = None

    def spec(self, size: int) -> CropSpec:
        """The crop at a size."""
        changes = {k: v for k, v in asdict(self).items() if k not in ("preset", "size") and v is not None}
        return crop_spec(self.preset, size=size, **changes)


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
        eval_clips: Clips a track in evaluation, evenly spread.
        batch_size: Clips a batch of one process.
        eval_batch_size: The same in evaluation; None: as in training.
        epoch_visits: Visits an epoch; None: one a video.
        block_visits: Visits that are mixed with each other; more mixes better and holds more clips in memory.
        num_workers: Processes that decode; None: the processors, at most 8.
        reader: ``auto`` obeys the index; ``decord`` or ``pyav`` insist.
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
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.epoch_visits, self.block_visits = epoch_visits, block_visits
        self.num_workers, self.reader, self.seed = num_workers, reader, seed
        self.size = crop.size
        self._items: dict[Stage, Items] = {}
        self._units: np.ndarray | None = None
        self._check_options()

    def _check_options(self) -> None:
        if self.pairs and self.batch_size % 2:
            raise UserError(f"data.pairs puts two clips side by side, batch_size is {self.batch_size}", "make it even")
        for name in ("clips_per_visit", "eval_clips", "batch_size", "block_visits"):
            if getattr(self, name) < 1:
                raise UserError(f"data.{name} is {getattr(self, name)}", "it must be at least 1")
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
        """Scores these items as the test stage, whatever the sources say."""
        self._items["test"], self.eval_clips = items, clips

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
            reader=self.reader,
        )

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

    def visits_of(self, epoch: int) -> np.ndarray:
        """Int (V, u): the items that each visit of an epoch goes to, on all ranks together."""
        items = self.items("train")
        units = self._pairs() if self.pairs else np.arange(len(items))[:, None]
        first = units[:, 0]
        drawn = sampling.draw(
            items.source[first], items.label[first], items.weights, balance=self.balance == "label",
            total=self._num_visits, epoch=epoch, seed=self.seed,
        )  # fmt: skip
        return units[drawn]

    def plan(self, epoch: int) -> EpochPlan:
        """The plan of one epoch for this process."""
        return plan_epoch(
            self.visits_of(epoch), clips=self.clips_per_visit, batch_size=self.batch_size, block=self.block_visits,
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
        ahead = min(PREFETCH * self._workers, mine)
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
        return TrainLoader(self.maker("train"), self.plan, batches, self._position, self._workers, self._pin)

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
        clips: list[tuple[int, int, tuple[int, ...]]] = []
        for number, track in tracks.items():
            runs = usable_runs(track, media)
            for clip, frames in enumerate(clip_choice.fixed(self.clip, runs, self.eval_clips) if runs else []):
                clips.append((number, clip, tuple(frames.tolist())))
        return tuple(clips) or ((int(items.main_track[item]), 0, ()),)

    def eval_dataloader(self, stage: Stage) -> EvalLoader:
        """Batches of evaluation: this rank's videos, unpadded."""
        mine = self.eval_visits(stage)[self._rank :: self._world]
        return EvalLoader(self.maker(stage), mine, self.eval_batch_size, self._workers, self._pin)

    def val_dataloader(self) -> EvalLoader:
        """The validation videos."""
        return self.eval_dataloader("val")

    def test_dataloader(self) -> EvalLoader:
        """The test videos."""
        return self.eval_dataloader("test")

    # Where we run ----------------------------------------------------------------------------------------------

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0

    @property
    def _world(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    @property
    def _workers(self) -> int:
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
            f"{self._workers} loader workers, at most {self.block_bytes / 2**20:.0f} MiB of clips waiting"
        )


def default_workers() -> int:
    """The processors that this process may use, at most 8."""
    import os

    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)
