"""A predictor and files in, pictures of where each detector's score comes from out: ``dfdet explain``.

Below OUT, a folder a file: ``sheet.png``, the frames with their maps and scores; ``frame-N.png``, crop and map side by
side; ``frame-N-whole.png``, the map on the whole frame; ``residuals-N.png`` where the network filters noise; and of a
video ``film.mp4``, with boxes and scores over time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from dfdet import console
from dfdet.data.batch import ClipSample, collate
from dfdet.data.crop import plan
from dfdet.data.sources import Items
from dfdet.data.visits import VisitMaker
from dfdet.data.wanted import EvalVisit, Wanted, tracks_of
from dfdet.studies.drawing import PERSONS, Scored, overlay, residual_picture, save, told
from dfdet.studies.film import Followed, write_film
from dfdet.studies.heat import Heat, Heater, residual_maps
from dfdet.studies.placing import corners, on_frame, resized
from dfdet.studies.sheet import Shown, Titles, contact_sheet
from dfdet.training.predictor import Predictor
from dfdet.video import Media, ReadError, open_reader

A_CLIP = 4  # frames that are shown of a clip of several
SIDE = 336  # of a crop beside its map, pixels


@dataclass
class Explained:
    """What was made of one file.

    Attributes:
        path: The file.
        verdict: fake, real, or "" where no threshold is known or nothing was scored.
        logit: Of the file; NaN: not scored.
        folder: Where its pictures lie; None: none were made.
        maps: What the maps are.
        remark: Why maps are empty, or why there are none.
    """

    path: str
    verdict: str
    logit: float
    folder: Path | None
    maps: str
    remark: str = ""


@dataclass
class _Clip:
    wanted: Wanted
    sample: ClipSample
    heat: Heat
    residual: np.ndarray | None


@dataclass
class _Video:
    """One file on its way: its clips by person, in order."""

    path: Path
    media: Media
    persons: dict[int, list[_Clip]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


def explain(
    predictor: Predictor,
    paths: Sequence[str | Path],
    out: Path,
    heater: Heater,
    *,
    detector: str = "run",
    detector_model: Path | None = None,
    cropped: bool = False,
    clips: int | None = None,
    film: bool = True,
) -> list[Explained]:
    """Scores files and draws where the scores come from.

    Args:
        predictor: A run's.
        paths: Files and folders.
        out: The folder to write to; pictures of an earlier call are overwritten.
        heater: Makes the maps of the predictor's detector.
        detector: As for :meth:`Predictor.predict`.
        detector_model: As there.
        cropped: As there.
        clips: As there.
        film: Also write the video with its scores.

    Raises:
        UserError: As :meth:`Predictor.predict`; or the detector has no such map.
    """
    found = predictor.predict(
        list(paths), detector=detector, detector_model=detector_model, cropped=cropped, clips=clips, progress=True
    )
    items, maker = predictor.data.items("test"), predictor.data.maker("test")
    visits = {str(items.path(visit.item)): visit for visit in predictor.data.eval_visits("test")}
    names = _names([str(p) for p in found.videos["path"]])
    made: list[Explained] = []
    with console.Progress("drawing", len(found.videos)) as bar:
        for row in found.videos.to_dict("records"):
            one = Explained(row["path"], row["verdict"], float(row["logit"]), None, "", row["status"])
            visit = visits.get(one.path)
            if visit is not None and one.logit == one.logit:
                _draw(predictor, maker, items, visit, heater, out / names[one.path], one, film)
            made.append(one)
            bar.advance()
    return made


def _names(paths: Sequence[str]) -> dict[str, str]:
    """A folder's name for each file: its stem, numbered where several have one."""
    names: dict[str, str] = {}
    for path in paths:
        stem, number = Path(path).stem, 1
        while (name := stem if number == 1 else f"{stem}-{number}") in names.values():
            number += 1
        names[path] = name
    return names


