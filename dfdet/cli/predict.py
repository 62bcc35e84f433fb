"""``dfdet predict``: any files in, a score for every person and every video out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

EXAMPLE = "dfdet predict clip.mp4 photo.jpg folder/ --run runs/demo/srm_cnn"


def predict(
    paths: list[str],
    run: Path | None = None,
    checkpoint: str = "best",
    detector: Literal["run", "auto", "yunet", "dlib"] = "run",
    detector_model: Path | None = None,
    cropped: bool = False,
    clips: int | None = None,
    out: Path | None = None,
    json: Path | None = None,
) -> None:
    """Scores videos, images and folders with a run's detector: one score a person, one a video.

    Args:
        paths: Files or folders.
        run: A run directory, as dfdet fit wrote it.
        checkpoint: best, last, or the path of a checkpoint of the same detector.
        detector: Face detector; run takes the one that the run was trained with.
        detector_model: YuNet's model file, if you have it.
        cropped: The files are face crops already.
        clips: Clips a face track; by default as in the run's evaluation.
        out: Write the scores to this .csv or .json file.
        json: Write the printed tables to this file too.
    """
    from dfdet import console
    from dfdet.errors import UserError

    if run is None:
        raise UserError("dfdet predict wants a run", "dfdet predict VIDEO --run runs/EXPERIMENT/NAME")
    if not paths:
        raise UserError("dfdet predict wants files or folders", "dfdet predict VIDEO --run runs/EXPERIMENT/NAME")
    if out is not None and out.suffix not in (".csv", ".json"):
        raise UserError(f"--out {out} is neither .csv nor .json")
    if clips is not None and clips < 1:
        raise UserError(f"--clips is {clips}", "it must be at least 1")
    from dfdet.training.predictor import Predictor

    predictor = Predictor.from_run(run, checkpoint)
    with console.interruptible("nothing was written"):
        found = predictor.predict(
            paths, detector=detector, detector_model=detector_model, cropped=cropped, clips=clips, progress=True
        )
    console.show(*found.tables(), json_file=json)
    scored = int(found.videos["logit"].notna().sum())
    if out is not None:
        found.write(out)
        console.say(f"wrote {out}")
    if not scored:
        raise UserError(f"none of the {len(found.videos)} files could be scored", "the status column says why")


def main(arguments: Sequence[str]) -> None:
    """Parses; files stand before, between or after the flags."""
    from dfdet.cli.command import parse, switches

    given = _gather(arguments, switches([predict]))
    predict(**parse("dfdet predict", predict, given, EXAMPLE).as_dict())


def _gather(arguments: Sequence[str], alone: set[str]) -> list[str]:
    """Any number of files -> the one list that the parser takes."""
    import json

    if not arguments or "--help" in arguments or "-h" in arguments:
        return ["--help"]
    files: list[str] = []
    flags: list[str] = []
    words = iter(arguments)
    for word in words:
        if not word.startswith("--"):
            files.append(word)
            continue
        flags.append(word)
        if "=" not in word and word not in alone:
            flags += [value] if (value := next(words, None)) is not None else []
    return [json.dumps(files), *flags]
