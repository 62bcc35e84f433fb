"""A decoded frame -> upright RGB: the whole of it, or only the regions that somebody wants.

A region is converted by itself where that is proven to give the same bits as the conversion of the whole frame, cut:
its part of each plane is copied, on even coordinates, into a small frame with the same tags, and swscale converts that.
It holds for the planar 8-bit formats below in frames of even size that are not interlaced: there swscale works on pairs
of pixels and pairs of lines, and no pixel depends on what lies further away. Odd sizes, interlaced fields and deeper
formats go through filters that reach over a region's edge; of those the whole frame is converted and then cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import VideoReformatter

from dfdet.video.request import Region, cut

# Format -> by which power of two its chroma planes are narrower and lower.
_SHIFTS = {
    "yuv420p": (1, 1),
    "yuvj420p": (1, 1),
    "yuv422p": (1, 0),
    "yuvj422p": (1, 0),
    "yuv444p": (0, 0),
    "yuvj444p": (0, 0),
}
# To planes and merged, these take half the time of swscale's way to interleaved RGB, for the same bits.
_PLANAR = frozenset({"yuv444p", "yuvj444p"})
# Regions that cover more of a frame than this are cut from the whole of it.
_MOST = 0.5


class Pixels:
    """Converts the frames of one pass; it keeps swscale's tables from frame to frame.

    Args:
        rotation: Counter-clockwise degrees that make a frame upright, a multiple of 90; PyAV does not apply the display
            matrix, this does.
    """

    def __init__(self, rotation: int) -> None:
        self.rotation = rotation
        self._converter = VideoReformatter()

    def whole(self, frame: VideoFrame) -> np.ndarray:
        """RGB uint8 (H, W, 3) of the upright frame, contiguous."""
        return turned(self._rgb(frame), self.rotation)

    def patches(self, frame: VideoFrame, regions: Sequence[Region]) -> list[np.ndarray]:
        """RGB uint8 (h, w, 3), contiguous, for each region (x, y, w, h) of the upright frame."""
        area = sum(w * h for _, _, w, h in regions)
        if not _separable(frame) or area > _MOST * frame.width * frame.height:
            return cut(self.whole(frame), regions)
        return [turned(self._patch(frame, self._stored(frame, region)), self.rotation) for region in regions]

    def _stored(self, frame: VideoFrame, region: Region) -> Region:
        """Where a region of the upright frame lies in the frame as it was decoded."""
        x, y, w, h = region
        turns = self.rotation // 90 % 4
        if turns == 1:
            return frame.width - y - h, x, h, w
        if turns == 2:
            return frame.width - x - w, frame.height - y - h, w, h
        if turns == 3:
            return y, frame.height - x - w, h, w
        return region

    def _patch(self, frame: VideoFrame, region: Region) -> np.ndarray:
        x, y, w, h = region
        # the region, grown to even coordinates
        left, top = x & ~1, y & ~1
        width, height = (x + w + 1 & ~1) - left, (y + h + 1 & ~1) - top
        small = VideoFrame(width, height, frame.format.name)
        small.color_range, small.colorspace = frame.color_range, frame.colorspace
        chroma = _SHIFTS[frame.format.name]
        for number, (source, target) in enumerate(zip(frame.planes, small.planes, strict=True)):
            across, down = chroma if number else (0, 0)
            part = _lines(source)[top >> down :, left >> across :]
            wide, high = width >> across, height >> down
            _lines(target)[:high, :wide] = part[:high, :wide]
        return self._rgb(small)[y - top : y - top + h, x - left : x - left + w]

    def _rgb(self, frame: VideoFrame) -> np.ndarray:
        # swscale starts a thread a core unless told otherwise: twice the CPU time for the same bits
        if frame.format.name not in _PLANAR:
            return self._converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        planes = self._converter.reformat(frame, format="gbrp", threads=1)
        green, blue, red = (_lines(plane)[: frame.height, : frame.width] for plane in planes.planes)
        return np.asarray(cv2.merge([red, green, blue]), dtype=np.uint8)


def upright(frame: VideoFrame, rotation: int) -> np.ndarray:
    """RGB uint8 (H, W, 3), contiguous, of a single decoded frame, turned counter-clockwise by ``rotation`` degrees."""
    return Pixels(rotation).whole(frame)


def turned(picture: np.ndarray, rotation: int) -> np.ndarray:
    """``picture`` turned counter-clockwise by ``rotation`` degrees, contiguous (PyAV pads rows of odd widths)."""
    return np.ascontiguousarray(np.rot90(picture, rotation // 90))


def _separable(frame: VideoFrame) -> bool:
    """Whether converting a part of the frame gives the part of the converted frame."""
    return (
        frame.format.name in _SHIFTS
        and frame.width % 2 == 0
        and frame.height % 2 == 0
        and not frame.interlaced_frame
        and all(plane.line_size > 0 for plane in frame.planes)  # some AVI are stored upside down
    )


def _lines(plane: VideoPlane) -> np.ndarray:
    """The bytes of a plane of 8-bit samples, uint8 (lines, bytes a line), padding included; a view."""
    # PyAV's stubs do not say that a plane is a buffer
    return np.frombuffer(cast("memoryview", plane), np.uint8).reshape(-1, plane.line_size)
