"""``dfdet bench``: what this machine does, in one table, next to what others do; how detectors compare on a corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from dfdet.cli.overview import overview


def loader(
    manifest: Path | None = None,
    root: Path | None = None,
    where: str | None = None,
    workers: int = 1,
    clips_per_visit: int = 4,
    clip_length: int = 16,
    size: int = 224,
    batch_size: int = 8,
    visits: int = 12,
    rounds: int = 3,
    clips: int = 400,
    store: Path | None = None,
    json: Path | None = None,
) -> None:
    """Clips per second of the data module, beside decoding alone, other readers, extracted crops and a crop store.

    Args:
        manifest: x.parquet as dfdet index wrote it.
        root: Where the files lie now, if not where they lay when indexed.
        where: Only files for which this holds: "height >= 720".
        workers: Loader workers; every rival gets as many.
        clips_per_visit: Clips from one pass through a video.
        clip_length: Frames a clip.
        size: Side of the crops, pixels.
        batch_size: Clips a batch.
        visits: Visits of one timed pass.
        rounds: Timed passes of each, in turns.
        clips: Clips after which memory is compared with that after a twentieth of them.
        store: A folder for the bench's crop store, to measure the disk that it lies on; by default a temporary one.
        json: Write every figure to this file, as flat keys.
    """
    from dfdet.bench import clips as choice
    from dfdet.bench.loader import run

    files = choice.choose(_given(manifest), root, where)
    shape = choice.Shape(clip_length, size, clips_per_visit, batch_size)
    _show(run(choice.Settings(files, shape, workers, visits, rounds, clips, store)), json)


def index(
    folder: Path,
    detector: Literal["auto", "yunet", "dlib"] = "auto",
    detector_model: Path | None = None,
    workers: int = 1,
    files: int = 24,
    json: Path | None = None,
) -> None:
    """Videos per second of indexing, x real time a core, and the shares of decoding, detection and proof of readers.

    Args:
        folder: Videos, in folders of any kind.
        detector: Face detector; auto takes yunet where its model is at hand.
        detector_model: YuNet's model file, if you have it.
        workers: Processes.
        files: Take so many files at most, spread over the folder.
        json: Write every figure to this file, as flat keys.
    """
    from dfdet.bench.index import run
    from dfdet.faces.detector import choose

    _show(run(folder, choose(detector, detector_model), workers, files), json)


def end_to_end(
    manifest: Path | None = None,
    root: Path | None = None,
    model: str = "meso4",
    size: int | None = 128,
    epochs: int = 1,
    workers: int = 1,
    clips_per_visit: int = 4,
    clip_length: int = 16,
    batch_size: int = 8,
    json: Path | None = None,
) -> None:
    """From released files to the first test AUROC: streaming, and extracting PNG crops first, in time and disk.

    Args:
        manifest: x.parquet as dfdet index wrote it.
        root: Where the files lie now, if not where they lay when indexed.
        model: A detector by name or import path.
        size: Side that it sees, its argument model.size; null takes its own.
        epochs: Epochs of training.
        workers: Loader workers, for both ways.
        clips_per_visit: Clips from one pass through a video.
        clip_length: Frames a clip.
        batch_size: Clips a batch.
        json: Write every figure to this file, as flat keys.
    """
    from dfdet.bench.end_to_end import Settings, run

    _show(
        run(Settings(_given(manifest), root, model, size, epochs, workers, clips_per_visit, clip_length, batch_size)),
        json,
    )


def model(
    device: Literal["auto", "cpu", "cuda"] = "auto",
    batch_size: int | None = None,
    rounds: int = 5,
    seconds: float = 1.0,
    variants: bool = False,
    *,
    detectors: list[str] | None = None,
    json: Path | None = None,
) -> None:
    """Parameters, GFLOPs, clips per second and memory of every detector, beside its bare network in a plain loop.

    Args:
        device: auto takes a GPU where there is one.
        batch_size: Clips a batch; by default by the detector's work and the device.
        rounds: Timed passes of each, in turns.
        seconds: About how long one pass takes.
        variants: Also measure bfloat16, channels_last and torch.compile.
        detectors: Some of dfdet models: meso4,xception; by default all.
        json: Write a row a detector to this file.
    """
    import os

    for name, level in (("KINETO_LOG_LEVEL", "5"), ("TORCH_CPP_LOG_LEVEL", "ERROR")):  # the profiler talks of itself
        os.environ.setdefault(name, level)
    import torch

    from dfdet import console
    from dfdet.bench.model import Settings, run, tables_of
    from dfdet.errors import UserError

    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise UserError("torch sees no GPU here", "leave --device out, or see `dfdet doctor`")
    for name, value in (("batch_size", batch_size), ("rounds", rounds)):
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}", "it must be at least 1")
    chosen = ("cuda" if there else "cpu") if device == "auto" else device
    rows = run(Settings(detectors or (), chosen, batch_size, rounds, seconds, variants))
    _write_rows(rows, json)
    console.show(*tables_of(rows, variants))


def detectors(
    manifest: Path | None = None,
    root: Path | None = None,
    out: Path = Path("runs/bench_detectors"),
    seconds: int = 300,
    seed: int = 0,
    *,
    detectors: list[str] | None = None,
    json: Path | None = None,
) -> None:
    """Every detector trained from scratch for the same time on the CPU, and judged on the test split.

    Args:
        manifest: x.parquet as dfdet index wrote it, with a train, a val and a test split.
        root: Where the files lie now, if not where they lay when indexed.
        out: The folder for the runs; a detector that was finished there is not trained again.
        seconds: For the training of each; those of scikit-learn take one pass instead.
        seed: Of every draw.
        detectors: Some of dfdet models: meso4,xception; by default all that see what the manifest holds.
        json: Write the rows to this file.
    """
    from dfdet import console
    from dfdet.bench.detectors import Settings, run, table_of

    settings = Settings(_given(manifest), root, out, detectors or (), seconds, seed)
    with console.interruptible("what was finished stays: run the same command again"):
        rows = run(settings)
    _write_rows(rows, json)
    console.show(table_of(rows, settings))


def convergence(
    manifest: Path | None = None,
    root: Path | None = None,
    size: int | None = 128,
    steps: int = 2000,
    seconds: float = 300.0,
    every: int = 50,
    batch_size: int = 64,
    seeds: int = 3,
    lr: float | None = None,
    json: Path | None = None,
) -> None:
    """How soon the SRM CNN on residuals, on RGB and on both, and the MesoNets, get .85 to .95 of the frames right.

    Args:
        manifest: x.parquet as dfdet index wrote it, with a train and a val split.
        root: Where the files lie now, if not where they lay when indexed.
        size: Side that every network sees; null takes its own.
        steps: Of each, at most.
        seconds: Of each, at most; validation is left out.
        every: Steps between two looks at validation.
        batch_size: Frames a step.
        seeds: How often each is trained.
        lr: Learning rate of all; by default each its own.
        json: Write the rows, with every look, to this file.
    """
    from dfdet import console
    from dfdet.bench.convergence import Settings, run, table_of

    settings = Settings(_given(manifest), root, size, steps, seconds, every, batch_size, seeds, lr)
    rows = []
    with console.interruptible("the rows that were finished are in the file of --json" if json else "nothing is kept"):
        for row in run(settings):
            rows.append(row)
            _write_rows(rows, json)
    console.show(table_of(rows, settings))


BENCHES: dict[str, tuple[Callable[..., None], str]] = {
    "loader": (loader, "dfdet bench loader --manifest ffpp.parquet"),
    "index": (index, "dfdet bench index /data/videos --detector dlib"),
    "end_to_end": (end_to_end, "dfdet bench end_to_end --manifest ffpp.parquet"),
    "model": (model, "dfdet bench model --detectors meso4,xception"),
    "detectors": (detectors, "dfdet bench detectors --manifest faces.parquet --seconds 300"),
    "convergence": (convergence, "dfdet bench convergence --manifest faces.parquet"),
}


def usage() -> str:
    """The help of ``dfdet bench`` itself."""
    return overview(
        "dfdet bench",
        "how fast it is on your files and this machine, beside what others do",
        "WHAT",
        {name: (function.__doc__ or "").splitlines()[0] for name, (function, _) in BENCHES.items()},
        "dfdet bench loader --manifest ffpp.parquet",
    )


def _given(manifest: Path | None) -> Path:
    from dfdet.errors import UserError

    if manifest is None:
        raise UserError("which manifest?", "give --manifest x.parquet, as dfdet index wrote it")
    return manifest


def _show(report: object, json: Path | None) -> None:
    from dfdet import console, files
    from dfdet.bench.report import Report

    assert isinstance(report, Report)
    console.show(report.table)
    if json is not None:
        files.write_json(json, report.keys)


def _write_rows(rows: Sequence[Mapping[str, object]], json: Path | None) -> None:
    """Rows, and the machine that they were measured on."""
    from dfdet import files
    from dfdet.bench.machine import machine

    if json is not None:
        files.write_json(json, {"rows": [dict(row) for row in rows], "machine": machine()})


def main(arguments: Sequence[str]) -> None:
    """Finds the bench, parses, measures and prints."""
    from dfdet.cli.command import parse
    from dfdet.errors import UserError, nearest

    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        print(usage())
        return
    if name not in BENCHES:
        hint = nearest(name, BENCHES) if name else f"one of {', '.join(BENCHES)}"
        raise UserError(f"there is no bench {name!r}" if name else "which bench?", hint)
    function, example = BENCHES[name]
    function(**parse(f"dfdet bench {name}", function, arguments[1:], example).as_dict())
