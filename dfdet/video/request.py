"""Frame indices that somebody wants -> checked against the index; a picture that was read -> checked likewise."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dfdet.video.errors import ReadError
from dfdet.video.media import Media


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
    """``picture``, whose size is the indexed one.

    Raises:
        ReadError: If it is not: the file is not the one that was indexed.
    """
    if picture.shape != (media.height, media.width, 3):
        found = f"{picture.shape[1]}x{picture.shape[0]}"
        raise ReadError(path, f"frames are {found}, the index says {media.width}x{media.height}; index it again")
    return picture
