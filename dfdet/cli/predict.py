"""``dfdet predict``: any files in, a score for every person and every video out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

EXAMPLE = "dfdet predict clip.mp4 photo.jpg folder/ --run runs/demo/srm_cnn"
WHAT = "dfdet predict VIDEO --run runs/EXPERIMENT/NAME, or --weights NAME (dfdet weights list)"


def predict(
    paths: list[str],
    run: Path | None = None,
    weights: str | None = None,
    model: str | None = None,
    untrained: bool = False,
    checkpoint: str = "best",
    detector: Literal["run", "auto", "yunet", "dlib"] = "run",
    detector_model: Path | None = None,
    cropped: bool = False,
    clips: int | None = None,
    out: Path | None = None,
    json: Path | None = None,
) -> None:
    """Scores videos, images and folders with a run's detector or published weights: one score a person, one a video.

    Args:
        paths: Files or folders.
        run: A run directory, as dfdet fit wrote it.
        weights: Published weights in place of a run: a name of dfdet weights list, a file, hf:owner/name.
        model: The detector, where a file of weights does not tell it; or with untrained.
        untrained: Score with a model whose weights are random, to try the way: its scores say nothing.
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

    if (run is not None) + (weights is not None) + untrained != 1:
        if run is None and weights is None and model is not None:
            raise UserError(f"{model} has random weights", "give --run or --weights, or say --untrained")
        many = run is not None or weights is not None
        raise UserError("dfdet predict wants " + ("one of --run, --weights, --untrained" if many else "a run"), WHAT)
    if untrained and model is None:
        raise UserError("--untrained wants a --model", "dfdet models lists them")
    if run is not None and model is not None:
        raise UserError(f"--model {model} is given, but a run has its own", "leave --model out")
    if not paths:
        raise UserError("dfdet predict wants files or folders", WHAT)
    if out is not None and out.suffix not in (".csv", ".json"):
        raise UserError(f"--out {out} is neither .csv nor .json")
    if clips is not None and clips < 1:
        raise UserError(f"--clips is {clips}", "it must be at least 1")
    from dfdet.training.looking import media_files
    from dfdet.training.predictor import Predictor

    media_files(paths)  # before weights are fetched and a network is built
    if run is not None:
        predictor = Predictor.from_run(run, checkpoint)
    elif weights is not None:
        predictor = Predictor.from_weights(weights, model)
    else:
        predictor = Predictor.untrained(str(model))
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

    given = gather(arguments, switches([predict]))
    predict(**parse("dfdet predict", predict, given, EXAMPLE).as_dict())


def gather(arguments: Sequence[str], alone: set[str]) -> list[str]:
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
