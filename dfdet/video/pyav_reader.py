"""A path and frame indices -> those frames by one pass of PyAV; exact for every file that PyAV decodes.

A seek is believed only if what comes out can be told by its presentation time and fits the index: it starts at a
keyframe at or before the first wanted frame, times increase, no packet fails, no frame is flagged, and every wanted
time is met. Otherwise the file is decoded again from its start and frames are counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dfdet.video.errors import ReadError
from dfdet.video.media import Media
from dfdet.video.request import checked_picture, checked_request
from dfdet.video.stream import emitted, opened, told, upright

# Leaving out frames that nobody references is exact for these (decode.md §2b) and gains nothing on others.
_DROPPING = frozenset({"h264", "hevc"})


class _MistrustError(Exception):
    """What came out of a seek does not fit the index."""


class PyAVReader:
    """Reads with PyAV, one thread, from the last keyframe before the first wanted frame to the last wanted frame."""

    def frames(self, path: str | Path, indices: Iterable[int], media: Media) -> Iterator[tuple[int, np.ndarray]]:
        """See :meth:`dfdet.video.readers.Reader.frames`."""
        wanted = checked_request(path, indices, media)
        return self._read(path, deque(wanted), media) if wanted else iter(())

    def _read(self, path: str | Path, wanted: deque[int], media: Media) -> Iterator[tuple[int, np.ndarray]]:
        times = media.times()
        # in a damaged file what a packet decodes to depends on all before it
        passes = [_counted] if times is None or media.status != "ok" else [_timed, _counted]
        try:
            for run in passes:
                try:
                    with opened(path) as (container, stream):
                        if stream is None:
                            raise ReadError(path, "the file has no video stream")
                        for index, frame in run(container, stream, wanted, media):
                            picture = checked_picture(path, upright(frame, media.rotation), media)
                            wanted.popleft()
                            yield index, picture
                except _MistrustError:
                    continue
                if not wanted:
                    return
        except (av.error.FFmpegError, OSError) as error:
            raise ReadError(path, told(error)) from error
        raise ReadError(path, f"frame {wanted[0]} did not come out; is the file the one that was indexed?")


def _counted(
    container: InputContainer, stream: VideoStream, wanted: deque[int], media: Media
) -> Iterator[tuple[int, VideoFrame]]:
    """Decodes from the start, as the index did, and counts. ``wanted`` shrinks while the caller iterates."""
    for index, frame in enumerate(emitted(container, stream, lambda packet: None, lambda: None)):
        if index == wanted[0]:
            yield index, frame
            if not wanted:
                return


def _timed(
    container: InputContainer, stream: VideoStream, wanted: deque[int], media: Media
) -> Iterator[tuple[int, VideoFrame]]:
    """Seeks where a keyframe allows it, drops what nobody references, tells frames by their times.

    Raises:
        _MistrustError: At the first sign that a frame could be another than its time says.
    """
    times = media.times()
    assert times is not None
    index_of = {int(t): i for i, t in enumerate(times)}
    goals = {int(times[i]) for i in wanted}
    keys = set(media.keyframes)
    # frame 0 and the start of the file are the same place only where the first frame is a keyframe
    allowed_first = keys | {0}
    if any(0 < key <= wanted[0] for key in keys):
        _warm_up(container, stream)
        container.seek(int(times[wanted[0]]), stream=stream)
    else:
        allowed_first = {0}
    context = stream.codec_context
    droppable = media.codec in _DROPPING

    def on_packet(packet: Packet) -> None:
        # a packet of an unknown time may be half of a wanted frame (fields), so only known ones are dropped
        if droppable:
            drop = packet.pts in index_of and packet.pts not in goals
            context.skip_frame = "NONREF" if drop else "DEFAULT"

    previous = -1
    for frame in emitted(container, stream, on_packet, _mistrust):
        index = index_of.get(frame.pts, -1) if frame.pts is not None else -1
        if previous < 0 and (index not in allowed_first or index > wanted[0]):
            _mistrust()
        if index <= previous or frame.is_corrupt or index > wanted[0]:
            _mistrust()
        previous = index
        if index == wanted[0]:
            yield index, frame
            if not wanted:
                return


def _mistrust() -> None:
    raise _MistrustError


def _warm_up(container: InputContainer, stream: VideoStream) -> None:
    """Decodes until the first frame comes out.

    x264 writes its build number into the first packet only, and FFmpeg decodes 4:4:4 of builds before 151 in another
    way: a decoder that starts at a later keyframe of a FaceForensics++ file returns noise.
    """
    next(emitted(container, stream, lambda packet: None, _mistrust), None)