def _draw(
    predictor: Predictor, maker: VisitMaker, items: Items, visit: EvalVisit, heater: Heater, folder: Path,
    one: Explained, film: bool,
) -> None:  # fmt: skip
    video = _look(predictor, maker, visit, heater)
    one.maps = heater.title
    remarks = [clip.heat.remark for clips in video.persons.values() for clip in clips if clip.heat.remark]
    one.remark = "; ".join(dict.fromkeys([*remarks, *video.failed]))
    if not video.persons:
        return
    one.folder = folder
    stretches = {number: [_scored(clip) for clip in clips] for number, clips in video.persons.items()}
    shown = {number: _shown(clips) for number, clips in video.persons.items()}
    for number, frames in shown.items():
        person = f"person{number}-" if len(shown) > 1 else ""
        for at in frames:
            save(folder / f"{person}frame-{at.frame:06d}.png", _side_by_side(at))
            if at.residual is not None:
                save(folder / f"{person}residuals-{at.frame:06d}.png", residual_picture(at.residual))
    _whole_frames(predictor, video, folder)
    said = f"{one.verdict or 'no verdict'}: logit {told(one.logit)}"
    known = f", threshold {found:+.2f}" if (found := predictor.threshold) == found else ""
    by = f"{type(predictor.model).__name__}, {predictor.name}"
    titles = Titles(video.path.name, f"{said}{known}", f"{by}; {heater.title}", one.logit)
    sheet = contact_sheet(titles, shown, stretches, predictor.threshold, video.media.num_frames)
    save(folder / "sheet.png", sheet)
    if film and video.media.kind == "video" and video.media.num_frames > 1:
        _film(predictor, maker, items, visit.item, video, stretches, folder / "film.mp4")


def _look(predictor: Predictor, maker: VisitMaker, visit: EvalVisit, heater: Heater) -> _Video:
    """Makes the clips of a file again, with their geometry, and their maps."""
    video = _Video(maker.items.path(visit.item), maker.choose.media(visit.item))
    for wanted, sample in zip(maker.choose.evaluation(visit), maker(visit), strict=True):
        if sample.error is not None:
            video.failed.append(sample.error)
            continue
        batch = collate([sample]).to(predictor.device)
        clip = _Clip(wanted, sample, heater(batch), residual_maps(predictor.model, batch))
        video.persons.setdefault(wanted.track, []).append(clip)
    for clips in video.persons.values():
        _to_one_scale(clips, from_zero=heater.method != "attention")
    return video


def _to_one_scale(clips: list[_Clip], from_zero: bool) -> None:
    """Brings the maps of a person to 0..1 by their largest value together, so that its frames can be compared.

    Attention, which is nowhere 0, is told by its range and drawn from its lowest value on.
    """
    maps = [c.heat.maps for c in clips if c.heat.maps is not None and (from_zero or c.heat.remark is None)]
    if not maps:
        return
    low = 0.0 if from_zero else min(float(m.min()) for m in maps)
    high = max(float(m.max()) for m in maps)
    for clip in clips:
        if clip.heat.maps is not None and high > low:
            clip.heat = replace(clip.heat, maps=np.clip((clip.heat.maps - low) / (high - low), 0, 1))
            if not from_zero and clip.heat.remark is None:
                clip.heat = replace(clip.heat, remark=f"attention from {low:.2f} (clear) to {high:.2f} (red)")


def _chosen(clip: _Clip) -> list[int]:
    """Which frames of a clip are shown: all of a few, else some evenly spread."""
    there = len(clip.wanted.frames)
    return sorted(set(np.linspace(0, there - 1, min(there, A_CLIP)).round().astype(int).tolist()))


def _shown(clips: Sequence[_Clip]) -> list[Shown]:
    found = []
    for clip in clips:
        for t in _chosen(clip):
            heat = None if clip.heat.maps is None else clip.heat.maps[t]
            residual = None if clip.residual is None else clip.residual[t]
            logit = float(clip.heat.logits[t])
            frame = int(clip.wanted.frames[t])
            found.append(Shown(frame, clip.sample.pixels[t], heat, logit, residual, clip.heat.remark))
    return found


