"""``dfdet bench loader``: a manifest in; how fast clips come out of it, beside decoding alone and beside rivals."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from dfdet import console
from dfdet.bench import clips, competitors, epochs, memory, pixels, stages
from dfdet.bench.clips import Settings, VisitClips
from dfdet.bench.extracted import Cost, Pictures, extract
from dfdet.bench.pipeline import LoaderRun, Pipeline
from dfdet.bench.report import Report
from dfdet.bench.rounds import interleaved, times_faster
from dfdet.data.augment import PRESETS

OURS = "data module"
DECODE, BARE, WHOLE = "decoding alone, to RGB", "decoding alone, no RGB", "decoding alone, whole frames to RGB"
DECORD, PLAIN, TORCHCODEC = "decord per clip", "plain PyAV pass", "torchcodec pass"
PNG, JPEG = "PNG crops", "JPEG-95 crops"
KEYS = {
    OURS: "loader",
    DECODE: "decode",
    BARE: "decode_without_rgb",
    WHOLE: "decode_whole_frames",
    DECORD: "decord_per_clip",
    PLAIN: "pyav_pass",
    TORCHCODEC: "torchcodec_pass",
    PNG: "png",
    JPEG: "jpeg95",
}


def run(settings: Settings) -> Report:
    """Measures everything; takes minutes."""
    shape, files = settings.shape, settings.files
    title = (
        f"Loader: {shape.clips_per_visit} clips a visit, {shape.clip_length} frames a clip, {shape.size} px, "
        f"{settings.workers} worker{'' if settings.workers == 1 else 's'}, {files.measured} files"
    )
    report = Report.titled(title)
    with tempfile.TemporaryDirectory(prefix="dfdet-bench-") as temporary:
        folder = Path(temporary)
        _memory(report, settings)  # first: nobody else holds anything yet
        data = settings.module()
        wanted = clips.visits(data)
        console.say("one pass to compare pixels, then the timed ones")
        costs = extract(wanted, folder / "crops", [".png", ".jpg"])
        _speed(report, settings, LoaderRun(data, shape), wanted, folder / "crops")
        _extraction(report, costs, files.frames)
        _stages(report, settings, wanted)
        png = Pipeline(Pictures(folder / "crops", ".png"), wanted, shape.clip, settings.workers, shape.batch_size)
        epochs.measure(report, settings, png, settings.store or folder / "store")
    if files.left_out:
        report.note(f"{files.left_out} undamaged files that decord reads wrong were left out, for all alike")
    report.keys |= {"workers": settings.workers, "files": files.measured, **vars(shape)}
    return report.on_this_machine()


# Streaming -----------------------------------------------------------------------------------------------------------


def rivals(settings: Settings, crops: Path) -> dict[str, competitors.Make]:
    """By name, everybody who makes the same clips; those that cannot be measured here are left out."""
    found: dict[str, competitors.Make] = {
        DECODE: competitors.decode_and_convert,
        BARE: competitors.decode_only,
        WHOLE: competitors.decode_and_convert_whole,
    }
    if settings.files.proven:
        found[DECORD] = competitors.decord_per_clip
    found[PLAIN] = competitors.plain_pass
    if competitors.torchcodec_missing() is None:
        found[TORCHCODEC] = competitors.torchcodec_pass
    return found | {PNG: Pictures(crops, ".png"), JPEG: Pictures(crops, ".jpg")}


INEXACT = (DECODE, BARE, WHOLE, JPEG)  # who makes no pixels, or others


def _speed(report: Report, settings: Settings, ours: LoaderRun, wanted: list[VisitClips], crops: Path) -> None:
    made = pixels.expected(settings.module("none").train_dataloader().batches(0))
    shape = settings.shape
    runs: dict[str, Callable[[], float]] = {OURS: ours.seconds}
    compared = 0
    for name, make in rivals(settings, crops).items():
        line = Pipeline(make, wanted, shape.clip, settings.workers, shape.batch_size)
        if name in INEXACT:
            line.seconds()  # starts its workers
        else:
            compared += pixels.check(name, line.made(), made)
        runs[name] = line.seconds
    seconds = interleaved(runs, settings.rounds)
    for name, values in seconds.items():
        rate = ours.clips * len(values) / sum(values)
        beside = "" if name == OURS else f"{times_faster(seconds[OURS], values):.2f} x by the data module"
        report.add(name, rate, "clips/s", key=f"clips_per_second_{KEYS[name]}", beside=beside)
    _ratios(report, seconds)
    report.keys["clips_compared"] = compared
    report.note(f"{compared} clips of rivals were compared with the data module's: equal in every bit")


def _ratios(report: Report, seconds: dict[str, list[float]]) -> None:
    def faster(name: str) -> float | None:
        return times_faster(seconds[OURS], seconds[name]) if name in seconds else None

    report.keys["ratio_to_decode"] = faster(DECODE)
    report.keys["ratio_to_decode_without_rgb"] = faster(BARE)
    report.keys["ratio_to_decode_whole_frames"] = faster(WHOLE)
    report.keys["ratio_to_decord_per_clip"] = faster(DECORD)
    passes = [ratio for ratio in (faster(PLAIN), faster(TORCHCODEC)) if ratio is not None]
    report.keys["ratio_to_plain_pass"] = min(passes)
    report.keys["ratio_to_png"] = faster(PNG)
    if DECORD not in seconds:
        report.note("decord is exact for none of the files, or is not installed: not measured")
    missing = competitors.torchcodec_missing()
    if missing:
        report.note(missing)


def _extraction(report: Report, costs: dict[str, Cost], frames: int) -> None:
    for suffix, name in ((".png", PNG), (".jpg", JPEG)):
        cost = costs[suffix]
        report.add(
            f"{name}: extraction", cost.hours_for(frames), "h", key=f"{KEYS[name]}_hours",
            beside=f"{cost.gib_for(frames):.2f} GiB, for a crop of each of the manifest's {frames} frames, "
            f"extrapolated from {cost.crops}",
        )  # fmt: skip
        report.keys[f"{KEYS[name]}_gib"] = cost.gib_for(frames)


# Where the time goes, and the memory ---------------------------------------------------------------------------------


def _stages(report: Report, settings: Settings, wanted: list[VisitClips]) -> None:
    few = wanted[: max(len(wanted) // 2, 4)]
    found = stages.measure(settings.module(), few)
    found.seconds["transfer"] = stages.transfer(settings.module(kind=stages.ReadyModule), settings.shape)
    for name, share in found.shares().items():
        report.add(f"share of {name}", share, key=f"share_{name}", beside=f"{1000 * found.seconds[name]:.2f} ms a clip")
    for name in PRESETS:
        if name != "none":
            report.add(f"augmentation {name}", 1000 * found.presets[name], "ms a clip", key=f"augment_ms_{name}")
    report.add("frames decoded per frame used", found.decoded_per_used, key="frames_decoded_per_used")


def _memory(report: Report, settings: Settings) -> None:
    if not memory.can_look():
        report.note("this system does not tell what a process shares: memory was not measured")
        report.keys["rss_ratio"] = None
        return
    shape, data = settings.shape, settings.module()
    block = min(settings.visits, data.block_visits) * shape.clips_per_visit
    found = memory.growth(data.train_dataloader(), settings.memory_clips, shape.batch_size, block)
    report.add("memory at the start", found.start, "MiB", key="rss_start_mib", beside=f"after {found.first_look} clips")
    report.add("memory at the end", found.end, "MiB", key="rss_end_mib", beside=f"after {found.clips} clips")
    report.add("memory, end by start", found.ratio, key="rss_ratio")
