"""``dfdet bench loader | index | end_to_end``: what this machine does, in one table, next to what others do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


BENCHES: dict[str, tuple[Callable[..., None], str]] = {
    "loader": (loader, "dfdet bench loader --manifest ffpp.parquet"),
    "index": (index, "dfdet bench index /data/videos --detector dlib"),
    "end_to_end": (end_to_end, "dfdet bench end_to_end --manifest ffpp.parquet"),
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