def _scored(clip: _Clip) -> Scored:
    there = len(clip.wanted.frames)
    logits = clip.heat.logits[:there]
    return Scored(int(clip.wanted.frames[0]), int(clip.wanted.frames[-1]), float(logits.mean()))


def _side_by_side(shown: Shown) -> np.ndarray:
    side = max(SIDE, shown.crop.shape[0])
    crop = cv2.resize(shown.crop, (side, side), interpolation=cv2.INTER_CUBIC)
    if shown.heat is None:
        return np.asarray(crop)
    return np.concatenate([crop, overlay(crop, resized(shown.heat, side))], axis=1)


def _whole_frames(predictor: Predictor, video: _Video, folder: Path) -> None:
    """The shown frames, whole, each person's map where it was cut."""
    uses: dict[int, list[tuple[int, _Clip, int]]] = {}
    for number, clips in video.persons.items():
        for clip in clips:
            for t in _chosen(clip):
                uses.setdefault(int(clip.wanted.frames[t]), []).append((number, clip, t))
    reader = open_reader(predictor.data.reader, video.media, video.path)
    for index, frame in reader.frames(video.path, uses, video.media):
        picture = frame.copy()
        for _, clip, t in uses[index]:
            if clip.heat.maps is not None:
                picture = overlay(picture, on_frame(clip.wanted.crop, t, clip.heat.maps[t]))
        for number, clip, t in uses[index]:
            outline = corners(clip.wanted.crop, t).round().astype(np.int32)
            colour = PERSONS[number % len(PERSONS)]
            cv2.polylines(picture, [outline], True, colour, max(1, frame.shape[1] // 400), cv2.LINE_AA)
        save(folder / f"frame-{index:06d}-whole.png", picture)


def _film(
    predictor: Predictor, maker: VisitMaker, items: Items, item: int, video: _Video,
    stretches: dict[int, list[Scored]], path: Path,
) -> None:  # fmt: skip
    media = video.media
    boxes = _boxes(maker, items, item, media)
    persons = {number: Followed(boxes.get(number, {}), scored) for number, scored in stretches.items()}
    usable = [frame for first, stop in media.usable_runs() for frame in range(first, stop)]
    reader = open_reader(predictor.data.reader, media, video.path)
    try:
        frames = reader.frames(video.path, usable, media)
        write_film(path, frames, persons, predictor.threshold, media.num_frames, media.fps or 25.0)
    except ReadError as error:
        console.warn(f"no film of {video.path}: {error.reason}")


def _boxes(
    maker: VisitMaker, items: Items, item: int, media: Media
) -> dict[int, dict[int, tuple[float, float, float]]]:
    """Where a crop of each single frame of each person lies: (x, y, side) by frame."""
    spec = replace(maker.choose.crop, align="none", mode="resize", box="constant")
    found: dict[int, dict[int, tuple[float, float, float]]] = {}
    for number, track in tracks_of(items, item, media.num_frames).items():
        places = np.flatnonzero(track.usable)
        found[number] = {
            int(track.start + k): _square(spec, float(track.cx[k]), float(track.cy[k]), float(track.h[k]), media)
            for k in places.tolist()
        }
    return found


def _square(spec: object, cx: float, cy: float, h: float, media: Media) -> tuple[float, float, float]:
    made = plan(spec, [cx], [cy], [h], None, media.width or 0, media.height or 0)  # type: ignore[arg-type]
    x, y, side = made.squares[0].tolist()
    return float(x), float(y), float(side)


def table_of(made: Sequence[Explained], threshold: float) -> console.Table:
    """What was made, for print."""
    table = console.Table("Explained", ["path", "verdict", "logit", "pictures", "map", "remark"])
    for one in made:
        folder = None if one.folder is None else str(one.folder)
        table.add(one.path, one.verdict, one.logit, folder, one.maps, "" if one.remark == "ok" else one.remark)
    known = threshold == threshold
    table.notes.append(
        "the maps of a person are divided by the largest value among them: they compare its frames, not files"
    )
    if not known:
        table.notes.append("no verdicts: validation gave no threshold for this checkpoint")
    return table
