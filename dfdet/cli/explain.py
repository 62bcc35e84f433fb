"""``dfdet explain``: files in, pictures of where the detector's score of them comes from out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

EXAMPLE = "dfdet explain clip.mp4 photo.jpg --run runs/demo/srm_cnn --out explained"


def explain(
    paths: list[str],
    run: Path | None = None,
    weights: str | None = None,
    model: str | None = None,
    out: Path = Path("explained"),
    checkpoint: str = "best",
    method: Literal["auto", "attention", "gradcam", "cam_legacy", "blocks"] = "auto",
    layer: str | None = None,
    toward: Literal["fake", "real"] = "fake",
    detector: Literal["run", "auto", "yunet", "dlib"] = "run",
    detector_model: Path | None = None,
    cropped: bool = False,
    clips: int | None = None,
    no_film: bool = False,
    json: Path | None = None,
) -> None:
    """Draws what a detector's scores of videos and images hang on: heat-maps, a contact sheet, an annotated film.

    Args:
        paths: Files or folders.
        run: A run directory, as dfdet fit wrote it.
        weights: Published weights in place of a run: a name of dfdet weights list, a file, hf:owner/name.
        model: The detector, where a file of weights does not tell it.
        out: The folder for the pictures; one below it for each file.
        checkpoint: best, last, or the path of a checkpoint of the same detector.
        method: auto takes the network's block scores or attention where it has them, else Grad-CAM; cam_legacy is the
            ResNeXt-LSTM authors' map, which passes over the LSTM.
        layer: The layer for Grad-CAM, by its name; by default the last convolution.
        toward: Show what speaks for fake, or for real.
        detector: Face detector; run takes the one that the run was trained with.
        detector_model: YuNet's model file, if you have it.
        cropped: The files are face crops already.
        clips: Clips a face track; by default as in the run's evaluation.
        no_film: Leave out the film of each video, with boxes and scores over time.
        json: Write the printed table to this file too.
    """
    from dfdet.errors import UserError

    example = "dfdet explain VIDEO --run runs/EXPERIMENT/NAME"
    if (run is None) == (weights is None):
        raise UserError("dfdet explain wants a run or weights, one of the two", example)
    if not paths:
        raise UserError("dfdet explain wants files or folders", example)
    if clips is not None and clips < 1:
        raise UserError(f"--clips is {clips}", "it must be at least 1")
    from dfdet import console
    from dfdet.studies.explain import explain as work
    from dfdet.studies.explain import table_of
    from dfdet.studies.heat import Heater
    from dfdet.training.ensemble import refuse_ensemble
    from dfdet.training.predictor import Predictor

    if run is not None:
        if model is not None:
            raise UserError(f"--model {model} is given, but a run has its own", "leave --model out")
        predictor = Predictor.from_run(run, checkpoint)
    else:
        predictor = Predictor.from_weights(str(weights), model)
    refuse_ensemble(predictor, "no one map")
    heater = Heater(predictor.model, method, layer, toward)
    with console.interruptible("what was drawn stays"):
        made = work(
            predictor, paths, out, heater, detector=detector, detector_model=detector_model, cropped=cropped,
            clips=clips, film=not no_film,
        )  # fmt: skip
    console.show(table_of(made, predictor.threshold), json_file=json)
    drawn = sum(one.folder is not None for one in made)
    if not drawn:
        raise UserError(f"none of the {len(made)} files could be scored", "the remark says why")
    console.say(f"wrote {out}: look at sheet.png of each file")


def main(arguments: Sequence[str]) -> None:
    """Parses; files stand before, between or after the flags."""
    from dfdet.cli.command import parse, switches
    from dfdet.cli.predict import gather

    given = gather(arguments, switches([explain]))
    explain(**parse("dfdet explain", explain, given, EXAMPLE).as_dict())
