"""A still picture's file -> its upright RGB array by OpenCV, and its facts."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from dfdet.video.errors import ReadError
from dfdet.video.media import Media
from dfdet.video.stream import crc32

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

# The first bytes of what OpenCV reads as one picture. GIF is left to PyAV: it moves.
_SIGNATURES = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"BM": "bmp",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
}


def image_format(path: str | Path) -> str | None:
    """The format of a still picture, told by its first bytes; None for anything else, whatever its name is.

    Raises:
        OSError: If the file cannot be read.
    """
    with Path(path).open("rb") as handle:
        head = handle.read(16)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return next((name for start, name in _SIGNATURES.items() if head.startswith(start)), None)


def read_image(path: str | Path) -> np.ndarray:
    """RGB uint8 (H, W, 3) of a still picture, EXIF orientation applied; 16-bit and grey pictures become 8-bit RGB.

    Raises:
        ReadError: If the file is no picture or is cut off. OpenCV fills the rest of a cut JPEG with grey, in silence.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ReadError(path, error.strerror or str(error)) from error
    if not _complete(data.tobytes()):
        raise ReadError(path, "the picture is cut off")
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except cv2.error as error:
        raise ReadError(path, f"OpenCV: {error.err or error}") from error
    if picture is None:
        raise ReadError(path, "OpenCV cannot decode it as a picture")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def _complete(data: bytes) -> bool:
    """Whether a JPEG or PNG has its end mark; True for other formats, which OpenCV checks itself."""
    if data.startswith(b"\xff\xd8\xff"):
        # inside a scan 0xff is always followed by 0x00 or a restart mark, so an end mark behind the last scan is real
        return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
    if data.startswith(b"\x89PNG"):
        return b"IEND" in data
    return True


def probe_image(path: str | Path, name: str) -> tuple[Media, np.ndarray | None]:
    """Facts of a still picture, and the picture; a picture that cannot be read is a status, not an exception.

    Args:
        path: The file.
        name: Its format, as :func:`image_format` says.
    """
    try:
        picture = read_image(path)
    except ReadError as error:
        return unreadable("image", error.reason), None
    height, width = picture.shape[:2]
    media = Media(
        kind="image",
        num_frames=1,
        width=width,
        height=height,
        codec=name,
        pix_fmt="rgb24",
        has_audio=False,
        reader="image",
        reader_reason="a still picture",
        keyframes=(0,),
        probe_frames=(0,),
        probe_crcs=(crc32(picture),),
    )
    return media, picture


def unreadable(kind: str, reason: str, status: str = "unreadable") -> Media:
    """The record of a file without usable frames; ``reader`` is none."""
    return Media(kind=kind, status=status, reason=reason, reader="none", reader_reason=reason)
