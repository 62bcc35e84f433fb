"""``dfdet export``: a run in, its detector in a form for others out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

EXAMPLE = "dfdet export --run runs/demo/srm_cnn --format onnx"


def export(
    run: Path | None = None,
    format: Literal["onnx"] = "onnx",
    out: Path | None = None,
    checkpoint: str = "best",
    json: Path | None = None,
) -> None:
    """Writes a run's detector as one ONNX file: uint8 RGB crops in, logits out, compared with the detector.

    Args:
        run: A run directory, as dfdet fit wrote it.
        format: What to write.
        out: The file; by default RUN/NAME.onnx.
        checkpoint: best, last, or the path of a checkpoint of the same detector.
        json: Write the printed table to this file too.
    """
    from dfdet.errors import UserError

    if run is None:
        raise UserError("dfdet export wants a run", "dfdet export --run runs/EXPERIMENT/NAME --format onnx")
    from dataclasses import asdict

    from dfdet import console
    from dfdet.export.onnx import export_onnx
    from dfdet.training.ensemble import refuse_ensemble
    from dfdet.training.predictor import Predictor

    predictor = Predictor.from_run(run, checkpoint)
    refuse_ensemble(predictor, "no one network")
    data = predictor.data
    crop = data.crop.spec(data.size or 1)
    target = out if out is not None else run / f"{run.resolve().name}.onnx"
    threshold = predictor.threshold
    facts = {
        "name": f"{run.resolve().parent.name}/{run.resolve().name}",
        "threshold": threshold if threshold == threshold else "not known",
        "crop": asdict(crop),
    }
    done = export_onnx(predictor.model.cpu(), target, data.clip.frames, crop.size, facts)
    table = console.Table("Exported", ["file", "MiB", "input", "largest difference of a logit"])
    table.add(str(done.path), round(done.size / 2**20, 2), done.inputs, f"{done.difference:.1e}")
    table.notes.append("compared by onnxruntime with the detector on random pictures, in batches of 1 and 3")
    console.show(table, json_file=json)
    console.say(f"wrote {done.path}")


def main(arguments: Sequence[str]) -> None:
    """Parses and writes."""
    from dfdet.cli.command import parse

    export(**parse("dfdet export", export, arguments, EXAMPLE).as_dict())
