"""A file and its facts -> which reader is right for it: decord where that is proven, PyAV elsewhere.

decord miscounts where packets and frames differ, next to keyframes of open GOPs, and where frames are hidden
(reference: decode.md §1, §6.3). What is known to go wrong is refused without opening decord; the rest must return the
index's fingerprints bit for bit in the way that :class:`dfdet.video.decord_reader.DecordReader` reads: a fresh reader
and one ascending batch. There is no tolerance: 10-bit, odd 4:2:0 sizes and interlaced chroma, where decord's conversion
is a level off, go to PyAV, so that all frames of all files come from one conversion.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dfdet.video.decord_reader import open_decord, read_batch
from dfdet.video.errors import ReadError
from dfdet.video.fingerprints import REACH
from dfdet.video.media import Media, StreamFacts
from dfdet.video.pyav_reader import PyAVReader
from dfdet.video.stream import crc32

# FFmpeg decodes 4:4:4 of x264 before this build in another way, and knows the build from packet 0 only
_X264_444_MENDED = 151
_CONTAINERS = ("mov,mp4", "matroska", "avi")


def judge(path: str | Path, media: Media) -> Media:
    """Fills in ``reader`` and ``reader_reason``; takes ``pts`` away where going by them leads to other frames.

    **decord may hang** for ever, with the GIL free but deaf to python signal handlers: call this in a child process
    that a watchdog kills, and record ``pyav`` for a file that it had to kill over. Everything on which decord was seen
    to hang is refused before decord is opened; the watchdog is for what was not seen.

    Args:
        path: The file.
        media: What :func:`dfdet.video.probe` has just returned for it, with its ``stream``.

    Returns:
        ``media`` with ``reader`` one of ``decord``, ``decord0`` (right once frame 0 went through the decoder),
        ``pyav``, ``image``, ``none``.

    Raises:
        ValueError: If ``media`` comes from a manifest: the facts that the verdict needs are not kept there.
    """
    if media.reader in ("none", "image"):
        return media
    if media.stream is None:
        raise ValueError("judge() needs the Media that probe() returned, not one read from a manifest")
    if not _seeks_right(path, media):
        why = "a seek leads to other frames: it is decoded from its start"
        return replace(media, reader="pyav", reader_reason=why, pts_start=None, pts_step=None, pts=None)
    refusal = _refusal(media, media.stream)
    if refusal is not None:
        return replace(media, reader="pyav", reader_reason=refusal)
    try:
        return _proven(path, media, media.stream)
    except ReadError as error:
        return replace(media, reader="pyav", reader_reason=error.reason)


def _seeks_right(path: str | Path, media: Media) -> bool:
    """Whether PyAV's reader, which goes by times, returns the index's frames behind the second and last keyframe.

    FFmpeg finds no fault in some damaged AVI, whose own tables still count the frames that are gone.
    """
    inner = [key for key in media.keyframes if key > 0]
    if media.status != "ok" or not media.timed or not inner:
        return True
    prints = dict(zip(media.probe_frames, media.probe_crcs, strict=True))
    for key in dict.fromkeys((inner[0], inner[-1])):
        behind = [i for i in media.probe_frames if key <= i <= key + REACH]
        try:
            if any(crc32(picture) != prints[i] for i, picture in PyAVReader().frames(path, behind, media)):
                return False
        except ReadError:
            return False
    return True


def _proven(path: str | Path, media: Media, facts: StreamFacts) -> Media:
    """The verdict by what decord returns; a bare proof is skipped where frame 0 is needed whatever it would say."""
    core = facts.x264_core
    if media.pix_fmt == "yuv444p" and core is not None and core < _X264_444_MENDED:
        fault = _fault(path, media, first_frame=True)
        why = f"4:4:4 by x264 core {core}: frame 0 must be decoded first"
        return replace(media, reader="pyav" if fault else "decord0", reader_reason=fault or why)
    fault = _fault(path, media, first_frame=False)
    if fault is None:
        return replace(media, reader="decord", reader_reason="bit-exact at every fingerprint")
    if _fault(path, media, first_frame=True) is None:
        return replace(media, reader="decord0", reader_reason=f"bit-exact after frame 0 only; without it {fault}")
    return replace(media, reader="pyav", reader_reason=fault)


def _refusal(media: Media, facts: StreamFacts) -> str | None:
    """Why decord is not even tried; None where it may be."""
    times = media.times()
    checks: list[tuple[Callable[[], bool], str]] = [
        (lambda: importlib.util.find_spec("decord") is None, "decord is not installed"),
        (lambda: media.status != "ok", f"the file is damaged ({media.reason})"),
        (lambda: times is None, "frame times are absent or do not increase"),
        (lambda: "av1" in (media.codec or ""), "decord has no AV1 decoder"),
        (
            lambda: not facts.container.startswith(_CONTAINERS),
            f"decord does not find frames reliably in {facts.container}",
        ),
        (
            lambda: facts.container.startswith("mov") and not facts.declared,
            "decord skips wrongly in fragmented mp4",
        ),
        (lambda: facts.container == "avi" and facts.reordered, "decord miscounts AVI with B-frames"),
        (lambda: facts.discarded > 0, f"an edit list hides {facts.discarded} packets, which decord counts"),
        (
            lambda: facts.packets != media.num_frames,
            f"{facts.packets} packets make {media.num_frames} frames, decord counts packets",
        ),
        (lambda: _uneven(media), "frame times are uneven, decord skips wrongly"),
        (
            lambda: facts.leading > 0,
            f"open GOP: {facts.leading} frames are stored after a keyframe but shown before it",
        ),
        (
            lambda: facts.key_packets != len(media.keyframes),
            f"the container names {facts.key_packets} keyframes, the decoder {len(media.keyframes)}",
        ),
    ]
    return next((why for holds, why in checks if holds()), None)


def _uneven(media: Media) -> bool:
    """Whether some step between frames is more than half again as long as another; clocks' rounding is not."""
    if media.pts is None:
        return False
    steps = [b - a for a, b in zip(media.pts, media.pts[1:], strict=False)]
    return max(steps) > 1.5 * min(steps)


