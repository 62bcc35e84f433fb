"""Videos made on the spot whose every frame carries its number, and the number read back from pixels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

CELL, BITS = 16, 10


def picture(number: int, width: int, height: int) -> np.ndarray:
    """RGB uint8 (height, width, 3): moving colour, and ``number`` as black and white cells along the top."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([(x + 3 * number) % 256, (y + 2 * number) % 256, (x + y) % 256], axis=-1).astype(np.uint8)
    for bit in range(BITS):
        rgb[:CELL, bit * CELL : (bit + 1) * CELL] = 235 if number >> bit & 1 else 20
    return rgb


class Barcode:
    """Reads what :func:`picture` wrote."""

    @staticmethod
    def number(rgb: np.ndarray) -> int:
        cells = rgb[4 : CELL - 4, : BITS * CELL].astype(float).mean(axis=(0, 2)).reshape(BITS, CELL)[:, 4:12]
        return sum(int(level > 128) << bit for bit, level in enumerate(cells.mean(axis=1)))


@pytest.fixture(scope="session")
def barcode() -> type[Barcode]:
    return Barcode


@pytest.fixture(scope="session")
def make_video(tmp_path_factory):
    """``make_video(name, frames=60, gop=20, ...)`` -> the path of an H.264 file with numbered frames."""

    def make(name: str, frames: int = 60, gop: int = 20, size=(176, 144), params: str = "", pix_fmt="yuv420p") -> Path:
        path = tmp_path_factory.mktemp("made") / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
            stream.codec_context.time_base = Fraction(1, 25)
            wanted = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=2:threads=1"
            stream.options = {"crf": "20", "x264-params": f"{wanted}:{params}".rstrip(":")}
            for number in range(frames):
                frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return make


@pytest.fixture(scope="session")
def sound(make_video) -> Path:
    """60 frames, keyframes at 0, 20, 40, two B-frames, closed groups of pictures."""
    return make_video("sound.mp4")
