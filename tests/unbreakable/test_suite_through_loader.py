"""Every file of the codec suite through the data module: its right frames, or a row that says why there are none."""

from __future__ import annotations

import pytest

from dfdet import manifest
from dfdet.data.clips import ClipSpec

pytestmark = pytest.mark.data

LARGER = {"h264_untagged_720p.mp4", "h264_4k_1frame.mp4"}  # of these a training clip is a window drawn at random


@pytest.fixture(scope="module")
def usable(suite_index):
    """The files whose row says that they can be read."""
    table = manifest.read(suite_index).table
    return set(table.loc[table["status"].isin(manifest.USABLE), "path"])


def test_what_gives_no_clip_says_why(suite_index, expected, usable):
    rows = manifest.read(suite_index).table.set_index("path")
    assert usable == {name for name, row in expected.items() if row["expected"] != "error"}
    for name, row in rows.drop(index=list(usable)).iterrows():
        assert row["status"] in ("unreadable", "empty"), name
        assert row["reason"], name


@pytest.mark.parametrize("clips_per_visit", [1, 3])
def test_in_training(suite_index, usable, pictures, module, clips_of, clips_per_visit):
    data = module(suite_index, clips_per_visit=clips_per_visit, batch_size=1)
    found = clips_of(data, "train", list(data.train_dataloader().batches(0)))
    assert {name for name, _, _ in found} == usable
    assert len(found) == len(usable) * clips_per_visit
    for (name, _, _), clip in found.items():
        assert clip.reason is None, (name, clip.reason)
        if name not in LARGER:
            assert clip.crcs[: len(clip.frames)] == [pictures[name][i] for i in clip.frames], (name, clip.frames)


def exact(found, pictures):
    """Whether every clip was made, of the frames that it names."""
    for (name, _, _), made in found.items():
        assert made.reason is None, (name, made.reason)
        assert made.crcs[: len(made.frames)] == [pictures[name][i] for i in made.frames], (name, made.frames)


@pytest.mark.parametrize("clip", [ClipSpec(3), ClipSpec(5, "uniform")], ids=["neighbouring", "spread"])
def test_in_evaluation(suite_index, usable, pictures, module, clips_of, clip):
    data = module(suite_index, clip=clip)
    found = clips_of(data, "val", list(data.val_dataloader()))
    assert {name for name, _, _ in found} == usable
    exact(found, pictures)


def test_by_decord_where_the_index_proved_it_right(suite_index, pictures, module, clips_of):
    data = module(suite_index, reader="decord", where='reader in ["decord", "decord0"]')
    found = clips_of(data, "val", list(data.val_dataloader()))
    assert len({name for name, _, _ in found}) > 35
    exact(found, pictures)


def test_frame_i_carries_the_number_i(suite_index, expected, module, picture_in, number):
    """Read back from the pixels that a detector would get."""
    data = module(suite_index)
    table = data.describe("val").table.select(["path", "width", "height"]).to_pylist()
    read = set()
    for batch in data.val_dataloader():
        for b in range(len(batch)):
            name, *size = table[int(batch.item[b])].values()
            row = expected[name]
            first, turns = int(row["first_barcode"] or -1), int(row["clockwise_quarter_turns_by_rotating_readers"])
            if row["barcodes"] != "consecutive" or first < 0 or name in LARGER:
                continue
            for i, frame in zip(batch.frames[b].tolist(), batch.video[b].permute(0, 2, 3, 1).numpy(), strict=True):
                assert number(picture_in(frame, *size))[:2] == (first + i, turns), (name, i)
            read.add(name)
    assert len(read) > 60
