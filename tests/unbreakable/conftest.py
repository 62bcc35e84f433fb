"""The codec suite indexed as crops, what is in each of its frames, and how a batch's clips are told from each other."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from dfdet import manifest
from dfdet.data.clips import ClipSpec
from dfdet.data.loader import EvalLoader, TrainLoader
from dfdet.data.module import CropOptions, VideoDataModule
from dfdet.data.sources import Source

SIZE = 352  # pixels: holds the whole frame of all files of the suite but two


class Clip(NamedTuple):
    """One clip of a pass: its frames (without those that only fill it up), its pictures, why it could not be made."""

    frames: list[int]
    crcs: list[int]
    reason: str | None


@pytest.fixture(scope="session")
def suite(sample_media) -> Path:
    """The folder of the codec suite."""
    return sample_media / "codec_suite"


@pytest.fixture(scope="session")
def expected(suite) -> dict[str, dict[str, str]]:
    """What expected.csv says of each file."""
    with (suite / "expected.csv").open(newline="") as stream:
        return {row["file"]: row for row in csv.DictReader(stream)}


@pytest.fixture(scope="session")
def number(suite) -> Callable[[np.ndarray], tuple[int, int, float]]:
    """The suite's own reader of barcodes: RGB -> (number or -1, clockwise quarter turns, confidence)."""
    spec = importlib.util.spec_from_file_location("suite_barcode", suite / "barcode.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.number


@pytest.fixture(scope="session")
def suite_index(suite, expected, tmp_path_factory, worker_id, dfdet_command) -> Path:
    """The manifest of every file of the suite, half of them called fake; each whole picture is a crop. Read only."""
    base = tmp_path_factory.getbasetemp()
    home = (base if worker_id == "master" else base.parent) / "suite"
    with FileLock(f"{home}.lock"):
        if not (home / "suite.parquet").is_file():
            home.mkdir()
            rows = {"path": list(expected), "video_id": list(expected), "label": [i % 2 for i in range(len(expected))]}
            pd.DataFrame(rows).to_csv(home / "labels.csv", index=False)
            command = [*dfdet_command, "index", "csv", str(home), "--relative_to", str(suite), "--cropped"]
            subprocess.run(
                [*command, "--out", str(home / "suite.parquet"), "--workers", "2"],
                check=True, capture_output=True, timeout=300,
            )  # fmt: skip
    return home / "suite.parquet"


def frames_in_order(path: Path, held: int = 0) -> Iterator[np.ndarray]:
    """Every frame as PyAV emits it from the start, what does not decode passed over: what an index counts.

    Args:
        path: The file.
        held: Decoded frames that are kept from the decoder, which then takes other memory.
    """
    kept: deque[av.VideoFrame] = deque(maxlen=held)
    av.logging.set_level(av.logging.PANIC)
    with av.open(str(path)) as container:
        moving = [s for s in container.streams.video if not int(s.disposition) & 0x400]  # 0x400: a cover picture
        stream = (moving or list(container.streams.video))[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                packet = None
            try:
                found = packet.decode() if packet is not None else stream.codec_context.decode(None)
            except av.error.FFmpegError:
                found = []
            for frame in found:
                kept.append(frame)
                yield frame.to_ndarray(format="rgb24")
            if packet is None:
                return


def corner(width: int, height: int) -> tuple[int, int]:
    """Where a window of SIZE pixels lies in a picture whose whole is the box, x and y; outside it below 0."""
    # the square of the box's height is centred in the picture, and the window in it; halves are rounded up twice
    down = int(np.floor((height - SIZE) / 2 + 0.5))
    across = int(np.floor((width - height) / 2 + 0.5)) + down
    return tuple(
        min(max(at, min(side - SIZE, 0)), max(side - SIZE, 0)) for at, side in ((across, width), (down, height))
    )


def on_canvas(picture: np.ndarray) -> np.ndarray:
    """The window of SIZE pixels, black outside the picture."""
    canvas = np.zeros((SIZE, SIZE, 3), np.uint8)
    x, y = corner(picture.shape[1], picture.shape[0])
    part = picture[max(y, 0) : max(y, 0) + SIZE, max(x, 0) : max(x, 0) + SIZE]
    canvas[max(-y, 0) : max(-y, 0) + part.shape[0], max(-x, 0) : max(-x, 0) + part.shape[1]] = part
    return canvas


@pytest.fixture(scope="session")
def picture_in() -> Callable[[np.ndarray, int, int], np.ndarray]:
    """``picture_in(clip's frame, width, height)``: the picture itself, without the black around it."""

    def cut(frame: np.ndarray, width: int, height: int) -> np.ndarray:
        x, y = corner(width, height)
        return frame[-y : height - y, -x : width - x]

    return cut


@pytest.fixture(scope="session")
def pictures(suite, suite_index, expected) -> dict[str, list[int]]:
    """For each file that decodes the CRCs of its frames upright on a canvas, by a decode that nothing of ours takes
    part in; it agrees with every CRC that expected.csv lists."""
    rotation = manifest.read(suite_index).table.set_index("path")["rotation"]
    found: dict[str, list[int]] = {}
    for name, row in expected.items():
        if row["expected"] == "error":
            continue
        listed = {int(i): int(crc, 16) for i, crc in (item.split(":") for item in row["crc32_rgb24"].split())}
        found[name] = []
        for i, rgb in enumerate(frames_in_order(suite / name)):
            assert i not in listed or listed[i] == zlib.crc32(np.ascontiguousarray(rgb)), (name, i)
            found[name].append(zlib.crc32(on_canvas(np.rot90(rgb, int(rotation[name]) // 90))))
        assert len(found[name]) == int(row["decodable_frames"]), name
    return found


@pytest.fixture(scope="session")
def module() -> Callable[..., VideoDataModule]:
    """``module(manifest, root=None, where=None, **options)``: whole pictures as clips, of every row or some."""

    def make(path: Path, root: Path | None = None, where: str | None = None, **options: Any) -> VideoDataModule:
        source = Source(str(path), root=str(root) if root else None, where=where, split="all")
        given = {
            "train": source,
            "val": source,
            "crop": CropOptions(size=SIZE, mode="native"),
            "clip": ClipSpec(3),
            "balance": "none",
            "clips_per_visit": 3,
            "eval_clips": 3,
            "batch_size": 16,
            "num_workers": 2,
        }
        return VideoDataModule(**{**given, **options})

    return make


@pytest.fixture(scope="session")
def impatient() -> Callable[..., TrainLoader | EvalLoader]:
    """``impatient(data, stage, seconds)``: a loader of a data module that gives a visit up sooner."""

    def make(data: VideoDataModule, stage: str, seconds: float | None) -> TrainLoader | EvalLoader:
        maker = data.maker(stage)
        if stage == "train":
            batches = len(data.train_dataloader())
            return TrainLoader(maker, data.plan, batches, lambda: (0, 0), data.num_workers, False, patience=seconds)
        return EvalLoader(maker, data.eval_visits(stage), data.batch_size, data.num_workers, False, patience=seconds)

    return make


@pytest.fixture(scope="session")
def clips_of() -> Callable[..., dict[tuple[str, int, int], Clip]]:
    """``clips_of(data, stage, batches)``: each clip of a pass by (path, track, clip); none may come twice."""

    def sort(data: VideoDataModule, stage: str, batches: list) -> dict[tuple[str, int, int], Clip]:
        paths = data.describe(stage).table["path"].to_pylist()
        found: dict[tuple[str, int, int], Clip] = {}
        for batch in batches:
            reasons = list(batch.errors)
            assert len(reasons) == int((batch.weight == 0).sum())
            for b in range(len(batch)):
                item = int(batch.item[b])
                key = (paths[item], int(batch.track[b]), int(batch.clip[b]))
                assert key not in found
                frames = batch.frames[b][batch.mask[b]].tolist()
                crcs = [zlib.crc32(frame.permute(1, 2, 0).numpy().tobytes()) for frame in batch.video[b]]
                lost = float(batch.weight[b]) == 0
                reason = reasons.pop([of for of, _ in reasons].index(item))[1] if lost else None
                assert not lost or not batch.video[b].any()
                found[key] = Clip(frames, crcs, reason)
        return found

    return sort
