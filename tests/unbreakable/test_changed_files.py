"""A file that is not the one that was indexed is noticed and named, whatever its size; the run goes on without it."""

from __future__ import annotations

import shutil

import av
import numpy as np
import pytest

from dfdet.data.clips import ClipSpec
from dfdet.data.module import CropOptions


def pictures(path) -> list[bytes]:
    """All frames of a file; empty where anything about them is amiss."""
    av.logging.set_level(av.logging.PANIC)
    try:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "NONE"
            found = list(container.decode(video=0))
            return [] if any(f.is_corrupt for f in found) else [f.to_ndarray(format="rgb24").tobytes() for f in found]
    except av.error.FFmpegError:
        return []


def another_byte(path):
    """One byte of a picture, so that every frame still decodes without an error, to other pixels."""
    whole, before = path.read_bytes(), pictures(path)
    for place in range(whole.find(b"mdat") + 2000, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        after = pictures(path)
        if len(after) == len(before) and after != before:
            return
    raise AssertionError("every change was noticed by the decoder")


def another_video(path):
    """Another video of the same length in frames, filled up to the very same size in bytes."""
    size = path.stat().st_size
    other = min(
        (p for p in path.parent.glob("*.mp4") if p != path and p.stat().st_size < size), key=lambda p: p.stat().st_size
    )
    path.write_bytes(other.read_bytes().ljust(size, b"\0"))


def noise(path):
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def longer(path):
    path.write_bytes(path.read_bytes() + b"\0")


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def emptied(path):
    path.write_bytes(b"")


def gone(path):
    path.unlink()


CHANGES = {change.__name__: change for change in (another_byte, another_video, noise, longer, truncated, emptied, gone)}
OF_THE_SAME_SIZE = [another_byte, another_video, noise]


@pytest.fixture
def copied(tiny, tmp_path, module):
    """A copy of the corpus that may be changed, read by the index of the original."""
    shutil.copytree(tiny / "corpus", tmp_path / "corpus")
    return tmp_path / "corpus"


@pytest.fixture
def data(tiny, copied, module):
    options = {"crop": CropOptions(size=32), "batch_size": 8, "clip": ClipSpec(4)}
    return module(tiny / "tiny.parquet", copied, **options)


def victim_of(data, copied) -> str:
    """The largest file, which others can be filled up to."""
    paths = data.describe("train").table["path"].to_pylist()
    return max(paths, key=lambda path: (copied / path).stat().st_size)


def check(found, victim, whole):
    """The victim's clips have weight 0 and one reason that names it; all others are as they were."""
    assert list(found) == list(whole)
    reasons = {clip.reason for (name, _, _), clip in found.items() if name == victim}
    assert len(reasons) == 1
    (reason,) = reasons
    assert reason is not None
    assert f"{victim}: " in reason
    assert "\n" not in reason
    assert all(clip == whole[key] for key, clip in found.items() if key[0] != victim)
    return reason


@pytest.mark.parametrize("stage", ["train", "val"])
@pytest.mark.parametrize("change", CHANGES)
def test_before_the_run(data, copied, clips_of, change, stage):
    def one_pass():
        return clips_of(data, stage, list(data.train_dataloader() if stage == "train" else data.val_dataloader()))

    whole, victim = one_pass(), victim_of(data, copied)
    CHANGES[change](copied / victim)
    reason = check(one_pass(), victim, whole)
    if CHANGES[change] in OF_THE_SAME_SIZE:
        assert "it has changed since it was indexed" in reason


@pytest.mark.parametrize("change", ["another_byte", "gone"])
def test_between_two_epochs_of_the_same_workers(data, copied, clips_of, change):
    loader = data.train_dataloader()
    whole = clips_of(data, "train", list(loader.batches(0)))
    victim = victim_of(data, copied)
    CHANGES[change](copied / victim)
    check(clips_of(data, "train", list(loader.batches(0))), victim, whole)
