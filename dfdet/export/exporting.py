"""A manifest in; a folder of face crops with its table out. What is finished is not made again."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from dfdet import console, files
from dfdet.data.augment import Augment
from dfdet.data.clips import ClipSpec
from dfdet.data.crop_rule import CropSpec, crop_spec
from dfdet.data.workers import VisitWorkers
from dfdet.errors import UserError
from dfdet.export import deepfakebench
from dfdet.export.selection import Picked, names, pick
from dfdet.export.writing import DRAFTS, RATE, CropWriter, Written, picture_name
from dfdet.indexing.pool import processors

Format = Literal["png", "deepfakebench", "mp4"]
FORMATS: dict[str, tuple[int | None, int]] = {  # frames and size where none are given
    "png": (32, 256),
    "deepfakebench": (32, 256),  # their preprocessing
    "mp4": (None, 112),  # paper 003
}
SCHEMA = "dfdet.export"
VERSION = 1
SETTINGS = "export.json"
LABELS = {0: "real", 1: "fake", -1: "unknown"}
UNSPLIT = "unsplit"
NAMES = ["video_id", "corpus", "method", "split", "group"]
# everything that an export may make at the top of its folder
OWN = ("train", "val", "test", UNSPLIT, "datasets", "preprocessing", "crops.csv", "videos.csv", DRAFTS, SETTINGS)


@dataclass
class Exported:
    """What an export has done.

    Attributes:
        folder: Where to.
        table: The CSV that names every file.
        tables: What to print.
        made: Videos written now.
        there: Videos that an earlier run had finished.
        failed: One line for each readable video that could not be exported.
    """

    folder: Path
    table: Path
    tables: list[console.Table]
    made: int
    there: int
    failed: list[str]


def export(
    manifest: Path,
    out: Path,
    form: Format,
    *,
    split: Literal["train", "val", "test", "all"] = "all",
    frames: int | None = None,
    size: int | None = None,
    crop: str = "default",
    scale: float | None = None,
    workers: int | None = None,
    overwrite: bool = False,
) -> Exported:
    """Writes crops of the main track of every usable video, through the data module's own reading and cropping.

    Args:
        manifest: ``x.parquet``.
        out: The folder to write to; one with an unfinished export of the same settings is completed.
        form: A key of :data:`FORMATS`.
        split: Which part of the manifest.
        frames: Frames a video, at most: evenly spread for pictures, the first ones for a video.
        size: Side of the crops, pixels.
        crop: A crop preset.
        scale: Side of the crop in face heights, in place of the preset's.
        workers: Processes; by default the processors, at most 8.
        overwrite: Remove an earlier export in that folder.

    Raises:
        UserError: A setting does not fit, the folder holds something else, or the manifest cannot be used.
        OSError: The disk is full, or fails; what was finished stays.
    """
    usual_frames, usual_size = FORMATS[form]
    frames, size = (usual_frames if frames is None else frames), (usual_size if size is None else size)
    workers = min(processors(), 8) if workers is None else workers
    spec = _checked(form, frames, size, crop, scale, workers)
    items, picked = pick(str(manifest), split, frames, spread=form != "mp4")
    places = _places(form, picked)
    writer = CropWriter(
        {p.item: out / places[p.item] for p in picked}, out / DRAFTS, form == "mp4", items=items, clip=ClipSpec(),
        crop=spec, augment=Augment("none"), seed=0,
    )  # fmt: skip
    settings = {"format": form, "split": split, "frames": frames, "crop": asdict(spec)}
    _settle(out, {**settings, "manifest_sha256": files.sha256(manifest)}, overwrite)
    wanted = [p for p in picked if p.frames]
    missing = [p for p in wanted if not (out / places[p.item]).exists()]
    _run(writer, missing, workers, out)
    done = [p for p in wanted if p.reason is None]
    table = _write_table(form, out, picked, places, writer)
    if form == "deepfakebench":
        _write_json(out, done, places)
    made = sum(p.reason is None for p in missing)
    failed = [f"{items.path(p.item)}: {p.reason}" for p in wanted if p.reason is not None]
    tables = [_told(form, picked, places, out, made)]
    return Exported(out, table, tables, made, len(done) - made, failed)


def _checked(form: str, frames: int | None, size: int, crop: str, scale: float | None, workers: int) -> CropSpec:
    if frames is not None and frames < 1:
        raise UserError(f"--frames {frames}", "give 1 or more")
    if workers < 0:
        raise UserError(f"--workers {workers}", "give 0 or more")
    if form == "mp4" and size % 2:
        raise UserError(f"--size {size}: H.264 wants an even number of pixels", f"give {size + 1}")
    return crop_spec(crop, size=size, **({} if scale is None else {"scale": scale}))


def _settle(out: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """Makes the folder, or checks that what it holds is an export of the same settings."""
    path = out / SETTINGS
    told = {"schema": SCHEMA, "version": VERSION, **settings}
    if not path.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} is there and holds no export of dfdet", "give another folder")
    else:
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            before = None
        if overwrite:
            _remove(out)
        elif before != json.loads(json.dumps(told)):
            differ = sorted(k for k in told if not isinstance(before, dict) or before.get(k) != told[k])
            raise UserError(
                f"{out} holds an export with another {', '.join(differ)}", "give another folder, or --overwrite"
            )
    shutil.rmtree(out / DRAFTS, ignore_errors=True)  # what a kill has left
    files.write_json(path, told)


def _remove(out: Path) -> None:
    for name in OWN:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _places(form: str, picked: list[Picked]) -> dict[int, PurePosixPath]:
    """Where each video goes, relative to the folder."""
    if form == "deepfakebench":
        for one in picked:
            if one.label < 0 and one.reason is None:
                one.frames, one.reason = (), "it has no label"
        chosen = names(picked, deepfakebench.family, short=True)
        return {p.item: deepfakebench.folder(p, name) for p, name in zip(picked, chosen, strict=True)}
    chosen = names(picked, lambda p: f"{p.row['split']}/{p.label}", short=False)
    ending = ".mp4" if form == "mp4" else ""
    return {
        p.item: PurePosixPath(p.row["split"] or UNSPLIT, LABELS[p.label], name + ending)
        for p, name in zip(picked, chosen, strict=True)
    }


def _run(writer: CropWriter, missing: list[Picked], workers: int, out: Path) -> None:
    """Makes the missing videos; each that fails gets its reason."""
    if not missing:
        return
    made = VisitWorkers(writer, workers, clips=0).clips([p.visit for p in missing])
    try:
        with console.Progress("exported videos", len(missing)) as progress:
            for one, (sample,) in zip(missing, made, strict=True):
                if isinstance(sample, Written) and sample.errno is not None:
                    raise OSError(sample.errno, os.strerror(sample.errno), str(out))
                if sample.error is not None:
                    # the file is named beside it
                    one.reason = sample.error.removeprefix(f"{writer.items.path(one.item)}: ")
                progress.advance()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            console.say("the disk is full; what was finished stays: make room and run the same command again")
        raise
    shutil.rmtree(out / DRAFTS, ignore_errors=True)


def _write_table(
    form: str, out: Path, picked: list[Picked], places: dict[int, PurePosixPath], writer: CropWriter
) -> Path:
    video = form == "mp4"
    path = out / ("videos.csv" if video else "crops.csv")
    where = ["first_frame", "last_frame", "frames", "fps"] if video else ["frame"]
    with files.replacing(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", *NAMES, "track", *where, "pad", "reason"])
        for one in picked:
            label = "" if one.label < 0 else one.label
            same = [label, *(one.row.get(name) for name in NAMES), "" if one.track < 0 else one.track]
            if one.reason is not None:
                table.writerow(["", *same, *[""] * len(where), "", one.reason])
                continue
            pad = f"{writer.choose.evaluation(one.visit)[0].crop.pad:.4f}"
            place = places[one.item]
            if video:
                table.writerow([place, *same, one.frames[0], one.frames[-1], len(one.frames), RATE, pad, ""])
            else:
                table.writerows([place / picture_name(frame), *same, frame, pad, ""] for frame in one.frames)
    return path


def _write_json(out: Path, done: list[Picked], places: dict[int, PurePosixPath]) -> None:
    entries = [(p, places[p.item].name, [places[p.item] / picture_name(f) for f in p.frames]) for p in done]
    for name, document in deepfakebench.documents(entries).items():
        files.write_json(out / deepfakebench.JSON / f"{name}.json", document)


def _told(form: str, picked: list[Picked], places: dict[int, PurePosixPath], out: Path, made: int) -> console.Table:
    """What was written, by split and label, and why something was not."""
    table = console.Table(f"Exported to {out}", ["split", "label", "videos", "crops", "not exported"])
    groups: dict[tuple[str, str], list[Picked]] = {}
    for one in picked:
        groups.setdefault((one.row["split"] or UNSPLIT, LABELS[one.label]), []).append(one)
    for (split, label), members in sorted(groups.items()):
        good = [p for p in members if p.reason is None]
        table.add(split, label, len(good), sum(len(p.frames) for p in good), len(members) - len(good))
    there = sum(p.reason is None for p in picked) - made
    if there:
        table.notes.append(f"{there} videos were finished before")
    for reason, count in Counter(p.reason for p in picked if p.reason is not None).most_common(5):
        table.notes.append(f"{count} x {reason}")
    if form == "deepfakebench":
        table.notes += list(_advice(p for p in picked if p.reason is None))
    return table


def _advice(done: Iterable[Picked]) -> Iterator[str]:
    words = {deepfakebench.word_of(p): p.label for p in done}
    yield "copy datasets/ and preprocessing/ into DeepfakeBench's folder and set lmdb: False in its configuration"
    unknown = {word: label for word, label in sorted(words.items()) if word not in deepfakebench.KNOWN_LABELS}
    if unknown:
        yield f"add to its label_dict: {', '.join(f'{word}: {label}' for word, label in unknown.items())}"
