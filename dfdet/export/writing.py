"""A visit in, finished files out: what the loader's workers do in an export; nothing but what failed travels back."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from dfdet.data.batch import ClipSample
from dfdet.data.visits import VisitMaker
from dfdet.data.wanted import EvalVisit, Visit

RATE = 30  # frames a second of a video of crops, whatever the source has (the ResNeXt-LSTM paper, preprocessing)
# it names no codec; its authors' code writes motion JPEG. H.264 at a quality where the eye sees no loss is our choice.
CRF = 18
DRAFTS = ".unfinished"


@dataclass
class Written(ClipSample):
    """What an export says of a clip; ``errno`` is set where the file could not be written."""

    errno: int | None = None


class CropWriter(VisitMaker):
    """Makes the one clip of each visit and writes it to the disk.

    Args:
        targets: Where each item goes: a folder for pictures, a file for a video.
        drafts: A folder on the same disk.
        video: One video for each clip rather than a picture for each frame.
        **rest: As for :class:`~dfdet.data.visits.VisitMaker`.
    """

    def __init__(self, targets: Mapping[int, Path], drafts: Path, video: bool, **rest: Any) -> None:
        super().__init__(**rest)
        self.targets, self.drafts, self.video = targets, drafts, video

    def __call__(self, visit: Visit, out: np.ndarray | None = None) -> list[ClipSample]:
        """One clip without its pixels; it has an error, and an ``errno`` if the disk is to blame."""
        assert isinstance(visit, EvalVisit)
        self.clip = replace(self.clip, frames=max(1, len(visit.clips[0][2])))
        (sample,) = super().__call__(visit)
        pixels = sample.pixels
        values = {**vars(sample), "pixels": np.empty(0, np.uint8)}
        if sample.error is None:
            try:
                self._write(self.targets[sample.item], sample.frames, pixels)
            except OSError as error:
                return [Written(**values | {"error": str(error.strerror or error)}, errno=error.errno)]
        return [Written(**values)]

    def _write(self, target: Path, frames: np.ndarray, pixels: np.ndarray) -> None:
        draft = self.drafts / f"{os.getpid()}"
        self.drafts.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if self.video:
                draft.write_bytes(encoded(pixels))
            else:
                draft.mkdir()
                for frame, picture in zip(frames.tolist(), pixels, strict=True):
                    (draft / picture_name(frame)).write_bytes(png(picture))
            draft.rename(target)
        finally:
            if draft.is_dir():
                shutil.rmtree(draft)
            else:
                draft.unlink(missing_ok=True)


def picture_name(frame: int) -> str:
    """The file of a frame; what sorts by name sorts by number."""
    return f"{frame:06d}.png"


def png(picture: np.ndarray) -> bytes:
    """A picture, uint8 (S, S, 3) RGB, as a PNG file."""
    done, content = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"OpenCV does not encode a picture of {picture.shape}")
    return content.tobytes()


def encoded(pixels: np.ndarray) -> bytes:
    """Crops, uint8 (n, S, S, 3) RGB with an even S, as an MP4 file: H.264, 30 frames a second, yuv420p."""
    # the same bytes in every run: dfdet.demo.film says what else x264 does
    options = {"crf": str(CRF), "preset": "medium", "threads": "1", "x264-params": "mbtree=0"}
    content = io.BytesIO()
    with av.open(content, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height = pixels.shape[2], pixels.shape[1]
        stream.pix_fmt = "yuv420p"
        for picture in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return content.getvalue()
