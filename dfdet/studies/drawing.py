"""Pictures, maps, numbers and words in, pictures out: uint8 (H, W, 3) RGB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dfdet import files

Colour = tuple[int, int, int]
PAPER, INK, FAINT = (250, 250, 250), (25, 25, 25), (150, 150, 150)
FAKE, REAL, UNSURE = (200, 40, 30), (20, 120, 60), (60, 60, 60)
PERSONS: tuple[Colour, ...] = ((31, 119, 180), (255, 127, 14), (148, 103, 189), (23, 160, 170), (140, 86, 75))


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which has most of the world's letters and comes with matplotlib."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def overlay(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Heat over a picture: nothing where it is 0, red where it is 1.

    Args:
        picture: uint8 (H, W, 3).
        heat: float (H, W) in [0, 1].
    """
    level = np.clip(heat, 0, 1)
    colours = cv2.cvtColor(cv2.applyColorMap((level * 255).astype(np.uint8), cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
    weight = 0.7 * level[..., None]
    return np.asarray(picture * (1 - weight) + colours * weight + 0.5, np.float32).astype(np.uint8)


def residual_picture(maps: np.ndarray) -> np.ndarray:
    """Residuals (K, S, S) in [-1, 1] as one picture: grey is 0; three maps stand side by side, nine in rows."""
    grey = (127.5 + 127.5 * np.clip(maps, -1, 1)).astype(np.uint8)
    rows = [np.concatenate(list(grey[k : k + 3]), axis=1) for k in range(0, len(grey), 3)]
    return np.repeat(np.concatenate(rows)[..., None], 3, axis=2)


def noise_map(maps: np.ndarray) -> np.ndarray:
    """The first three residuals (K, S, S) in [-1, 1] as the colours of one picture, as paper 000's figure 3 has it."""
    return np.ascontiguousarray((127.5 + 127.5 * np.clip(maps[:3], -1, 1)).astype(np.uint8).transpose(1, 2, 0))


def blank(width: int, height: int, colour: Colour = PAPER) -> np.ndarray:
    """A picture of one colour."""
    return np.full((height, width, 3), colour, np.uint8)


def paste(onto: np.ndarray, picture: np.ndarray, x: int, y: int) -> None:
    """Lays a picture onto another, its corner at (x, y)."""
    onto[y : y + picture.shape[0], x : x + picture.shape[1]] = picture


def write(onto: np.ndarray, words: str, x: int, y: int, size: int = 14, colour: Colour = INK, width: int = 0) -> None:
    """Writes one line, its upper left corner at (x, y), cut to ``width`` pixels by an ellipsis."""
    if width and font(size).getlength(words) > width:
        while words and font(size).getlength(words + "…") > width:
            words = words[:-1]
        words += "…"
    box = (x, y, min(onto.shape[1], x + int(font(size).getlength(words)) + 4), min(onto.shape[0], y + 2 * size))
    if box[2] <= box[0] or box[3] <= box[1]:
        return
    part = Image.fromarray(onto[box[1] : box[3], box[0] : box[2]])
    ImageDraw.Draw(part).text((0, 0), words, fill=colour, font=font(size))
    onto[box[1] : box[3], box[0] : box[2]] = np.asarray(part)


def save(path: Path, picture: np.ndarray) -> None:
    """Writes a PNG file, whole or not at all."""
    done, content = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"OpenCV does not encode a picture of {picture.shape}")
    with files.replacing(path) as draft:
        draft.write_bytes(content.tobytes())


@dataclass(frozen=True)
class Scored:
    """One scored stretch of a person: frames ``first`` to ``last`` and the logit."""

    first: int
    last: int
    logit: float


class Curve:
    """The logits of persons over a video, with the threshold: a strip that a sheet and a film show.

    Args:
        persons: The scored stretches of each.
        threshold: The logit above which a video is called fake; NaN: none is known, 0 is drawn faintly.
        num_frames: Of the video.
        width: Pixels.
        height: Pixels.
    """

    LEFT, RIGHT, TOP, BOTTOM = 58, 12, 10, 22

    def __init__(
        self, persons: Mapping[int, Sequence[Scored]], threshold: float, num_frames: int, width: int, height: int
    ) -> None:
        self.num_frames, self.width, self.height = max(num_frames, 1), width, height
        known = threshold == threshold
        level = threshold if known else 0.0
        values = [s.logit for scored in persons.values() for s in scored] + [level]
        room = max(0.15 * (max(values) - min(values)), 0.25)
        self._low, self._high = min(values) - room, max(values) + room
        self.picture = blank(width, height)
        self._axes(level, known)
        for number, scored in persons.items():
            colour = PERSONS[number % len(PERSONS)]
            places = [(self._x((s.first + s.last) / 2), self._y(s.logit)) for s in scored]
            cv2.polylines(self.picture, [np.array(places, np.int32)], False, colour, 1, cv2.LINE_AA)
            for s, place in zip(scored, places, strict=True):
                if s.last > s.first:
                    cv2.line(self.picture, (self._x(s.first), place[1]), (self._x(s.last), place[1]), colour, 2)
                cv2.circle(self.picture, place, 3, colour, -1, cv2.LINE_AA)

    def _x(self, frame: float) -> int:
        return round(self.LEFT + (self.width - self.LEFT - self.RIGHT) * frame / max(self.num_frames - 1, 1))

    def _y(self, logit: float) -> int:
        share = (logit - self._low) / (self._high - self._low)
        return round(self.height - self.BOTTOM - (self.height - self.TOP - self.BOTTOM) * share)

    def _axes(self, level: float, known: bool) -> None:
        left, right, bottom = self.LEFT, self.width - self.RIGHT, self.height - self.BOTTOM
        cv2.rectangle(self.picture, (left, self.TOP), (right, bottom), FAINT, 1)
        y, colour = self._y(level), FAKE if known else FAINT
        for x in range(left, right, 10):
            cv2.line(self.picture, (x, y), (min(x + 5, right), y), colour, 1)
        write(self.picture, f"{level:+.2f}", 4, y - 8, 12, colour)
        for value, top in ((self._high, self.TOP - 4), (self._low, bottom - 10)):
            if abs(y - 8 - top) > 14:
                write(self.picture, f"{value:+.2f}", 4, top, 12)
        write(self.picture, "frame 0", left, bottom + 3, 12)
        last = f"{self.num_frames - 1}"
        write(self.picture, last, right - int(font(12).getlength(last)), bottom + 3, 12)
        words = "logit; dashed: threshold" if known else "logit; dashed: 0, no threshold is known"
        write(self.picture, words, (left + right) // 2 - int(font(12).getlength(words)) // 2, bottom + 3, 12)

    def at(self, frame: int) -> np.ndarray:
        """The strip with a cursor at a frame."""
        picture = self.picture.copy()
        cv2.line(picture, (self._x(frame), self.TOP), (self._x(frame), self.height - self.BOTTOM), INK, 1)
        return picture


def verdict_colour(logit: float, threshold: float) -> Colour:
    """Red above the threshold, green below; grey where none is known or nothing was scored."""
    if logit != logit or threshold != threshold:
        return UNSURE
    return FAKE if logit > threshold else REAL


def told(logit: float) -> str:
    """A logit and its sigmoid in words."""
    return "not scored" if logit != logit else f"{logit:+.2f} (p {1 / (1 + np.exp(-logit)):.2f})"
