"""What a visit wants in, its clips out, read as others read them; each is exact for the files that it is given.

Every function takes a :class:`~dfdet.bench.clips.VisitClips` and a clip's shape (T, S, S, 3), and returns uint8
(clips, T, S, S, 3): whole frames are converted and the crop is cut out of them, as one does with a reader's frames.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dfdet.bench.clips import VisitClips
from dfdet.data.crop import apply
from dfdet.video import DecordReader, Reader, ReadError, open_reader
from dfdet.video.decord_reader import open_decord, read_batch
from dfdet.video.stream import opened

ClipShape = tuple[int, int, int, int]
Make = Callable[[VisitClips, ClipShape], np.ndarray]

# so small a part of each frame that its conversion costs nothing beside its decoding
CORNER = (0, 0, 2, 2)


def reader_of(visit: VisitClips) -> Reader:
    """The reader that the data module takes for a visit."""
    return open_reader("auto", visit.media, visit.path)


def decode_only(visit: VisitClips, shape: ClipShape) -> np.ndarray:
    """The data module's reader decodes the wanted frames, and nothing is done with them."""
    for _ in reader_of(visit).patches(visit.path, {frame: [CORNER] for frame in visit.places()}, visit.media):
        pass
    return np.empty((0, *shape), np.uint8)


def decode_and_convert(visit: VisitClips, shape: ClipShape) -> np.ndarray:
    """The same, and the parts that the crops need are converted to RGB."""
    for _ in reader_of(visit).patches(visit.path, visit.regions(), visit.media):
        pass
    return np.empty((0, *shape), np.uint8)


def decode_and_convert_whole(visit: VisitClips, shape: ClipShape) -> np.ndarray:
    """The same, and the whole frames are converted to RGB: what a reader of frames does."""
    for _ in reader_of(visit).frames(visit.path, visit.places(), visit.media):
        pass
    return np.empty((0, *shape), np.uint8)


def decord_per_clip(visit: VisitClips, shape: ClipShape) -> np.ndarray:
    """A decord reader opened afresh for each clip, frame 0 first where the file needs that, then the crop."""
    made = np.empty((len(visit.clips), *shape), np.uint8)
    for clip, out in zip(visit.clips, made, strict=True):
        wanted = clip.frames.tolist()
        first = [0] if visit.media.reader == "decord0" and wanted[0] else []
        video = open_decord(visit.path)
        pictures = read_batch(visit.path, video, first + wanted)[len(first) :]
        del video  # its thread decodes on while the crops are cut
        for t, picture in enumerate(pictures):
            out[t] = apply(clip.crop, t, picture)
        _pad(out, len(wanted))
    return made


def plain_pass(visit: VisitClips, shape: ClipShape) -> np.ndarray:
    """One pass of PyAV: seek to the keyframe, decode, convert the wanted frames whole, cut."""
    return _cut(visit, shape, _decoded(visit))


def torchcodec_pass(visit: VisitClips, shape: ClipShape) -> np.ndarray:
    """One pass of torchcodec over the wanted frames of all clips, then the crops."""
    return _cut(visit, shape, _torchcodec(visit))


def torchcodec_missing() -> str | None:
    """Why torchcodec cannot be measured here; None where it can."""
    if importlib.util.find_spec("torchcodec") is None:
        return "torchcodec is not installed"
    try:
        importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError) as error:  # it is there, and finds no FFmpeg
        return f"torchcodec does not load ({str(error).splitlines()[0][:100]})"
    return None


def _cut(visit: VisitClips, shape: ClipShape, frames: Iterator[tuple[int, np.ndarray]]) -> np.ndarray:
    made = np.empty((len(visit.clips), *shape), np.uint8)
    places = visit.places()
    for index, picture in frames:
        for c, t in places[index]:
            made[c, t] = apply(visit.clips[c].crop, t, picture)
    for clip, out in zip(visit.clips, made, strict=True):
        _pad(out, len(clip.frames))
    return made


def _pad(clip: np.ndarray, frames: int) -> None:
    """A track shorter than a clip repeats its last frame."""
    clip[frames:] = clip[frames - 1]


def _decoded(visit: VisitClips) -> Iterator[tuple[int, np.ndarray]]:
    media, wanted = visit.media, list(visit.places())
    times = media.times()
    with opened(visit.path) as (container, stream):
        if stream is None or times is None:
            raise ReadError(visit.path, "a plain pass needs frames with times")
        index_of = {int(t): i for i, t in enumerate(times)}
        if any(0 < key <= wanted[0] for key in media.keyframes):
            if media.reader == "decord0":  # the decoder must have seen the file's first packet
                next(container.decode(stream))
            container.seek(int(times[wanted[0]]), stream=stream)
        left = iter(wanted)
        index = next(left)
        for frame in container.decode(stream):
            if frame.pts is not None and index_of.get(frame.pts) == index:
                yield index, turned(frame.to_ndarray(format="rgb24"), media.rotation)
                index = next(left, -1)
                if index < 0:
                    return
    raise ReadError(visit.path, f"frame {index} did not come out of a plain pass")


def turned(picture: np.ndarray, rotation: int) -> np.ndarray:
    """PyAV gives frames as they are stored; this makes them upright."""
    return np.rot90(picture, rotation // 90) if rotation else picture


def _torchcodec(visit: VisitClips) -> Iterator[tuple[int, np.ndarray]]:
    # not imported by name: it is no dependency, and need not be there
    library = importlib.import_module("torchcodec.decoders")
    wanted = list(visit.places())
    decoder: Any = library.VideoDecoder(
        str(visit.path), num_ffmpeg_threads=1, dimension_order="NHWC", seek_mode="exact"
    )
    if visit.media.reader == "decord0":
        decoder[0]
    return zip(wanted, decoder.get_frames_at(wanted).data.numpy(), strict=True)


def takes_decord(visit: VisitClips) -> bool:
    """Whether the data module reads this visit with decord."""
    return isinstance(reader_of(visit), DecordReader)
