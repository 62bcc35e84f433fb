"""Clips of the data module and of a rival in, nothing out, or an error: wrong pixels have no speed."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np

from dfdet.bench.clips import VisitClips
from dfdet.data.batch import ClipBatch
from dfdet.errors import UserError

Expected = dict[tuple[int, tuple[int, ...]], int]


def expected(batches: Iterable[ClipBatch]) -> Expected:
    """CRC-32 of each clip of the data module by item and frames; it must not augment.

    Raises:
        UserError: If a clip could not be made.
    """
    found: Expected = {}
    for batch in batches:
        if batch.errors:
            raise UserError(f"a clip cannot be made: {batch.errors[0][1]}", "leave the file out with --where")
        # the colours back where they lie in memory
        pixels = batch.video.permute(0, 1, 3, 4, 2).contiguous().numpy()
        for clip, item, frames, mask in zip(pixels, batch.item, batch.frames, batch.mask, strict=True):
            found[int(item), tuple(frames[mask].tolist())] = zlib.crc32(clip.data)
    return found


def check(name: str, made: Iterable[tuple[VisitClips, np.ndarray]], wanted: Expected) -> int:
    """Compares a rival's clips with the data module's; returns how many were compared.

    Raises:
        UserError: At the first clip that differs in a bit.
    """
    compared = 0
    for visit, clips in made:
        for clip, pixels in zip(visit.clips, clips, strict=True):
            frames = tuple(clip.frames.tolist())
            if zlib.crc32(np.ascontiguousarray(pixels).data) != wanted[visit.item, frames]:
                raise UserError(
                    f"{name} returns other pixels than the data module for {visit.path}, frames "
                    f"{frames[0]} to {frames[-1]}",
                    "its speed is worth nothing; leave the file out with --where and report it",
                )
            compared += 1
    return compared
