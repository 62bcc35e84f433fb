"""A path -> an opened container with its video stream, decoded by one thread; its frames in the order of showing."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

_PLENTY = 1 << 26  # bytes that one picture and its decoder may need


@contextmanager
def opened(path: str | Path, quick: bool = False) -> Iterator[tuple[InputContainer, VideoStream | None]]:
    """Opens a file with PyAV and chooses its video stream; closes it at the end.

    PyAV without close() leaks threads and file descriptors, so nothing else in this package opens a container.

    Args:
        path: The file.
        quick: Tell FFmpeg to look at the headers in the first tenth of a second only, and to decode nothing: it then
            opens H.264 five to forty times faster, but may not find what stands later in streams without a header, and
            does not know by how many frames the decoder lags where the stream does not say.

    Yields:
        The container and the stream, which is None where the file has no video that FFmpeg can decode.

    Raises:
        av.error.FFmpegError: If the file cannot be opened.
    """
    av.logging.set_level(av.logging.PANIC)
    # they are for FFmpeg's own look at the streams; the stream's decoder below does not inherit them
    options = {"skip_frame": "all", "analyzeduration": "100000"} if quick else None
    # titles in other codes than UTF-8 are no fault of the pictures
    with av.open(str(path), options=options, metadata_errors="replace") as container:
        stream = _video_stream(container)
        if stream is not None:
            # several threads change what comes out of damaged files (reference: decode.md §7.4), and save no CPU
            stream.thread_type = "NONE"
            stream.codec_context.thread_count = 1
        yield container, stream


def _video_stream(container: InputContainer) -> VideoStream | None:
    """FFmpeg's best video stream, but a still picture attached to audio only where there is nothing else."""
    # FFmpeg has no decoder for those without a context
    streams = [s for s in container.streams.video if s.codec_context is not None]
    moving = [s for s in streams if not s.disposition & Disposition.attached_pic]
    best = container.streams.best("video") if streams else None
    if best in streams and (best in moving or not moving):
        return cast("VideoStream | None", best)
    return next(iter(moving or streams), None)


def no_stream(container: InputContainer) -> str:
    """Why :func:`opened` found no stream, in words."""
    return "FFmpeg has no decoder for its video stream" if container.streams.video else "the file has no video stream"


def emitted(
    container: InputContainer,
    stream: VideoStream,
    on_packet: Callable[[Packet], None],
    on_error: Callable[[], None],
) -> Iterator[VideoFrame]:
    """Frames in the order of showing, from where the container stands to its end; this order is what an index means.

    Args:
        container: An opened container.
        stream: Its video stream.
        on_packet: Called with each packet before it is decoded.
        on_error: Called when a packet does not decode, or the demuxer gives up; what it raises ends the decoding.

    Raises:
        MemoryError: There is no memory: that says nothing about the file.
    """
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, IndexError) as error:  # IndexError: of a stream that begins in mid-file
            if _starved(error):
                raise
            on_error()
            yield from _drained(stream)
            return
        if packet is None:
            return
        if packet.size:  # the last one, which empties the decoder, has none
            on_packet(packet)
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            if _starved(error):
                raise
            on_error()
            continue
        yield from (frame for frame in frames if isinstance(frame, VideoFrame))


def _starved(error: Exception) -> bool:
    """Whether there is no memory. FFmpeg says so, too, of a damaged header that claims a picture of gigabytes."""
    if not isinstance(error, MemoryError):
        return False
    try:
        bytearray(_PLENTY)
    except MemoryError:
        return True
    return False


def _drained(stream: VideoStream) -> list[VideoFrame]:
    """What the decoder still holds when the demuxer has given up."""
    try:
        return list(stream.codec_context.decode(None))
    except av.error.FFmpegError:
        return []


def quarter_turns(degrees: int | None) -> int:
    """Degrees of a display matrix -> the nearest multiple of 90 in 0, 90, 180, 270."""
    return round((degrees or 0) / 90) * 90 % 360


def crc32(picture: np.ndarray) -> int:
    """``zlib.crc32`` of the bytes of a picture, uint32."""
    return zlib.crc32(np.ascontiguousarray(picture).data)


def told(error: Exception) -> str:
    """Why FFmpeg refused a file, without the path: ``Invalid data found ... (moov atom not found)``."""
    text = str(getattr(error, "strerror", None) or error or type(error).__name__).splitlines()[0]
    log = getattr(error, "log", None)  # (level, who, message) of the last line that FFmpeg logged
    return f"{text} ({log[2].strip()})" if log and len(log) == 3 and log[2].strip() else text
