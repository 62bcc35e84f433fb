"""A reader at work in, the frames that came out of its decoder and the time that it took to open files out.

PyAV's container, stream and packets are handed to the reader in thin covers that pass everything on and count what
decoding returns; so the count holds however the reader goes through a file. Frames that the decoder was told to drop
are never decoded, and do not come out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from av.video.frame import VideoFrame

from dfdet.video import pyav_reader, stream


class Count:
    """What was seen.

    Attributes:
        frames: Frames that came out of decoders.
        opening: CPU seconds until files were open.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.opening = 0.0

    def add(self, decoded: list[Any]) -> list[Any]:
        """Counts what one packet gave."""
        self.frames += sum(isinstance(frame, VideoFrame) for frame in decoded)
        return decoded


class _Cover:
    """Passes reads and writes of attributes on to what it covers."""

    def __init__(self, inner: Any, count: Count) -> None:
        object.__setattr__(self, "inner", inner)
        object.__setattr__(self, "count", count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.inner, name, value)


class _Decoder(_Cover):
    """A packet, or a codec's context: what can decode."""

    def decode(self, *given: Any) -> list[Any]:
        inner = [g.inner if isinstance(g, _Cover) else g for g in given]
        return list(self.count.add(list(self.inner.decode(*inner))))


class _Stream(_Cover):
    @property
    def codec_context(self) -> _Decoder:
        return _Decoder(self.inner.codec_context, self.count)


class _Container(_Cover):
    def demux(self, chosen: _Stream) -> Iterator[_Decoder]:
        return (_Decoder(packet, self.count) for packet in self.inner.demux(chosen.inner))

    def seek(self, offset: int, *, stream: _Stream, **options: Any) -> None:
        self.inner.seek(offset, stream=stream.inner, **options)


@contextmanager
def counted() -> Iterator[Count]:
    """Watches PyAV's reader meanwhile, in this process."""
    count = Count()
    opened = stream.opened

    @contextmanager
    def covered(*arguments: Any, **options: Any) -> Iterator[tuple[_Container, _Stream | None]]:
        started = time.process_time()
        with opened(*arguments, **options) as (container, chosen):
            count.opening += time.process_time() - started
            yield _Container(container, count), None if chosen is None else _Stream(chosen, count)

    with mock.patch.object(pyav_reader, "opened", covered):
        yield count