def _batches(media: Media) -> Iterator[list[int]]:
    """Ascending batches for fresh readers; each begins where a fault was seen to begin. None is empty.

    One starts at the second keyframe, one at the frame behind it, one at the last keyframe and goes on to the end; one
    goes from frame 0 to about a third. A file of one keyframe is entered in its middle and then passed through. Every
    fault of the test files shows in these; batches from frames further behind, across the last keyframe, or through
    the whole file found no other and cost twice as much.
    """
    inner = [key for key in media.keyframes if key > 0]
    if not inner:
        yield from _filled([i for i in media.probe_frames if i <= media.num_frames // 2][-1:])
        yield from _filled(media.probe_frames)
        return
    second, last = inner[0], inner[-1]
    behind = [i for i in media.probe_frames if second <= i <= second + REACH]
    if second != last:
        yield from _filled(behind)
    yield from _filled([i for i in behind if i > second])
    yield from _filled([i for i in media.probe_frames if i >= last])
    yield from _filled([i for i in media.probe_frames if i < second - REACH][:3])


def _filled(batch: Sequence[int]) -> Iterator[list[int]]:
    if batch:
        yield list(batch)


def _fault(path: str | Path, media: Media, first_frame: bool) -> str | None:
    """Which frame decord gets wrong, in words; None where every batch is bit-exact.

    Raises:
        ReadError: If decord cannot open the file, counts other frames, or fails.
    """
    prints = dict(zip(media.probe_frames, media.probe_crcs, strict=True))
    for batch in _batches(media):
        order = [0, *batch] if first_frame and batch[:1] != [0] else batch
        video = open_decord(path)
        if len(video) != media.num_frames:
            raise ReadError(path, f"decord counts {len(video)} frames of {media.num_frames}")
        pictures = read_batch(path, video, order)
        # its thread decodes on in the background until the reader is gone
        del video
        for index, picture in zip(order, pictures, strict=True):
            if crc32(picture) != prints[index]:
                return f"decord's frame {index} differs when it starts at {batch[0]}"
    return None
