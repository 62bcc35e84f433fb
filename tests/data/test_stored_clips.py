"""What a crop store promises: the same batches bit for bit, without decoding, whoever filled it."""

from __future__ import annotations

import errno
import os

import pytest

from dfdet.data import visits
from dfdet.data.clips import ClipSpec
from dfdet.data.module import CropOptions
from dfdet.data.wanted import TrainVisit
from dfdet.errors import UserError
from dfdet.store import CropStore, StoreWriter

LAPS = 2  # epochs in which a pool of 4 is gone through by visits of 2 clips, where every video has one visit


@pytest.fixture
def options():
    return {"clip": ClipSpec(2), "clips_per_visit": 2, "clip_pool": 4, "batch_size": 4, "balance": "none"}


@pytest.fixture
def no_decoding(monkeypatch):
    """From the call on, whoever opens a reader in this process fails."""

    def forbid():
        def opened(*_):
            raise AssertionError("a file was decoded")

        monkeypatch.setattr(visits, "open_reader", opened)

    return forbid


def epochs(data, content, count=LAPS):
    loader = data.train_dataloader()
    return [[content(batch) for batch in loader.batches(epoch)] for epoch in range(count)]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"augment": "icpr"},
        {"pairs": True},
        {"crop": CropOptions(size=24, mode="native")},
        {"clip": ClipSpec(40)},
        {"clip": ClipSpec(3, "uniform")},
    ],
    ids=["plain", "augmented", "pairs", "native", "short", "uniform"],
)
def test_a_store_changes_no_bit_and_its_second_reader_decodes_nothing(
    module_of, content, options, tmp_path, no_decoding, more
):
    given = {**options, **more}
    streamed = epochs(module_of(**given), content)
    assert epochs(module_of(**given, crop_store=str(tmp_path)), content) == streamed
    no_decoding()
    assert epochs(module_of(**given, crop_store=str(tmp_path)), content) == streamed


def test_a_shard_that_is_removed_meanwhile_is_decoded_again(module_of, content, options, tmp_path):
    data = module_of(**options, crop_store=str(tmp_path))
    loader = data.train_dataloader()
    streamed = [[content(batch) for batch in loader.batches(epoch)] for epoch in range(LAPS)]
    data = module_of(**options, crop_store=str(tmp_path))
    assert len(data.store()) == 48
    for shard in tmp_path.glob("*.bin"):
        shard.unlink()
    assert epochs(data, content) == streamed


@pytest.mark.parametrize("workers", [0, 2])
def test_clips_that_stay_as_they_are_stored_are_copied_once(module_of, content, options, tmp_path, workers):
    given = {**options, "num_workers": workers}
    streamed = epochs(module_of(**given), content)
    epochs(module_of(**given, crop_store=str(tmp_path)), content)
    data = module_of(**given, crop_store=str(tmp_path))
    visit = TrainVisit((0,), 0, 0, (0, 1))
    assert all(sample.place for sample in data.maker("train")(visit))
    assert epochs(data, content) == streamed
    altered = module_of(**given, crop_store=str(tmp_path), augment="flip")
    assert not any(sample.place for sample in altered.maker("train")(visit))


def test_a_shard_that_goes_between_worker_and_batch_costs_its_clips(module_of, options, tmp_path, monkeypatch):
    epochs(module_of(**options, crop_store=str(tmp_path)), len)
    data = module_of(**options, crop_store=str(tmp_path), num_workers=1)
    here = os.getpid()

    def at(store, place):
        assert os.getpid() == here
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(CropStore, "at", at)
    batches = list(data.train_dataloader().batches(0))
    assert sum(int(batch.weight.sum()) for batch in batches) == 0
    assert {reason.split(": ", 1)[1] for batch in batches for _, reason in batch.errors} == {
        "in the crop store: No such file or directory"
    }


def test_workers_fill_it_and_another_run_reads_it_whatever_its_seed(module_of, options, tmp_path, no_decoding):
    loader = module_of(**options, crop_store=str(tmp_path), num_workers=2).train_dataloader()
    for epoch in range(LAPS):
        list(loader.batches(epoch))
    no_decoding()
    other = module_of(**options, crop_store=str(tmp_path), seed=5)
    for epoch in range(LAPS):
        for batch in other.train_dataloader().batches(epoch):
            assert batch.errors == []


