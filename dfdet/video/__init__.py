"""A file -> the right frames: what it holds (:func:`probe`), who may read it (:func:`judge`), the frames themselves."""

from __future__ import annotations

from dfdet.video.decord_reader import DecordReader
from dfdet.video.errors import ReadError
from dfdet.video.media import Media, StreamFacts
from dfdet.video.probe import probe
from dfdet.video.pyav_reader import PyAVReader
from dfdet.video.readers import ImageReader, Reader, describe_choice, open_reader
from dfdet.video.request import Region
from dfdet.video.verdict import judge

__all__ = [
    "DecordReader",
    "ImageReader",
    "Media",
    "PyAVReader",
    "ReadError",
    "Reader",
    "Region",
    "StreamFacts",
    "describe_choice",
    "judge",
    "open_reader",
    "probe",
]
