"""A file -> its :class:`Media`: everything decoded once, in order; frames that somebody wants are handed over."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dfdet.video.damage import DamageLog, runs
from dfdet.video.fingerprints import Fingerprints
from dfdet.video.images import SUFFIXES, image_format, probe_image, unreadable
from dfdet.video.media import Media, StreamFacts
from dfdet.video.pixels import upright
from dfdet.video.stream import emitted, no_stream, opened, quarter_turns, told

_X264 = re.compile(rb"x264 - core (\d+)")

Wanted = Callable[[int], bool]
OnFrame = Callable[[int, np.ndarray], None]


def probe(path: str | Path, wanted: Wanted | None = None, on_frame: OnFrame | None = None) -> Media:
    """Decodes a whole file once, with one thread, and says what it holds. A bad file is a status, not an exception.

    Frames are turned into RGB only where ``wanted`` says so (and for a score of fingerprints). Frames that later turn
    out to be damaged are handed over too; the caller leaves out what is not in ``usable_runs()``.

    Args:
        path: A video or a still picture; told apart by content.
        wanted: Which frames ``on_frame`` is called for, by index; None means all.
        on_frame: Takes the index and the upright RGB frame, uint8 (H, W, 3). What it raises is passed on.

    Returns:
        The facts, with ``reader`` None for a usable video: :func:`dfdet.video.judge` fills it in.
    """

    def hand_over(index: int, picture: Callable[[], np.ndarray]) -> None:
        if on_frame is not None and (wanted is None or wanted(index)):
            on_frame(index, picture())

    path = Path(path)
    kind = "image" if path.suffix.lower() in SUFFIXES else "video"
    try:
        name = image_format(path)
        if path.stat().st_size == 0:
            return unreadable(kind, "the file has no bytes", status="empty")
    except OSError as error:
        return unreadable(kind, error.strerror or str(error))
    if name is None:
        return _probe_video(path, kind, hand_over)
    media, picture = probe_image(path, name)
    if picture is not None:
        hand_over(0, lambda: picture)
    return media


_HandOver = Callable[[int, Callable[[], np.ndarray]], None]


def _probe_video(path: Path, kind: str, hand_over: _HandOver) -> Media:
    with ExitStack() as stack:
        try:
            container, stream = stack.enter_context(opened(path))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            return unreadable(kind, told(error))
        if stream is None:
            return unreadable(kind, no_stream(container))
        return _Pass(container, stream).run(hand_over)


class _Pass:
    """One decode of a stream from its start, and what was noticed on the way."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.container = container
        self.stream = stream
        self.log = DamageLog()
        self.times: list[int | None] = []
        self.rotation = 0
        self.discarded = 0
        self.key_packets = 0
        self.leading = 0
        self.reordered = False
        self.x264_core: int | None = None
        self._key_pts: int | None = None
        self._latest_pts: int | None = None

    def run(self, hand_over: _HandOver) -> Media:
        """Decodes everything; returns the facts."""
        first: VideoFrame | None = None
        prints = Fingerprints()
        for index, frame in enumerate(emitted(self.container, self.stream, self._note, self.log.error)):
            if first is None:
                first = frame
                prints.rotation = self.rotation = quarter_turns(frame.rotation)
            is_key, resized = bool(frame.key_frame), (frame.width, frame.height) != (first.width, first.height)
            self.log.frame(frame.pts, is_key, frame.is_corrupt, resized)
            self.times.append(frame.pts)
            prints.add(index, frame, is_key)
            hand_over(index, partial(upright, frame, self.rotation))
        if first is None:
            problem = f"no frame decodes ({self.log.packets} packets, {len(self.log.errors)} refused)"
            return unreadable("video", problem, status="unreadable" if self.log.packets else "empty")
        return self._media(first, prints.finish(len(self.times)))

    def _note(self, packet: Packet) -> None:
        if self.log.packets == 0 and (found := _X264.search(bytes(packet))):
            self.x264_core = int(found[1])
        pts = packet.pts
        self.log.packet(pts)
        if packet.is_corrupt:  # the demuxer missed a part of it
            self.log.error()
        self.discarded += packet.is_discard
        if packet.is_keyframe:
            self.key_packets += 1
            self._key_pts = pts
        if pts is None:
            return
        self.leading += self._key_pts is not None and pts < self._key_pts
        self.reordered |= self._latest_pts is not None and pts < self._latest_pts
        self._latest_pts = pts

    def _media(self, first: VideoFrame, crcs: dict[int, int]) -> Media:
        good, log, count = self.log.usable(), self.log, len(self.times)
        harmed = bool(log.errors or log.corrupt or log.resized)
        usable = int(good.sum())
        if not usable:
            status, reason = "unreadable", f"all {count} frames are damaged"
        elif harmed:
            status, reason = "partial", _describe(log, usable)
        else:
            status, reason = "ok", None
        probes = [i for i in crcs if good[i]]
        rate = self.stream.average_rate or self.stream.guessed_rate
        size = (first.width, first.height) if self.rotation % 180 == 0 else (first.height, first.width)
        start, step, pts = _times(self.times)
        return Media(
            kind="video",
            status=status,
            reason=reason,
            num_frames=count,
            frame_runs=runs(good) if harmed else None,
            fps=float(rate) if rate else None,
            width=size[0],
            height=size[1],
            rotation=self.rotation,
            codec=self.stream.codec_context.name,
            pix_fmt=first.format.name,
            has_audio=bool(self.container.streams.audio),
            reader=None if usable else "none",
            reader_reason=None if usable else reason,
            keyframes=tuple(log.keys),
            pts_start=start,
            pts_step=step,
            pts=pts,
            probe_frames=tuple(probes),
            probe_crcs=tuple(crcs[i] for i in probes),
            stream=self._facts(),
        )

    def _facts(self) -> StreamFacts:
        return StreamFacts(
            container=self.container.format.name,
            packets=self.log.packets,
            declared=self.stream.frames,
            discarded=self.discarded,
            errors=len(self.log.errors),
            corrupt=len(self.log.corrupt),
            key_packets=self.key_packets,
            leading=self.leading,
            reordered=self.reordered,
            x264_core=self.x264_core,
        )


def _describe(log: DamageLog, usable: int) -> str:
    """``packets that do not decode: 2, damaged frames: 9; 74 of 98 frames are usable``."""
    found = {
        "packets that do not decode": len(log.errors),
        "damaged frames": len(log.corrupt),
        "frames of another size": len(log.resized),
    }
    listed = ", ".join(f"{what}: {number}" for what, number in found.items() if number)
    return f"{listed}; {usable} of {len(log.positions)} frames are usable"


def _times(times: list[int | None]) -> tuple[int | None, int | None, tuple[int, ...] | None]:
    """``pts_start``, ``pts_step``, ``pts``: all None where times are absent or do not increase."""
    known = np.asarray([t for t in times if t is not None], np.int64)
    steps = np.diff(known)
    if len(known) < len(times) or (steps <= 0).any():
        return None, None, None
    start = int(known[0])
    if len(set(steps.tolist())) <= 1:
        return start, int(steps[0]) if len(steps) else 1, None
    return start, None, tuple(known.tolist())
