"""A path and frame indices -> those frames by decord: opened, read in ascending order, closed.

Only for files that :func:`dfdet.video.judge` has proven decord right for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dfdet.video.errors import ReadError
from dfdet.video.media import Media
from dfdet.video.request import Region, checked_picture, checked_regions, checked_request, cut
from dfdet.video.stream import crc32

# get_batch goes through its indices one by one and keeps its place from call to call, so a batch in pieces is the same
# batch; at 1920x1080 a piece takes 200 MB
PIECE = 32


class DecordReader:
    """Reads with decord, one thread. Nothing is kept open: a kept reader fills memory in the background.

    Args:
        first_frame: Decode frame 0 before the wanted ones, in the same reader (the verdict ``decord0``).
    """

    def __init__(self, first_frame: bool = False) -> None:
        self.first_frame = first_frame

    def frames(self, path: str | Path, indices: Iterable[int], media: Media) -> Iterator[tuple[int, np.ndarray]]:
        """See :meth:`dfdet.video.readers.Reader.frames`; fingerprints of the index are checked where they are met."""
        wanted = checked_request(path, indices, media)
        return self._read(path, wanted, media) if wanted else iter(())

    def patches(
        self, path: str | Path, regions: Mapping[int, Sequence[Region]], media: Media
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """See :meth:`dfdet.video.readers.Reader.patches`; they are cut from whole frames."""
        wanted = checked_regions(path, regions, media)
        return ((index, cut(picture, wanted[index])) for index, picture in self.frames(path, wanted, media))

    def _read(self, path: str | Path, wanted: list[int], media: Media) -> Iterator[tuple[int, np.ndarray]]:
        prints = dict(zip(media.probe_frames, media.probe_crcs, strict=True))
        order = [0, *wanted] if self.first_frame and wanted[0] != 0 else wanted
        video = open_decord(path)
        if len(video) != media.num_frames:
            raise ReadError(path, f"decord counts {len(video)} frames, the index {media.num_frames}; index it again")
        for start in range(0, len(order), PIECE):
            piece = order[start : start + PIECE]
            # one local name: the previous piece must be gone before the next is filled
            pictures = read_batch(path, video, piece)
            if start + PIECE >= len(order):
                # its thread decodes on while the caller works
                del video
            for index, picture in zip(piece, pictures, strict=True):
                if index in prints and crc32(picture) != prints[index]:
                    raise ReadError(path, f"decord returns another frame {index} than the index saw; index it again")
                if index >= wanted[0]:  # all but a frame 0 that only serves the decoder
                    yield index, checked_picture(path, picture, media)
            del pictures


def open_decord(path: str | Path) -> Any:
    """A ``decord.VideoReader`` with one thread, frames in the file's own size, upright.

    Raises:
        ReadError: If decord is absent or cannot open the file.
    """
    try:
        import decord
    except (ImportError, OSError) as error:
        raise ReadError(path, f"decord is not installed ({error})") from error
    decord.logging.set_level(decord.logging.QUIET)
    try:
        return decord.VideoReader(str(path), num_threads=1)
    except _decord_errors() as error:
        raise ReadError(path, f"decord: {_brief(error)}") from error


def read_batch(path: str | Path, video: Any, indices: list[int]) -> np.ndarray:
    """RGB uint8 (len(indices), H, W, 3) from an open reader, which must be dropped after an error.

    Raises:
        ReadError: If decord fails; its worker's errors may belong to an earlier packet.
    """
    try:
        return np.asarray(video.get_batch(indices).asnumpy())
    except _decord_errors() as error:
        raise ReadError(path, f"decord: {_brief(error)}") from error


def _decord_errors() -> tuple[type[Exception], ...]:
    """What decord raises: its own for most, python's for a file without bytes or an index out of range."""
    import decord

    return decord.DECORDError, RuntimeError, OSError, IndexError


def _brief(error: Exception) -> str:
    """The message of decord without its C++ trace."""
    text = str(error).strip().splitlines()
    return text[0].split("] ")[-1][:200] if text else type(error).__name__
