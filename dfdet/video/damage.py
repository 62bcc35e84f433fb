"""Where in a stream decoding failed -> which of the frames that came out may be used."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class DamageLog:
    """Notes taken during one decode of a whole stream, packet by packet and frame by frame.

    A damaged packet spoils what is decoded after it until a keyframe, so positions are those of packets in storing
    order; frames are traced to their packets by presentation time, and where that fails by when they came out, which
    is never earlier than their packet, so that at worst too many frames are left out.
    """

    packets: int = 0
    errors: list[int] = field(default_factory=list)
    corrupt: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    resized: list[int] = field(default_factory=list)
    _by_pts: dict[int, int] = field(default_factory=dict)

    def packet(self, pts: int | None) -> None:
        """Notes that a packet was read."""
        if pts is not None:
            self._by_pts[pts] = self.packets
        self.packets += 1

    def error(self) -> None:
        """Notes that the packet read last, or what stood in its place, could not be decoded."""
        self.errors.append(max(self.packets - 1, 0))

    def frame(self, pts: int | None, is_key: bool, is_corrupt: bool, is_resized: bool) -> None:
        """Notes that a frame came out."""
        index = len(self.positions)
        self.positions.append(self._by_pts.get(pts, self.packets) if pts is not None else self.packets)
        if is_key:
            self.keys.append(index)
        if is_corrupt:
            self.corrupt.append(index)
        if is_resized:
            self.resized.append(index)

    def usable(self) -> np.ndarray:
        """Bool (frames,): neither flagged, nor of another size, nor resting on anything damaged."""
        positions = np.asarray(self.positions, np.int64)
        good = np.ones(len(positions), bool)
        # a hole often begins in the packet before the one that fails, which decodes to whatever lay in memory
        failed = {max(spot - 1, 0) for spot in self.errors}
        for spot in {*failed, *(self.positions[i] for i in self.corrupt)}:
            rests = positions >= spot
            # a keyframe ends the damage for itself and all that is both stored and shown after it
            key = next((k for k in self.keys if positions[k] > spot and k not in self.corrupt), None)
            if key is not None:
                rests &= (positions < positions[key]) | (np.arange(len(positions)) < key)
            good &= ~rests
        good[self.corrupt] = False
        good[self.resized] = False
        return good


def runs(good: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Bool (frames,) -> ``(start, stop)`` pairs of the stretches that are True, ascending."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    return tuple((int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True))