def test_workers_that_live_on_see_in_the_next_epoch_what_the_others_stored(module_of, options, tmp_path):
    """Each worker decodes about half of an epoch; with the same videos every time, the next epochs add nothing."""
    data = module_of(**options, crop_store=str(tmp_path), num_workers=2)
    loader = data.train_dataloader()
    sizes = []
    for epoch in range(4):
        list(loader.batches(epoch))
        sizes.append(data.store().refresh())
    assert sizes == [24, 48, 48, 48]


def test_evaluation_is_stored_too(module_of, content, options, tmp_path, no_decoding):
    given = {**options, "eval_clips": 3}
    streamed = [content(batch) for batch in module_of(**given).val_dataloader()]
    assert [content(batch) for batch in module_of(**given, crop_store=str(tmp_path)).val_dataloader()] == streamed
    no_decoding()
    assert [content(batch) for batch in module_of(**given, crop_store=str(tmp_path)).val_dataloader()] == streamed


def test_every_clip_of_the_pool_has_its_turn_before_one_comes_again(module_of, options):
    choose = module_of(**options).maker("train").choose
    for start in (0, 2, 4):
        seen = []
        for lap in (start, start + 1):
            wanted = choose.training(TrainVisit((3,), 7, lap, (0, 1), lap), 3)
            seen += [tuple(clip.frames.tolist()) for clip in wanted]
        assert len(set(seen)) == 4


def test_a_pool_without_a_store_draws_the_same_clips_in_every_run(module_of, options):
    def drawn(seed):
        choose = module_of(**options, seed=seed).maker("train").choose
        laps = [choose.training(TrainVisit((3,), 7, 0, (0, 1), lap), 3) for lap in (0, 1)]
        return {clip.key("x") for lap in laps for clip in lap}

    assert drawn(0) == drawn(1)


def test_another_video_file_crop_or_frames_are_another_clip(module_of, options):
    def keys(sha256="x", **more):
        choose = module_of(**{**options, **more}).maker("train").choose
        return {clip.key(sha256) for lap in (0, 1) for clip in choose.training(TrainVisit((3,), 7, 0, (0, 1), lap), 3)}

    own = keys()
    assert len(own) == 4
    for other in (
        keys(sha256="y"),
        keys(crop=CropOptions(size=32, scale=1.5)),
        keys(crop=CropOptions(size=32, pad="reflect")),
        keys(crop=CropOptions(size=36)),
        keys(clip=ClipSpec(2, "strided", 2)),
    ):
        assert not own & other


def test_a_store_of_other_settings_is_refused(module_of, options, tmp_path):
    module_of(**options, crop_store=str(tmp_path)).train_dataloader()
    other = module_of(**{**options, "crop": CropOptions(size=48)}, crop_store=str(tmp_path))
    with pytest.raises(UserError, match="32"):
        other.train_dataloader()


def test_a_full_disk_ends_the_storing_not_the_training(module_of, content, options, tmp_path, monkeypatch, capsys):
    streamed = epochs(module_of(**options), content)
    add = StoreWriter.add
    calls = []

    def full(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 5:
            self.failed = True
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, *args, **kwargs)

    monkeypatch.setattr(StoreWriter, "add", full)
    assert epochs(module_of(**options, crop_store=str(tmp_path)), content) == streamed
    assert "takes no more: No space left on device" in "".join(capsys.readouterr())


def test_what_a_store_will_take_is_said_before(module_of, options, tmp_path, capsys):
    module_of(**options, crop_store=str(tmp_path), eval_clips=1).announce()
    said = " ".join("".join(capsys.readouterr()).split())
    assert "0 clips are there; training and validation have at most 56" in said


def test_a_pool_smaller_than_a_visit_is_refused(module_of):
    with pytest.raises(UserError, match=r"clip_pool is 2.*clips_per_visit = 4"):
        module_of(clip_pool=2)
