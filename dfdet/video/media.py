"""What decoding one file has shown -> a frozen record, and that record -> a row of the manifest and back."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StreamFacts:
    """What the verdict on decord needs and the manifest does not keep.

    Attributes:
        container: FFmpeg's name of the format, e.g. ``"mov,mp4,m4a,3gp,3g2,mj2"``.
        packets: Packets of the video stream, without the flush packet.
        declared: Frames that the container's header claims; 0 where it does not say (fragmented mp4).
        discarded: Packets that an edit list hides.
        errors: Packets that the demuxer or the decoder refused.
        corrupt: Frames that the decoder flagged.
        key_packets: Packets that the container calls keyframes.
        leading: Packets stored after a keyframe but shown before it (open GOP).
        reordered: Whether packets are stored in another order than shown (B-frames).
        x264_core: Build number in the encoder's SEI message ("x264 - core NNN"); None without one.
    """

    container: str
    packets: int
    declared: int
    discarded: int
    errors: int
    corrupt: int
    key_packets: int
    leading: int
    reordered: bool
    x264_core: int | None


@dataclass(frozen=True)
class Media:
    """Facts about one file. Frame i is the i-th frame that PyAV emits when it decodes the file from its start.

    Attributes:
        kind: ``video`` or ``image``.
        status: ``ok``, ``partial`` (frames outside ``frame_runs`` are damaged), ``unreadable`` or ``empty``.
        reason: Why the status is not ``ok``, in words.
        num_frames: Frames that decode, damaged ones included.
        frame_runs: ``(start, stop)`` pairs of usable frames; None means all.
        fps: Average frame rate that the container states; None without one.
        width: Pixels of the upright frame.
        height: Pixels of the upright frame.
        rotation: Degrees; ``np.rot90(frame, rotation // 90)`` makes a decoded frame upright.
        codec: FFmpeg's name of the decoder.
        pix_fmt: FFmpeg's name of the pixel format.
        has_audio: Whether there is an audio stream.
        reader: ``decord``, ``decord0``, ``pyav``, ``image`` or ``none``; None until :func:`dfdet.video.judge` spoke.
        reader_reason: Why it is that reader.
        keyframes: Indices of the frames that the decoder calls keyframes, ascending.
        pts_start: Presentation time of frame 0 in container ticks; None where times are absent or do not increase.
        pts_step: Ticks from a frame to the next where they are constant, else None.
        pts: One time a frame where the step is not constant, else None.
        probe_frames: Indices of the frames in ``probe_crcs``, ascending.
        probe_crcs: ``zlib.crc32`` of the upright RGB frames, uint32 values.
        stream: Facts for the verdict; not kept in the manifest.
    """

    kind: str = "video"
    status: str = "ok"
    reason: str | None = None
    num_frames: int = 0
    frame_runs: tuple[tuple[int, int], ...] | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    rotation: int = 0
    codec: str | None = None
    pix_fmt: str | None = None
    has_audio: bool | None = None
    reader: str | None = None
    reader_reason: str | None = None
    keyframes: tuple[int, ...] = ()
    pts_start: int | None = None
    pts_step: int | None = None
    pts: tuple[int, ...] | None = None
    probe_frames: tuple[int, ...] = ()
    probe_crcs: tuple[int, ...] = ()
    stream: StreamFacts | None = field(default=None, compare=False)

    def times(self) -> np.ndarray | None:
        """Presentation times, int64 (num_frames,), container ticks, strictly increasing; None where unusable."""
        if self.pts is not None:
            return np.asarray(self.pts, np.int64)
        if self.pts_start is None or self.pts_step is None:
            return None
        return self.pts_start + self.pts_step * np.arange(self.num_frames, dtype=np.int64)

    @property
    def timed(self) -> bool:
        """Whether every frame has a time of its own, so that frames can be told by it."""
        return self.pts is not None or (self.pts_start is not None and self.pts_step is not None)

    def time_of(self, index: int) -> int:
        """Presentation time of one frame, container ticks; for files that are ``timed``."""
        if self.pts is not None:
            return self.pts[index]
        assert self.pts_start is not None
        assert self.pts_step is not None
        return self.pts_start + index * self.pts_step

    def index_at(self, time: int | None) -> int | None:
        """The frame that is shown exactly from ``time`` on; None where there is none."""
        if time is None or not self.timed:
            return None
        if self.pts is not None:
            place = bisect_left(self.pts, time)
            return place if place < len(self.pts) and self.pts[place] == time else None
        assert self.pts_start is not None
        assert self.pts_step is not None
        index, rest = divmod(time - self.pts_start, self.pts_step)
        return index if rest == 0 and 0 <= index < self.num_frames else None

    def usable_runs(self) -> tuple[tuple[int, int], ...]:
        """``(start, stop)`` pairs of the frames that may be used; the whole file where nothing is damaged."""
        if self.frame_runs is not None:
            return self.frame_runs
        return ((0, self.num_frames),) if self.num_frames else ()

    def to_row(self) -> dict[str, Any]:
        """Plain values for the manifest, by column name; ``frame_runs`` as [start, stop, start, stop ...]."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "stream"}
        row = {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}
        if self.frame_runs is not None:
            row["frame_runs"] = [edge for run in self.frame_runs for edge in run]
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any] | pd.Series) -> Media:
        """The record in a row of the manifest: a dict or a pandas Series; other columns are passed over.

        Args:
            row: Values by column name. None, NaN and ``pd.NA`` stand for absent; lists may be numpy arrays.
        """
        values = {f.name: _plain(row[f.name]) for f in fields(cls) if f.name in row}
        known = {name: value for name, value in values.items() if value is not None}
        if "frame_runs" in known:
            edges = known["frame_runs"]
            known["frame_runs"] = tuple(zip(edges[::2], edges[1::2], strict=True))
        return cls(**known)


def _plain(value: Any) -> Any:
    """A python value: numpy and pandas scalars unwrapped, sequences as tuples, nulls as None."""
    if isinstance(value, np.ndarray | list | tuple):
        return tuple(_plain(v) for v in value)
    # pd.NA and NaN alone do not equal themselves; pd.NA answers with itself, which has no truth value
    if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value:
        return None
    return value.item() if isinstance(value, np.generic) else value
