"""A detector and its bare network in, timed loops of both out: what is measured by ``dfdet bench model``.

The bare loop is what a researcher would write by hand with the same network: the batch's bytes to float, the
network's normalisation, its forward pass, and in training loss, backward pass and the detector's own optimiser. Both
get the same batches of bytes, which lie ready on the device.
"""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from dfdet.data.batch import ClipBatch
from dfdet.detectors.binary import BinaryDetector
from dfdet.detectors.frames import FrameDetector
from dfdet.training.parser import DetectorCLI
from dfdet.training.scoring import Scoring
from dfdet.training.setup import make_trainer, prepare

WARM_UP = 2  # steps that are not counted
READY = 4  # batches that lie ready


@dataclass
class Subject:
    """One detector, ready to be timed.

    Attributes:
        name: As in ``dfdet models``.
        arguments: What it was made of, for LightningCLI.
        model: It, on the device.
        frames: T.
        size: S, pixels.
        batches: Ready batches on the device.
    """

    name: str
    arguments: list[str]
    model: LightningModule
    frames: int
    size: int
    batches: list[ClipBatch]

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.batches[0].video.device

    @property
    def clips(self) -> int:
        """Clips a batch."""
        return len(self.batches[0])


def make_detector(name: str, config: str) -> tuple[LightningModule, int, int, list[str]]:
    """A detector by its configuration, its weights drawn at random: (it, T, S, arguments)."""
    arguments = ["--config", config, "--trainer.logger", "false"]
    given = DetectorCLI(arguments).config.model.init_args
    if "pretrained" in given:
        arguments += ["--model.pretrained", "false"]
    if given.get("schedule"):
        arguments += ["--model.schedule", "null"]
    torch.manual_seed(0)
    cli = DetectorCLI(arguments)
    model, data = prepare(cli)
    return model, data.clip.frames, int(data.size or 0), arguments


def random_batch(clips: int, frames: int, size: int, device: torch.device, seed: int = 0) -> ClipBatch:
    """A batch as a loader makes it, of random pixels; half of it is fake."""
    random = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (clips, frames, size, size, 3), dtype=torch.uint8, generator=random)
    numbers = torch.arange(clips)
    return ClipBatch(
        video=pixels.permute(0, 1, 4, 2, 3), mask=torch.ones(clips, frames, dtype=torch.bool), label=numbers % 2,
        weight=torch.ones(clips), item=numbers, track=torch.zeros_like(numbers), clip=torch.zeros_like(numbers),
        frames=torch.arange(frames).repeat(clips, 1), pad=torch.zeros(clips), errors=[],
    ).to(device)  # fmt: skip


def is_classical(model: LightningModule) -> bool:
    """Whether it is fitted and not trained by steps: there is no network to compare with."""
    return hasattr(model, "make_estimator") or not hasattr(model, "network")


def parameters(model: LightningModule) -> int:
    """Trainable numbers."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def gflops(model: LightningModule, frames: int, size: int) -> float:
    """10^9 floating point operations of the forward pass of one clip; a multiplication and an addition are two."""
    batch = random_batch(1, frames, size, torch.device("cpu"))
    counter = FlopCounterMode(display=False)
    # oneDNN's fused LSTM is one operation that the counter does not know
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False), counter:
        outputs: Any = model.eval().cpu().predict_step(batch, 0)
    assert outputs is not None
    return counter.get_total_flops() / 1e9


# Loops -------------------------------------------------------------------------------------------------------------


def settle(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[ClipBatch], Any], batches: Sequence[ClipBatch], steps: int) -> float:
    """Seconds of ``steps`` steps after some that are not counted."""
    for number in range(WARM_UP):
        work(batches[number % len(batches)])
    device = batches[0].video.device
    settle(device)
    begin = time.perf_counter()
    for number in range(steps):
        work(batches[number % len(batches)])
    settle(device)
    return time.perf_counter() - begin


class Bare:
    """The bare network of a detector: a copy, and plain code around it.

    Args:
        subject: The detector.
    """

    def __init__(self, subject: Subject) -> None:
        detector: Any = copy.deepcopy(subject.model)
        self.detector = detector
        self.network: Any = self.detector.network
        self.single = isinstance(self.detector, FrameDetector)
        device = subject.device
        self._mean = torch.tensor(self.detector.mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(self.detector.std, device=device).view(3, 1, 1)
        # a step of its own (triplets, pairs) has no plain twin: it is run without Lightning
        self.own_step = type(self.detector).training_step is not BinaryDetector.training_step
        if self.own_step:
            self.detector.log = lambda *given, **options: None

    def normalised(self, batch: ClipBatch) -> Tensor:
        """Bytes to what the network wants, as a hand would write it."""
        video = batch.video.flatten(0, 1) if self.single else batch.video
        return (video.float() / 255 - self._mean) / self._std

    def logits(self, batch: ClipBatch) -> Tensor:
        """(B,)."""
        if self.single:
            return self.network(self.normalised(batch)).view(batch.mask.shape).mean(1)
        return self.network(self.normalised(batch), batch.mask)

    def forward(self, batch: ClipBatch) -> Tensor:
        """The forward pass."""
        with torch.inference_mode():
            return self.logits(batch)

    def optimizer(self) -> torch.optim.Optimizer:
        """The detector's own."""
        made = self.detector.configure_optimizers()
        found = made["optimizer"] if isinstance(made, dict) else made
        assert isinstance(found, torch.optim.Optimizer)
        return found

    def step(self, optimizer: torch.optim.Optimizer, autocast: AbstractContextManager[Any] | None = None) -> Any:
        """One step of training, as a function of the batch."""

        def work(batch: ClipBatch) -> None:
            with autocast or nullcontext():
                if self.own_step:
                    loss = self.detector.training_step(batch, 0)
                else:
                    loss = F.binary_cross_entropy_with_logits(self.logits(batch).float(), batch.label.float())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        return work


