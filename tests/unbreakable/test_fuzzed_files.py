"""Cut-off files and fuzzed headers: each is a row with a status and a reason, and what it calls usable can be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest

from dfdet import manifest
from dfdet.video import Media

pytestmark = pytest.mark.data

SIZE = 352  # pixels of a clip here
HEAD = 4096  # bytes at the start and at the end, where containers keep their tables


def cut(data: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(data[: int(rng.integers(1, len(data)))])


def cut_in_front(data: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(data[int(rng.integers(1, min(HEAD, len(data)))) :])


def header(data: bytearray, rng: np.random.Generator) -> bytes:
    """Some bytes of the tables at the start or the end are others."""
    ends = [(0, min(HEAD, len(data))), (max(0, len(data) - HEAD), len(data))]
    low, high = ends[int(rng.integers(2))]
    for place in rng.integers(low, high, int(rng.integers(1, 30))):
        data[int(place)] = int(rng.integers(256))
    return bytes(data)


def numbers(data: bytearray, rng: np.random.Generator) -> bytes:
    """Fields of four bytes hold what breaks arithmetic: 0, -1, the largest, the smallest."""
    for place in rng.integers(0, max(1, min(HEAD, len(data) - 4)), int(rng.integers(1, 6))):
        data[int(place) : int(place) + 4] = rng.choice([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0"])
    return bytes(data)


def body(data: bytearray, rng: np.random.Generator) -> bytes:
    """Bytes anywhere are others."""
    for place in rng.integers(0, len(data), int(rng.integers(1, 200))):
        data[int(place)] = int(rng.integers(256))
    return bytes(data)


def holes(data: bytearray, rng: np.random.Generator) -> bytes:
    """What a download that was never completed leaves: blocks of zeros."""
    for _ in range(int(rng.integers(1, 4))):
        start = int(rng.integers(0, len(data)))
        length = int(rng.integers(1, max(2, len(data) // 4)))
        data[start : start + length] = bytes(len(data[start : start + length]))
    return bytes(data)


def twice(data: bytearray, rng: np.random.Generator) -> bytes:
    """A piece stands there twice, so that all behind it is shifted."""
    start = int(rng.integers(0, len(data)))
    piece = data[start : start + int(rng.integers(1, 5000))]
    return bytes(data[:start] + piece + data[start:])


HARM = [cut, header, numbers, body, holes, twice, cut_in_front]


def stills():
    """The bytes of a picture in each format that a corpus of crops has."""
    picture = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    found = {}
    for suffix in ("jpg", "png", "bmp", "webp", "tif"):
        written, data = cv2.imencode(f".{suffix}", picture)
        assert written
        found[f"still.{suffix}"] = data.tobytes()
    return found


def fuzzed(sources, folder, count):
    """Makes ``count`` files, each a harmed one of the sources, always the same ones; their names."""
    rng, made, names = np.random.default_rng(count), [], sorted(sources)
    for number in range(count):
        harm, name = HARM[number % len(HARM)], names[int(rng.integers(len(names)))]
        made.append(f"{number:03d}_{harm.__name__}_{name}")
        (folder / made[-1]).write_bytes(harm(bytearray(sources[name]), rng))
    return made


@pytest.fixture(scope="module", params=[30, pytest.param(300, marks=pytest.mark.slow)])
def index(request, suite, expected, tmp_path_factory, dfdet_command):
    """The folder of harmed files and the manifest that one `dfdet index` made of them."""
    folder = tmp_path_factory.mktemp("fuzzed")
    films = {name: data for name in expected if len(data := (suite / name).read_bytes()) > 1000}
    names = fuzzed(films | stills(), folder, request.param)
    pd.DataFrame({"path": names, "label": [i % 2 for i in range(len(names))]}).to_csv(folder / "labels.csv")
    command = [*dfdet_command, "index", "csv", str(folder), "--cropped", "--out", str(folder / "m.parquet")]
    done = subprocess.run([*command, "--workers", "2"], capture_output=True, text=True, timeout=30 + 3 * request.param)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return folder


def test_each_is_a_row_with_a_status_and_a_reason(index):
    rows = manifest.read(index / "m.parquet").table.set_index("path")
    assert sorted(rows.index) == sorted(p.name for p in index.glob("[0-9]*"))
    for name, row in rows.iterrows():
        assert row["status"] in manifest.STATUSES, name
        assert (row["status"] == "ok") == (not isinstance(row["reason"], str)), name
        assert isinstance(row["reader_reason"], str), name
        if isinstance(row["reason"], str):
            assert "\n" not in row["reason"], name
            # a reason is what the file holds, not that something of ours failed
            assert not row["reason"].startswith("decoding failed"), (name, row["reason"])
    assert {"ok", "partial", "unreadable"} <= set(rows["status"])


COUNT = """
import json, sys, zlib
from collections import deque
import numpy as np
from dfdet import manifest
from dfdet.video import Media
sys.path.insert(0, sys.argv[2])
from conftest import frames_in_order, on_canvas
found = manifest.read(sys.argv[1])
for row in found.table.to_dict("records"):
    if row["status"] in manifest.USABLE and row["kind"] == "video":
        media = Media.from_row(row)
        crcs = {}
        for i, rgb in enumerate(frames_in_order(found.root / row["path"], held=int(sys.argv[3]))):
            upright = np.rot90(rgb, media.rotation // 90)
            if upright.shape[:2] == (media.height, media.width):
                crcs[i] = zlib.crc32(on_canvas(upright))
        print(json.dumps([row["path"], crcs]), flush=True)
"""


@pytest.fixture(scope="module")
def counted(index, request):
    """The CRC of each frame of each usable file by its number, counted from the start in a process of its own.

    What depends on what lay in memory before is None: no reader can be held to it. Decoders do that where a picture
    rests on one that is not there, often without a word.
    """
    counting = [
        subprocess.Popen(
            [sys.executable, "-c", COUNT, str(index / "m.parquet"), str(request.path.parent), held],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "MALLOC_PERTURB_": perturb},
        )
        for perturb, held in (("1", "0"), ("170", "100000"))
    ]
    rounds = []
    for process in counting:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        rounds.append(dict(map(json.loads, out.splitlines())))
    one, two = rounds
    assert {name: list(crcs) for name, crcs in one.items()} == {name: list(crcs) for name, crcs in two.items()}
    found = {name: {int(i): c if c == two[name][i] else None for i, c in crcs.items()} for name, crcs in one.items()}
    every = [crc for crcs in found.values() for crc in crcs.values()]
    assert every.count(None) < 0.1 * len(every)
    return found


@pytest.mark.parametrize("stage", ["train", "val"])
def test_what_is_usable_comes_through_the_loader_exactly_or_says_why(index, counted, module, clips_of, stage):
    data = module(index / "m.parquet", batch_size=1 if stage == "train" else 16)
    loader = data.train_dataloader().batches(0) if stage == "train" else data.val_dataloader()
    found = clips_of(data, stage, list(loader))
    rows = manifest.read(index / "m.parquet").table.set_index("path")
    assert {name for name, _, _ in found} == set(rows.index[rows["status"].isin(manifest.USABLE)])
    for (name, _, _), clip in found.items():
        media = Media.from_row(rows.loc[name])
        if clip.reason is not None:
            assert name in clip.reason
        elif name in counted and (stage == "val" or max(media.width, media.height) <= SIZE):
            # of a larger one training takes a window drawn at random
            for i, crc in zip(clip.frames, clip.crcs, strict=False):
                assert counted[name][i] in (crc, None), (name, i, media.reader)
    read = {name for (name, _, _), clip in found.items() if clip.reason is None}
    assert len(read) > 0.9 * len({name for name, _, _ in found}), {
        n: c.reason for (n, _, _), c in found.items() if c.reason
    }
