"""``dfdet bench model``: every detector in; its size, its speed, and its speed beside its bare network out."""

from __future__ import annotations

import logging
import statistics
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from dfdet import console
from dfdet.bench import machine
from dfdet.bench.networks import (
    READY,
    Bare,
    Subject,
    gflops,
    is_classical,
    make_detector,
    parameters,
    peak_memory,
    random_batch,
    release,
    timed,
    train_bare,
    train_lightning,
)
from dfdet.bench.rounds import interleaved, times_faster
from dfdet.data.batch import ClipBatch
from dfdet.detectors import DETECTORS
from dfdet.errors import UserError, nearest

GFLOPS_A_BATCH = {"cpu": 15.0, "cuda": 3000.0}  # of a forward pass; a step of training takes about a second and less
LARGEST = {"cpu": 32, "cuda": 512}
VARIANTS = ("bf16", "channels_last", "compile")
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        detectors: Names; empty: all.
        device: ``cpu`` or ``cuda``.
        batch_size: Clips; None: by the detector's work and the device.
        rounds: Timed passes of each, in turns.
        seconds: About how long one pass takes.
        variants: Also measure bf16, channels_last and compile.
    """

    detectors: Sequence[str] = ()
    device: str = "cpu"
    batch_size: int | None = None
    rounds: int = 5
    seconds: float = 1.0
    variants: bool = False


def run(settings: Settings) -> list[Row]:
    """One row a detector; what could not be measured is null, and ``note`` says why.

    Raises:
        UserError: If a detector is not known.
    """
    for name in settings.detectors:
        if name not in DETECTORS:
            raise UserError(f"no detector is named {name!r}", nearest(name, DETECTORS))
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    rows = []
    for name in settings.detectors or DETECTORS:
        console.say(f"measuring {name}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                rows.append(measure(name, DETECTORS[name].config, settings))
            except (UserError, RuntimeError) as error:  # one that does not fit here shall not cost the others
                rows.append({"detector": name, "note": str(error).splitlines()[0]})
                release(torch.device(settings.device))
    return rows


def measure(name: str, config: str, settings: Settings) -> Row:
    """The row of one detector.

    Args:
        name: Of the detector.
        config: The configuration that makes it.
        settings: What is measured.
    """
    row: Row = {"detector": name, "note": None}
    if not config.endswith(".yaml"):
        return row | {"note": f"made by {config}"}
    model, frames, size, arguments = make_detector(name, config)
    device = torch.device(settings.device)
    row |= {"clip_frames": frames, "size": size, "parameters": parameters(model)}
    if is_classical(model):
        return row | {"parameters": None, "note": "scikit-learn: no network to train by steps"}
    row["gflops"] = gflops(model, frames, size)
    clips = settings.batch_size or _batch_size(row["gflops"], device.type)
    batches = [random_batch(clips, frames, size, device, seed) for seed in range(READY)]
    subject = Subject(name, arguments, model.to(device), frames, size, batches)
    row |= {"device": device.type, "batch_size": clips}
    row |= _forward(subject, settings) | _training(subject, settings)
    row["peak_memory_mib"] = peak_memory(subject)
    if settings.variants:
        row |= _variants(subject, settings)
    if Bare(subject).own_step:
        row["note"] = "its training step has no plain twin: compared with itself without Lightning"
    release(device)
    return row


def _batch_size(work: float, device: str) -> int:
    fits = int(GFLOPS_A_BATCH[device] / max(work, 1e-6))
    return max(2, min(LARGEST[device], 2 ** max(fits, 1).bit_length() // 2))


def _steps(work: Callable[[ClipBatch], Any], subject: Subject, seconds: float) -> int:
    """How many steps take about so long."""
    once = timed(work, subject.batches, 2) / 2
    return max(3, min(200, round(seconds / once)))


def _forward(subject: Subject, settings: Settings) -> Row:
    bare = Bare(subject)
    bare.detector.eval()
    model: Any = subject.model.eval()

    def ours(batch: ClipBatch) -> Any:
        with torch.inference_mode():
            return model.predict_step(batch, 0)

    ready = {id(batch): bare.normalised(batch) for batch in subject.batches}

    def alone(batch: ClipBatch) -> Any:
        with torch.inference_mode():
            return bare.network(ready[id(batch)]) if bare.single else bare.network(ready[id(batch)], batch.mask)

    steps = _steps(bare.forward, subject, settings.seconds)
    works: dict[str, Callable[[ClipBatch], Any]] = {"ours": ours, "bare": bare.forward, "alone": alone}
    seconds = interleaved(
        {name: partial(timed, work, subject.batches, steps) for name, work in works.items()}, settings.rounds
    )
    rate = {name: subject.clips * steps / statistics.median(found) for name, found in seconds.items()}
    return {
        "forward_clips_per_second": rate["ours"],
        "bare_forward_clips_per_second": rate["bare"],
        "network_alone_clips_per_second": rate["alone"],
        "ratio_to_bare_forward": times_faster(seconds["ours"], seconds["bare"]),
    }


def _training(subject: Subject, settings: Settings) -> Row:
    bare = Bare(subject)
    bare.detector.train()
    steps = _steps(bare.step(bare.optimizer()), subject, settings.seconds)
    seconds = interleaved(
        {"ours": lambda: train_lightning(subject, steps), "bare": lambda: train_bare(subject, steps)}, settings.rounds
    )
    rate = {name: subject.clips * steps / statistics.median(found) for name, found in seconds.items()}
    return {
        "train_clips_per_second": rate["ours"],
        "bare_train_clips_per_second": rate["bare"],
        "ratio_to_bare_train": times_faster(seconds["ours"], seconds["bare"]),
    }


def _variants(subject: Subject, settings: Settings) -> Row:
    """How many times faster the bare loop becomes by each; null where it cannot be had on this machine."""
    device = subject.device.type

    def made(variant: str | None, training: bool) -> Callable[[], float]:
        bare = Bare(subject)
        bare.detector.train(training)
        if variant == "channels_last":
            bare.network.to(memory_format=torch.channels_last)
        if variant == "compile":
            bare.network = bare.detector.network = torch.compile(bare.network)
        cast = torch.autocast(device, dtype=torch.bfloat16) if variant == "bf16" else nullcontext()
        step = bare.step(bare.optimizer(), cast) if training else None

        def work(batch: ClipBatch) -> Any:
            if step is not None:
                return step(batch)
            with cast:
                return bare.forward(batch)

        steps = _steps(work, subject, settings.seconds)
        return lambda: timed(work, subject.batches, steps) / steps

    row: Row = {}
    for training in (False, True):
        runs = {"plain": made(None, training)}
        for variant in VARIANTS:
            try:
                runs[variant] = made(variant, training)
            except Exception as error:  # noqa: BLE001 - a compiler that is absent, a layer without bfloat16: told
                console.warn(f"{subject.name}: no {variant} here: {str(error).splitlines()[0][:120]}")
        seconds = interleaved(runs, settings.rounds)
        for variant in VARIANTS:
            key = f"{variant}_{'train' if training else 'forward'}_speedup"
            row[key] = times_faster(seconds[variant], seconds["plain"]) if variant in runs else None
    return row


def tables_of(rows: Sequence[Row], variants: bool) -> list[console.Table]:
    """The rows for the eye; what variants win in a table of its own."""
    short = {
        "detector": "detector", "input": "input", "parameters": "parameters", "gflops": "GFLOPs a clip",
        "batch_size": "batch", "forward_clips_per_second": "forward clips/s",
        "ratio_to_bare_forward": "of bare", "train_clips_per_second": "training clips/s",
        "ratio_to_bare_train": "of bare ", "peak_memory_mib": "peak MiB",
    }  # fmt: skip
    table = console.Table("Detectors", list(short.values()))
    for row in rows:
        told = dict(row)
        told["input"] = f"{row['clip_frames']} x {row['size']} px" if "size" in row else None
        table.add(*(_rounded(told.get(key)) for key in short))
        if row["note"]:
            table.notes.append(f"{row['detector']}: {row['note']}")
    table.notes += [
        "of bare: clips/s beside the same network in a plain loop on the same bytes, in turns; training by Lightning",
        "a multiplication and an addition are two FLOPs; float32; peak: tensors that one step of training adds",
        machine.line(machine.machine()),
    ]
    if not variants:
        return [table]
    stages = {"forward": "forward", "train": "training"}
    keys = {f"{v}_{stage}_speedup": f"{v}, {name}" for stage, name in stages.items() for v in VARIANTS}
    wins = console.Table("Times faster than float32 as it is", ["detector", *keys.values()])
    for row in rows:
        if "size" in row:
            wins.add(row["detector"], *(row.get(key) for key in keys))
    return [table, wins]


def _rounded(value: Any) -> Any:
    if isinstance(value, float) and value >= 100:
        return round(value)
    return value
