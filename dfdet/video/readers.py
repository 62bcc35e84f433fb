"""A path and frame indices -> those frames, upright RGB, exact or a :class:`ReadError`; which reader does it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from dfdet.video.decord_reader import DecordReader
from dfdet.video.errors import ReadError
from dfdet.video.images import read_image
from dfdet.video.media import Media
from dfdet.video.pyav_reader import PyAVReader
from dfdet.video.request import Region, checked_picture, checked_regions, checked_request, cut

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

    def patches(
        self, path: str | Path, regions: Mapping[int, Sequence[Region]], media: Media
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Yields parts of each wanted frame once, frames in ascending order; cheaper than whole frames.

        Args:
            path: The file.
            regions: For each wanted frame the regions (x, y, w, h) of the upright frame, whole pixels inside it; they
                may overlap and repeat.
            media: What the index says about the file.

        Yields:
            The index and, for each of its regions in their order, uint8 (h, w, 3), contiguous, equal bit for bit to
            that part of what :meth:`frames` yields.

        Raises:
            ReadError: As :meth:`frames`.
            ValueError: If a region is empty or leaves the frame (at the call).
        """
        ...


class ImageReader:
    """Reads a still picture, whose only frame is 0, with OpenCV; EXIF orientation is applied."""

    def frames(self, path: str | Path, indices: Iterable[int], media: Media) -> Iterator[tuple[int, np.ndarray]]:
        """See :meth:`Reader.frames`."""
        wanted = checked_request(path, indices, media)
        return ((index, checked_picture(path, read_image(path), media)) for index in wanted)

    def patches(
        self, path: str | Path, regions: Mapping[int, Sequence[Region]], media: Media
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """See :meth:`Reader.patches`."""
        wanted = checked_regions(path, regions, media)
        return ((index, cut(picture, wanted[index])) for index, picture in self.frames(path, wanted, media))


def open_reader(choice: Choice, media: Media, path: str | Path = "") -> Reader:
    """The reader for a file: the fastest that is exact for it, unless the user insists on another.

    That is PyAV's pass for every video and every visit, so that ``auto`` and ``pyav`` read alike. Over files of 480p to
    1080p with a keyframe every 1, 12, 30 or 250 frames (H.264 4:2:0 and 4:4:4, HEVC, VP9, MPEG-4 Part 2), for 1, 16 or
    32 frames a clip and 1 to 8 clips a visit, decord in the way that is exact for the file took 1.1 to 7 times the CPU
    time of the pass where it read a visit in one batch, and 1.1 to 21 times where it was opened for each clip. It
    converts whole frames, all of them from the keyframe on, and decodes what nobody references.

    Args:
        choice: ``auto`` and ``pyav`` read every video with PyAV; ``decord`` refuses a file that decord was not proven
            right for. Still pictures are read by OpenCV whatever the choice.
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
    if verdict not in ("decord", "decord0", "pyav"):
        raise ReadError(path, f"the index has no verdict on its reader (it says {verdict!r})")
    return DecordReader(first_frame=verdict == "decord0") if choice == "decord" else PyAVReader()


def describe_choice(choice: Choice, media: Media) -> Literal["pyav", "decord", "decord0", "image", "none"]:
    """Which reader :func:`open_reader` opens, in a word; ``none`` where it raises."""
    try:
        reader = open_reader(choice, media)
    except ReadError:
        return "none"
    if isinstance(reader, DecordReader):
        return "decord0" if reader.first_frame else "decord"
    return "image" if isinstance(reader, ImageReader) else "pyav"
