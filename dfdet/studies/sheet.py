"""The shown frames of a video's persons in, one picture of them all with scores out: the contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dfdet.studies.drawing import (
    INK,
    PAPER,
    PERSONS,
    UNSURE,
    Curve,
    Scored,
    blank,
    noise_map,
    overlay,
    paste,
    told,
    verdict_colour,
    write,
)
from dfdet.studies.placing import resized

CELL, GAP, MARGIN, COLUMNS = 176, 10, 16, 8
HEAD, CAPTION, LINE, STRIP = 84, 44, 26, 130


@dataclass(frozen=True)
class Shown:
    """One frame of a person, as the detector saw it.

    Attributes:
        frame: Its number in the file.
        crop: uint8 (S, S, 3) RGB.
        heat: float32 (h, w) in [0, 1], of any size; None: there is no map.
        logit: Of the frame, where frames are scored by themselves, else of its clip.
        residual: float32 (K, S, S) in [-1, 1], what SRM filters leave of the crop; None: the detector has none.
        remark: Why the map is empty.
    """

    frame: int
    crop: np.ndarray
    heat: np.ndarray | None
    logit: float
    residual: np.ndarray | None = None
    remark: str | None = None


@dataclass(frozen=True)
class Titles:
    """What stands above the pictures: the file, the verdict on it, what the maps are."""

    file: str
    verdict: str
    maps: str
    logit: float


def contact_sheet(
    titles: Titles,
    persons: Mapping[int, Sequence[Shown]],
    stretches: Mapping[int, Sequence[Scored]],
    threshold: float,
    num_frames: int,
) -> np.ndarray:
    """The sheet, uint8 (H, W, 3).

    Args:
        titles: The three lines on top.
        persons: The frames to show of each person, in order.
        stretches: The scored stretches of each, for the curve.
        threshold: The logit above which a video is called fake; NaN: not known.
        num_frames: Of the video.
    """
    most = max((len(shown) for shown in persons.values()), default=1)
    columns = min(max(most, 4), COLUMNS)
    width = 2 * MARGIN + columns * CELL + (columns - 1) * GAP
    parts = [_head(titles, width, threshold)]
    if any(stretches.values()) and num_frames > 1:
        inner = Curve(stretches, threshold, num_frames, width - 2 * MARGIN, STRIP).picture
        strip = blank(width, STRIP + GAP)
        paste(strip, inner, MARGIN, 0)
        parts.append(strip)
    for number, shown in persons.items():
        parts += _person(number, shown, width, threshold, named=len(persons) > 1)
    return np.concatenate(parts)


def _head(titles: Titles, width: int, threshold: float) -> np.ndarray:
    head = blank(width, HEAD)
    room = width - 2 * MARGIN
    write(head, titles.file, MARGIN, 8, 20, INK, room)
    write(head, titles.verdict, MARGIN, 36, 16, verdict_colour(titles.logit, threshold), room)
    write(head, titles.maps, MARGIN, 60, 13, UNSURE, room)
    return head


def _person(number: int, shown: Sequence[Shown], width: int, threshold: float, named: bool) -> list[np.ndarray]:
    parts = []
    remarks = list(dict.fromkeys(s.remark for s in shown if s.remark))
    lines = [*([(f"person {number}", PERSONS[number % len(PERSONS)])] if named else []), *((r, INK) for r in remarks)]
    for line, colour in lines:
        part = blank(width, LINE)
        write(part, line, MARGIN, 4, 14, colour, width - 2 * MARGIN)
        parts.append(part)
    for start in range(0, len(shown), COLUMNS):
        cells = [_cell(s, threshold) for s in shown[start : start + COLUMNS]]
        row = blank(width, max(cell.shape[0] for cell in cells) + GAP)
        for place, cell in enumerate(cells):
            paste(row, cell, MARGIN + place * (CELL + GAP), 0)
        parts.append(row)
    return parts


def _cell(shown: Shown, threshold: float) -> np.ndarray:
    """The crop, the crop under its heat, its residuals, and the score below."""
    pictures = [_fit(shown.crop)]
    if shown.heat is not None:
        pictures.append(overlay(pictures[0], resized(shown.heat, CELL)))
    if shown.residual is not None:
        pictures.append(_fit(noise_map(shown.residual)))
    caption = blank(CELL, CAPTION, PAPER)
    write(caption, f"frame {shown.frame}", 0, 2, 13)
    write(caption, told(shown.logit), 0, 20, 14, verdict_colour(shown.logit, threshold))
    return np.concatenate([*pictures, caption])


def _fit(picture: np.ndarray) -> np.ndarray:
    shrinks = picture.shape[0] > CELL
    how = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, (CELL, CELL), interpolation=how), np.uint8)
