"""A path and frame indices -> those frames, upright RGB, exact or a :class:`ReadError`; which reader does it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from dfdet.video.decord_reader import DecordReader
from dfdet.video.errors import ReadError
from dfdet.video.images import read_image
from dfdet.video.media import Media
from dfdet.video.pyav_reader import PyAVReader
from dfdet.video.request import checked_picture, checked_request

Choice = Literal["auto", "decord", "pyav"]


class Reader(Protocol):
    """What reads frames. Readers hold nothing between calls, so they may be pickled, forked and shared."""

    def frames(self, path: str | Path, indices: Iterable[int], media: Media) -> Iterator[tuple[int, np.ndarray]]:
        """Yields each distinct wanted frame once, in ascending order.

        Args:
            path: The file.
            indices: Frame indices, in any order, repeated or not.
            media: What the index says about the file.

        Yields:
            The index and the upright RGB frame, uint8 (H, W, 3), equal to PyAV's own conversion bit for bit.

        Raises:
            ReadError: If an index is not a usable frame of the file (at the call), or the file cannot be read exactly
                (while iterating; what was yielded before is right).
        """
        ...


class ImageReader:
    """Reads a still picture, whose only frame is 0, with OpenCV; EXIF orientation is applied."""

    def frames(self, path: str | Path, indices: Iterable[int], media: Media) -> Iterator[tuple[int, np.ndarray]]:
        """See :meth:`Reader.frames`."""
        wanted = checked_request(path, indices, media)
        return ((index, checked_picture(path, read_image(path), media)) for index in wanted)


def open_reader(choice: Choice, media: Media, path: str | Path = "") -> Reader:
    """The reader for a file: the one that the index proved right, unless the user insists on another.

    Args:
        choice: ``auto`` obeys ``media.reader``; ``decord`` refuses a file that decord was not proven right for;
            ``pyav`` reads every video with PyAV. Still pictures are read by OpenCV whatever the choice.
        media: What the index says about the file.
        path: The file, for the error's text.

    Raises:
        ReadError: If the file is unreadable, was never judged, or decord was asked for and is not right for it.
    """
    verdict = media.reader
    if verdict == "none" or not media.num_frames:
        raise ReadError(path, f"no reader: {media.reader_reason or media.reason or 'the file holds no frames'}")
    if media.kind == "image" or verdict == "image":
        return ImageReader()
    if choice == "pyav":
        return PyAVReader()
    if choice == "decord" and verdict not in ("decord", "decord0"):
        raise ReadError(path, f"decord is not right for it, the index says {verdict!r}: {media.reader_reason}")
    if verdict == "pyav":
        return PyAVReader()
    if verdict in ("decord", "decord0"):
        return DecordReader(first_frame=verdict == "decord0")
    raise ReadError(path, f"the index has no verdict on its reader (it says {verdict!r})")
