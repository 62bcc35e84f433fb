"""``dfdet index``: a corpus' files in, ``x.parquet`` and ``x.faces.parquet`` out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

EXAMPLE = "dfdet index faceforensics /data/FaceForensics++ --out ffpp.parquet --compression c23"


def index(
    corpus: str,
    root: Path,
    out: Path | None = None,
    detector: Literal["auto", "yunet", "dlib"] = "auto",
    detector_model: Path | None = None,
    detector_size: int = 640,
    stride: int = 5,
    cropped: bool = False,
    workers: int | None = None,
    overwrite: bool = False,
    json: Path | None = None,
) -> None:
    """Decodes every file of a corpus once: which frames there are, which reader is right, and where the faces are.

    Args:
        corpus: faceforensics, dfdc, folder, csv, or the import path of your own (my_lab.my_corpus).
        root: Where its files lie. Each corpus has options of its own: dfdet index CORPUS --help.
        out: The manifest to write, x.parquet; its tracks come beside it.
        detector: Face detector; auto takes yunet where its model is at hand.
        detector_model: YuNet's model file, if you have it.
        detector_size: Long side at which faces are looked for, pixels.
        stride: Look for faces in every n-th frame.
        cropped: The files are face crops already: the whole image is the face.
        workers: Processes; by default the processors.
        overwrite: Replace a manifest that is there.
        json: Write the printed tables to this file too.
    """
    raise AssertionError("a signature only; main() does the work")


def main(arguments: Sequence[str]) -> None:
    """Parses, indexes, prints what was found."""
    from dfdet.cli.command import parse
    from dfdet.corpora import resolve
    from dfdet.errors import UserError

    given = list(arguments)
    named = given[0] if given and not given[0].startswith("-") else None
    options = [resolve(named)] if named is not None else []
    parsed = parse("dfdet index", index, given, EXAMPLE, options).as_dict()
    if parsed["out"] is None:
        raise UserError("dfdet index does not know what to write", "give --out x.parquet")

    from dataclasses import replace

    from dfdet import console, corpora
    from dfdet.faces.detector import choose
    from dfdet.indexing.check import check
    from dfdet.indexing.index import build, check_out
    from dfdet.indexing.pool import processors

    workers = processors() if parsed["workers"] is None else parsed["workers"]
    if workers < 1:
        raise UserError(f"--workers {workers}", "give 1 or more")
    check_out(Path(parsed["out"]), parsed["overwrite"])
    own = {k: parsed[k] for k in parsed if k not in index.__annotations__}
    reading = corpora.read(parsed["corpus"], parsed["root"], **own)
    settings = None
    if not parsed["cropped"]:
        chosen = choose(parsed["detector"], parsed["detector_model"])
        settings = replace(chosen, size=parsed["detector_size"], stride=parsed["stride"])
    for note in _notes(reading):
        console.say(note)
    written = build(
        reading,
        Path(reading.root or parsed["root"]),
        Path(parsed["out"]),
        corpus=parsed["corpus"],
        options=own,
        detector=settings,
        workers=workers,
        overwrite=parsed["overwrite"],
    )
    console.show(*check(written), json_file=parsed["json"])
    console.say(f"wrote {written.path} and {written.tracks_path}")
    if (written.table["split"] == "train").any():
        console.say(f"next: dfdet fit --config configs/experiment/srm_cnn.yaml --data.train {written.path}")
    else:
        console.say(f"no video is in a train split; next: dfdet test --run RUN --data.test {written.path}")


def _notes(reading: object) -> list[str]:
    from dfdet.corpora import Reading

    assert isinstance(reading, Reading)
    skipped = [f"passed over {count} x {why}" for why, count in sorted(reading.skipped.items())]
    missing = [f"{reading.missing} files that the lists name are not there"] if reading.missing else []
    return [*reading.notes, *skipped, *missing]