def train_bare(subject: Subject, steps: int) -> float:
    """Seconds of the plain optimiser loop."""
    bare = Bare(subject)
    bare.detector.train()
    return timed(bare.step(bare.optimizer()), subject.batches, steps)


class _Clock(Callback):
    """Seconds from the first counted batch to the end of the last."""

    def __init__(self, steps: int, device: torch.device) -> None:
        self.steps, self.device = steps, device
        self.seconds = float("nan")
        self._begin = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == WARM_UP:
            settle(self.device)
            self._begin = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == WARM_UP + self.steps - 1:
            settle(self.device)
            self.seconds = time.perf_counter() - self._begin


class _Ready:
    """Batches that lie ready, as a loader of ``count``."""

    def __init__(self, batches: Sequence[ClipBatch], count: int) -> None:
        self.batches, self.count = batches, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[ClipBatch]:
        for number in range(self.count):
            yield self.batches[number % len(self.batches)]


def train_lightning(subject: Subject, steps: int) -> float:
    """Seconds of the same steps through the Trainer that ``dfdet fit`` makes, its callbacks and logs included."""
    from dfdet.training.callbacks import StepSeeds

    model = copy.deepcopy(subject.model)
    count = WARM_UP + steps + 1  # the last batch of an epoch also ends the epoch
    options = {
        "max_epochs": 1, "max_steps": -1, "limit_val_batches": 0, "num_sanity_val_steps": 0, "devices": 1,
        "accelerator": subject.device.type, "accumulate_grad_batches": 1, "precision": "32-true",
    }  # fmt: skip
    words = [word for key, value in options.items() for word in (f"--trainer.{key}", str(value))]
    cli = DetectorCLI([*subject.arguments, *words])
    clock = _Clock(steps, subject.device)
    trainer = make_trainer(cli, None, Scoring(), [StepSeeds(0), clock])
    trainer.fit(model, train_dataloaders=_Ready(subject.batches, count))
    return clock.seconds


def release(device: torch.device) -> None:
    """Gives back what copies held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def peak_memory(subject: Subject) -> float:
    """MiB of tensors that one step of training adds at its highest, beside weights, optimiser's state and batches."""
    bare = Bare(subject)
    bare.detector.train()
    step = bare.step(bare.optimizer())
    step(subject.batches[0])  # the optimiser's state is made by the first one
    release(subject.device)
    if subject.device.type == "cuda":
        before = torch.cuda.memory_allocated(subject.device)
        torch.cuda.reset_peak_memory_stats(subject.device)
        step(subject.batches[0])
        settle(subject.device)
        return (torch.cuda.max_memory_allocated(subject.device) - before) / 2**20
    # what the process holds tells nothing: memory that was given back to it is used again
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step(subject.batches[0])
    assert seen.profiler is not None
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))
    return max(held, default=0) / 2**20
