"""A path and frame indices -> those frames by one pass of PyAV; exact for every file that PyAV decodes.

A seek is believed only if what comes out can be told by its presentation time and fits the index: it starts at a
keyframe at or before the first wanted frame, times increase, no packet fails, no frame is flagged, and every wanted
time is met. Otherwise the file is decoded again from its start and frames are counted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dfdet.video.errors import ReadError
from dfdet.video.media import Media
from dfdet.video.pixels import Pixels
from dfdet.video.request import Region, check_size, checked_regions, checked_request
from dfdet.video.stream import emitted, no_stream, opened, told

# Codecs that know headers from pictures, and pictures that nobody references from others: their decoders can be told to
# pass over what is not wanted, and what then comes out is the same (decode.md §2b). Others gain next to nothing.
_LIGHT = frozenset({"h264", "hevc"})
# A keyframe this far behind the last wanted frame is sought, not decoded towards.
_JUMP = 4

_Pass = Callable[[InputContainer, VideoStream, "deque[int]", Media], Iterator[tuple[int, VideoFrame]]]
Made = TypeVar("Made")


class _MistrustError(Exception):
    """What came out of a seek does not fit the index."""


class PyAVReader:
    """Reads with PyAV, one thread. Of what lies between keyframes only the way to the last wanted frame is decoded."""

    def frames(self, path: str | Path, indices: Iterable[int], media: Media) -> Iterator[tuple[int, np.ndarray]]:
        """See :meth:`dfdet.video.readers.Reader.frames`."""
        wanted = checked_request(path, indices, media)
        pixels = Pixels(media.rotation)
        return _read(path, deque(wanted), media, lambda index, frame: pixels.whole(frame))

    def patches(
        self, path: str | Path, regions: Mapping[int, Sequence[Region]], media: Media
    ) -> Iterator[tuple[int, list[np.ndarray]]]:
        """See :meth:`dfdet.video.readers.Reader.patches`; where it is exact only the regions are converted."""
        wanted = checked_regions(path, regions, media)
        pixels = Pixels(media.rotation)
        return _read(path, deque(wanted), media, lambda index, frame: pixels.patches(frame, wanted[index]))


def _read(
    path: str | Path, wanted: deque[int], media: Media, make: Callable[[int, VideoFrame], Made]
) -> Iterator[tuple[int, Made]]:
    """What ``make`` makes of each wanted frame, while the decoder stands at it; ``wanted`` is used up."""
    if not wanted:
        return
    passes: list[tuple[_Pass, bool]] = [(_counted, False)]
    # in a damaged file what a packet decodes to depends on all before it
    if media.status == "ok" and media.timed:
        passes.insert(0, (_timed, media.codec in _LIGHT))
    try:
        for run, quick in passes:
            try:
                with opened(path, quick) as (container, stream):
                    if stream is None and quick:
                        raise _MistrustError
                    if stream is None:
                        raise ReadError(path, no_stream(container))
                    for index, frame in run(container, stream, wanted, media):
                        size = (frame.width, frame.height)
                        check_size(path, *(size if media.rotation % 180 == 0 else size[::-1]), media)
                        made = make(index, frame)
                        wanted.popleft()
                        yield index, made
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
    """Decodes from the start, as the index did, and counts. ``wanted`` shrinks while the caller iterates.

    Raises:
        ReadError: A packet of a sound file does not decode: all that follows would be counted wrong.
    """

    def on_error() -> None:
        if media.status == "ok":
            raise ReadError(container.name, "a packet does not decode that did when the file was indexed")

    for index, frame in enumerate(emitted(container, stream, lambda packet: None, on_error)):
        if index == wanted[0]:
            yield index, frame
            if not wanted:
                return


def _timed(
    container: InputContainer, stream: VideoStream, wanted: deque[int], media: Media
) -> Iterator[tuple[int, VideoFrame]]:
    """Goes from keyframe to keyframe, drops what nobody references, tells frames by their times.

    Raises:
        _MistrustError: At the first sign that a frame could be another than its time says.
    """
    stretches = list(_stretches(wanted, media.keyframes))
    try:
        if stretches[0][0] > 0:
            _warm_up(container, stream, media.codec in _LIGHT)
        for key, goals in stretches:
            if key > 0:
                container.seek(media.time_of(key), stream=stream)
            yield from _stretch(container, stream, key, goals, media)
    except (av.error.FFmpegError, IndexError) as error:
        raise _MistrustError from error


def _stretches(wanted: Iterable[int], keyframes: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Ascending indices -> (the keyframe to enter at, or 0, and the indices to read from there on)."""
    goals: list[int] = []
    entry = 0
    for index in wanted:
        place = bisect_right(keyframes, index)
        key = keyframes[place - 1] if place else 0
        if goals and key > goals[-1] + _JUMP:
            yield entry, goals
            goals = []
        if not goals:
            entry = key
        goals.append(index)
    yield entry, goals


def _stretch(
    container: InputContainer, stream: VideoStream, key: int, goals: Sequence[int], media: Media
) -> Iterator[tuple[int, VideoFrame]]:
    """Decodes from where the container stands, at ``key`` or a keyframe before it, until ``goals`` came out."""
    previous, left = -1, deque(goals)
    for frame in _decoded(container, stream, {media.time_of(index) for index in goals}, media):
        index = media.index_at(frame.pts)
        if index is None or index <= previous or index > left[0] or frame.is_corrupt:
            raise _MistrustError
        # frame 0 and the start of the file are the same place only where the first frame is a keyframe
        if previous < 0 and not (index == 0 or (key > 0 and index in media.keyframes)):
            raise _MistrustError
        previous = index
        if index == left[0]:
            left.popleft()
            yield index, frame
            if not left:
                return
    raise _MistrustError


def _decoded(container: InputContainer, stream: VideoStream, goals: set[int], media: Media) -> Iterator[VideoFrame]:
    """Frames in the order of showing until those of the times ``goals`` went through the decoder."""
    context = stream.codec_context
    droppable = media.codec in _LIGHT
    unsent = set(goals)
    for packet in container.demux(stream):
        # a packet of an unknown time may be half of a wanted frame (fields), so only known ones are dropped
        idle = packet.pts not in goals and media.index_at(packet.pts) is not None
        if idle and not unsent:
            # nothing that follows matters; what the decoder holds back comes out at its end, one frame needs no other
            yield from _pictures(context.decode(None))
            return
        if droppable:
            context.skip_frame = "NONREF" if idle else "DEFAULT"
        if packet.pts is not None:
            unsent.discard(packet.pts)
        yield from _pictures(packet.decode())


def _pictures(frames: Iterable[object]) -> Iterator[VideoFrame]:
    return (frame for frame in frames if isinstance(frame, VideoFrame))


def _warm_up(container: InputContainer, stream: VideoStream, light: bool) -> None:
    """Shows the decoder what stands before the first picture, or that picture where the codec needs it.

    x264 writes its build number into the first packet only, and FFmpeg decodes 4:4:4 of builds before 151 in another
    way: a decoder that starts at a later keyframe of a FaceForensics++ file returns noise. The number is read though
    the picture is passed over.
    """
    context = stream.codec_context
    for packet in container.demux(stream):
        if light:
            context.skip_frame = "ALL"
            packet.decode()
            return
        if packet.decode():
            return
