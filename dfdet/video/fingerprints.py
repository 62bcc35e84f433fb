"""The frames of a video, one after another -> CRCs of the few by which a reader proves that it counts right.

Readers go wrong next to keyframes (decode.md §1), so the neighbourhoods of the second and the last keyframe are
taken, the first two frames, the last two, and one about a third and one about half way through. How long the video
is shows only at its end: undecided candidates are held as decoded frames and turned into RGB when they are chosen.
"""

from __future__ import annotations

from collections import deque

from av.video.frame import VideoFrame

from dfdet.video.pixels import upright
from dfdet.video.stream import crc32

REACH = 3


class Fingerprints:
    """Collects probe frames during one decode.

    At most ten decoded frames are held at a time: they cost memory (3 MB each at 1080p), their conversion costs time.

    Attributes:
        rotation: Counter-clockwise degrees that make a frame upright; to be set before the first frame.
    """

    def __init__(self) -> None:
        self.rotation = 0
        self._recent: deque[tuple[int, VideoFrame]] = deque(maxlen=REACH)
        self._last_key: dict[int, VideoFrame] = {}
        self._key: int | None = None
        self._num_keys = 0
        self._crcs: dict[int, int] = {}
        self._strided: set[int] = set()
        self._fixed: set[int] = set()

    def add(self, index: int, frame: VideoFrame, is_key: bool) -> None:
        """Looks at frame ``index``; frames come in order, without gaps."""
        if index < 2:
            self._convert(index, frame, self._fixed)
        elif index.bit_count() == 1 or (index % 3 == 0 and (index // 3).bit_count() == 1):
            # 2^k and 3*2^k: whatever the length, some lie near its third and its half
            self._convert(index, frame, self._strided)
        if is_key and index:
            self._settle_key()
            self._key, self._last_key = index, dict(self._recent)
            self._num_keys += 1
        if self._key is not None and index <= self._key + REACH:
            self._last_key[index] = frame
        self._recent.append((index, frame))

    def _settle_key(self) -> None:
        """Converts the neighbourhood of the second keyframe when a third shows that it is not the last."""
        if self._num_keys == 1:
            self._convert_held()

    def _convert_held(self) -> None:
        for index, frame in self._last_key.items():
            self._convert(index, frame, self._fixed)

    def _convert(self, index: int, frame: VideoFrame, role: set[int]) -> None:
        role.add(index)
        if index not in self._crcs:
            self._crcs[index] = crc32(upright(frame, self.rotation))

    def finish(self, num_frames: int) -> dict[int, int]:
        """``{index: crc32}``, ascending, for a video that turned out to have ``num_frames`` frames."""
        self._convert_held()
        for index, frame in self._recent:
            if index >= num_frames - 2:
                self._convert(index, frame, self._fixed)
        for goal in (num_frames // 3, num_frames // 2):
            if self._strided:
                self._fixed.add(min(self._strided, key=lambda i: (abs(i - goal), i)))
        return {index: self._crcs[index] for index in sorted(self._fixed)}
