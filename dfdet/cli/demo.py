"""``dfdet demo``: a corpus of rendered heads that the program makes by itself, and the whole way on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

EXAMPLE = "dfdet demo demo --run"


def demo(
    folder: Path,
    run: bool = False,
    identities: int = 40,
    frames: int = 50,
    strength: float = 0.85,
    seed: int = 0,
    epochs: int | None = None,
    workers: int | None = None,
    json: Path | None = None,
) -> None:
    """Makes short videos of rendered heads, real and forged; with --run also indexes, trains, tests and predicts.

    Numbers on it say nothing about real deepfakes.

    Args:
        folder: Where to. With --run the manifest and the run lie there too.
        run: Go the whole way: index, fit the SRM CNN, test, predict three videos.
        identities: How many people; from 40 on the test split is large enough for an interval.
        frames: Frames a video.
        strength: How plain the forgeries are, above 0 up to 1; small is hard.
        seed: Another seed makes other people.
        epochs: Epochs to train with --run; by default about two minutes on two cores.
        workers: Processes; by default the processors.
        json: With --run: write the printed tables to this file too.
    """
    from dfdet import console
    from dfdet.demo.corpus import make

    with console.interruptible("the videos that are finished stay: run the same command again to go on"):
        corpus = make(folder / "corpus" if run else folder, identities, frames, strength, seed, workers)
    console.say(f"wrote {corpus.folder}")
    manifest = folder / "demo.parquet" if run else Path("demo.parquet")
    if not run:
        console.say(f"next: dfdet index csv {corpus.folder} --name demo --detector dlib --out {manifest}")
        return
    _whole_way(folder, corpus.folder, manifest, epochs, workers, json)


def _whole_way(
    folder: Path, corpus: Path, manifest: Path, epochs: int | None, workers: int | None, json: Path | None
) -> None:
    """The commands that a user would type, one after the other."""
    from dfdet import console, runs

    crew = [] if workers is None else ["--workers", str(workers)]
    if not manifest.is_file():
        source = ["index", "csv", str(corpus), "--name", "demo", "--detector", "dlib", "--detector_size", "320"]
        _step([*source, "--out", str(manifest), *crew])
    name = runs.free_name(folder / "runs", "demo", "srm_cnn")
    run = folder / "runs" / "demo" / name
    length = [] if epochs is None else ["--trainer.max_epochs", str(epochs)]
    into = ["--runs", str(folder / "runs"), "--name", name]
    _step(["fit", "--config", "configs/experiment/demo.yaml", "--data.train", str(manifest), *into, *length])
    videos = [str(corpus / path) for path in _three_videos(manifest)]
    _step(["predict", *videos, "--run", str(run), "--out", str(run / "predictions.csv")])
    written = [] if json is None else ["--json", str(json)]
    _step(["test", "--run", str(run), *written])
    console.say("wrote " + ", ".join(str(p) for p in (corpus, manifest, run)))
    console.say(f"next: dfdet predict YOUR_VIDEO.mp4 --run {run}      (and `dfdet index --help` for your own corpus)")


def _step(arguments: list[str]) -> None:
    """One command, shown as typed."""
    from dfdet import console
    from dfdet.cli import main as run_command

    console.say(f"\n$ dfdet {' '.join(arguments)}")
    code = run_command(arguments)
    if code:
        raise SystemExit(code)


def _three_videos(manifest: Path) -> list[str]:
    """A real video, a swap and a reenactment of the test split."""
    from dfdet.manifest import read

    table = read(manifest).table
    table = table[(table["split"] == "test") & (table["face_status"] == "ok")]
    table = table[~table["path"].str.contains("awkward")]
    return [str(rows["path"].iloc[0]) for _, rows in table.groupby("method", sort=True)][:3]


def main(arguments: Sequence[str]) -> None:
    """Parses and makes."""
    from dfdet.cli.command import parse

    demo(**parse("dfdet demo", demo, arguments, EXAMPLE).as_dict())
