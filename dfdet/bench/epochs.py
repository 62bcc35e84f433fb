"""A crop store, filled once, in; how fast later epochs come out of it, and how long a GPU waits for clips, out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from dfdet.bench import feed
from dfdet.bench.clips import Settings
from dfdet.bench.pipeline import LoaderRun, Pipeline
from dfdet.bench.report import Report
from dfdet.bench.rounds import interleaved, times_faster
from dfdet.bench.store import StoreRuns
from dfdet.data.batch import ClipBatch


def measure(report: Report, settings: Settings, png: Pipeline, folder: Path) -> None:
    """Adds the figures of later epochs to a report.

    Args:
        report: It.
        settings: What is measured.
        png: The same clips as PNG crops.
        folder: Where the store shall lie.
    """
    store = StoreRuns(settings.files, settings.shape, folder, settings.workers, settings.visits)
    store.fill()
    _cold(report, store)  # first: pages that somebody has mapped cannot be dropped
    as_stored, flipped = store.through_batches("none"), store.through_batches("flip")
    png_batches = sum(len(visit.clips) for visit in png.visits) / settings.shape.batch_size
    runs: dict[str, Callable[[], float]] = {
        "store, later epochs": as_stored.a_batch,
        "bare memmap": store.bare,
        "store, with flip": flipped.a_batch,
        "PNG, with flip": lambda: png.seconds() / png_batches,
    }
    for start in runs.values():
        start()
    seconds = interleaved(runs, settings.rounds)
    for name, values in seconds.items():
        report.add(name, len(values) / sum(values), "batches/s", key="batches_per_second_" + _word(name))
    report.keys["ratio_store_to_memmap"] = times_faster(seconds["store, later epochs"], seconds["bare memmap"])
    report.keys["ratio_store_to_png"] = times_faster(seconds["store, with flip"], seconds["PNG, with flip"])
    report.add("store, later epochs, by memmap", report.keys["ratio_store_to_memmap"])
    beside = f"{store.clips} clips, {store.pool} a track"
    report.add("store on disk", store.bytes / 2**30, "GiB", key="store_gib", beside=beside)
    if torch.cuda.is_available():
        device = torch.device("cuda")
        streaming = LoaderRun(settings.module(), settings.shape)
        waiting(report, settings, {"streaming": streaming, "store": flipped}, "efficientnet_b4", device)
    else:
        report.note("no GPU here: how long one waits for clips was not measured")


def _word(name: str) -> str:
    return name.lower().replace(",", "").replace(" ", "_")


def _cold(report: Report, store: StoreRuns) -> None:
    runs: dict[str, Callable[[], float]] = {"store": store.once, "memmap": lambda: store.bare(1)}
    for name, read in runs.items():
        dropped = store.drop_pages()
        if not dropped:
            why = "does not let go of them" if dropped is False else "cannot be asked to"
            report.note(f"{name} after dropping its pages was not measured: the system {why}")
            continue
        rate = 1 / read()
        report.add(f"{name}, pages dropped", rate, "batches/s", key=f"batches_per_second_cold_{name}")


def waiting(report: Report, settings: Settings, runs: dict[str, LoaderRun], name: str, device: torch.device) -> None:
    """Adds how much of its time a device waits while it trains a timm network on each of ``runs``."""
    for way, run in runs.items():
        model: nn.Module = feed.network(name)
        found = feed.feed(_endless(run, device), model, device, settings.feed_seconds)
        report.add(
            f"{device.type} waited, {way}", found.waited, key=f"{device.type}_waited_{way}",
            beside=f"{name}, bfloat16, {found.clips_per_second:.1f} clips/s",
        )  # fmt: skip


def _endless(run: LoaderRun, device: torch.device) -> Iterator[ClipBatch]:
    """Batches, epoch after epoch."""
    epoch = 0
    while True:
        for batch in run.loader.batches(epoch):
            yield batch.pin_memory() if device.type == "cuda" else batch
        epoch += 1
