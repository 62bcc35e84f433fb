"""Frames and regions that somebody wants -> checked against the index; a picture that was read -> checked, cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dfdet.video.errors import ReadError
from dfdet.video.media import Media

Region = tuple[int, int, int, int]
"""x, y, w, h of a part of the upright frame, whole pixels inside it."""


def checked_request(path: str | Path, indices: Iterable[int], media: Media) -> list[int]:
    """The distinct indices, ascending, as python integers.

    Raises:
        ReadError: If one is outside the file or among its damaged frames.
    """
    wanted = sorted({int(i) for i in indices})
    outside = next((i for i in wanted if not 0 <= i < media.num_frames), None)
    if outside is not None:
        raise ReadError(path, f"frame {outside} was asked for, the file has {media.num_frames}")
    if media.frame_runs is not None:
        damaged = next((i for i in wanted if not any(a <= i < b for a, b in media.frame_runs)), None)
        if damaged is not None:
            raise ReadError(path, f"frame {damaged} is damaged ({media.reason})")
    return wanted


def checked_picture(path: str | Path, picture: np.ndarray, media: Media) -> np.ndarray:
    """``picture``, upright RGB, whose size is the indexed one.

    Raises:
        ReadError: If it is not: the file is not the one that was indexed.
    """
    check_size(path, picture.shape[1], picture.shape[0], media)
    return picture


def check_size(path: str | Path, width: int, height: int, media: Media) -> None:
    """Compares the size of an upright frame with the indexed one.

    Raises:
        ReadError: If they differ: the file is not the one that was indexed.
    """
    if (width, height) != (media.width, media.height):
        raise ReadError(
            path, f"frames are {width}x{height}, the index says {media.width}x{media.height}; index it again"
        )


def checked_regions(path: str | Path, regions: Mapping[int, Sequence[Region]], media: Media) -> dict[int, list[Region]]:
    """The regions by frame, frames ascending, in python integers.

    Raises:
        ReadError: If a frame is outside the file or among its damaged frames.
        ValueError: If a region is empty or leaves the frame.
    """
    width, height = media.width or 0, media.height or 0
    checked: dict[int, list[Region]] = {}
    for index in checked_request(path, regions, media):
        checked[index] = [(int(x), int(y), int(w), int(h)) for x, y, w, h in regions[index]]
        for x, y, w, h in checked[index]:
            if w < 1 or h < 1 or x < 0 or y < 0 or x + w > width or y + h > height:
                raise ValueError(f"{path}: region {(x, y, w, h)} of frame {index} is not inside {width}x{height}")
    return checked


def cut(picture: np.ndarray, regions: Sequence[Region]) -> list[np.ndarray]:
    """The regions of an upright picture, contiguous copies."""
    return [picture[y : y + h, x : x + w].copy() for x, y, w, h in regions]
