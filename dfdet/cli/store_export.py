"""``dfdet store export``: crops of a manifest's faces for people with other code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

EXAMPLE = "dfdet store export ffpp.parquet crops --format png"


def export(
    manifest: Path,
    out: Path,
    format: Literal["png", "deepfakebench", "mp4"] = "png",
    split: Literal["train", "val", "test", "all"] = "all",
    frames: int | None = None,
    size: int | None = None,
    crop: str = "default",
    scale: float | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    json: Path | None = None,
) -> None:
    """Writes face crops of every usable video's main track: PNG files, DeepfakeBench's tree, or videos of the face.

    Args:
        manifest: x.parquet as dfdet index wrote it.
        out: The folder to write to. An unfinished export of the same settings is completed.
        format: png is OUT/SPLIT/LABEL/VIDEO/FRAME.png and crops.csv; deepfakebench its frames and JSON; mp4 one video
            of the face a video, and videos.csv (as for ResNeXt-LSTM: --format mp4 --crop dlib --frames 150).
        split: Which videos.
        frames: Frames a video: 32 spread evenly for pictures; all for mp4, else the first so many.
        size: Side of the crops, pixels; 256, and 112 for mp4.
        crop: How a face is cropped: default, ffpp, icpr, selim, tight, mesonet or dlib.
        scale: Side of the crop in face heights, in place of the preset's.
        workers: Processes; by default the processors, at most 8.
        overwrite: Remove the export that is there.
        json: Write the printed table to this file too.
    """
    from dfdet import console
    from dfdet.export import export as work

    with console.interruptible("what was finished stays: run the same command again to go on"):
        done = work(
            manifest, out, format, split=split, frames=frames, size=size, crop=crop, scale=scale, workers=workers,
            overwrite=overwrite,
        )  # fmt: skip
    console.show(*done.tables, json_file=json)
    for line in done.failed[:5]:
        console.warn(f"could not be exported: {line}")
    console.say(f"wrote {done.table}")


def main(arguments: Sequence[str]) -> None:
    """Parses and writes."""
    from dfdet.cli.command import parse

    export(**parse("dfdet store export", export, arguments, EXAMPLE).as_dict())
