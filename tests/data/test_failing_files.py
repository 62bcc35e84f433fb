"""A file that fails costs its own clips, which say so; never the run, and never a neighbour."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time

import numpy as np
import pandas as pd
import pytest
import torch

from dfdet import manifest
from dfdet.data.clips import ClipSpec
from dfdet.data.loader import EvalLoader, TrainLoader
from dfdet.data.sources import Source
from dfdet.data.visits import VisitMaker

VICTIM = "train/fake/id000_1_c23_reenact"
EVALUATED = "val/fake/id002_1_c35_reenact"


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def noise(path):
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def zero_the_pictures(path):
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + 4
    data[start : start + len(data) // 2] = bytes(len(data) // 2)
    path.write_bytes(data)


def another_video(path):
    other = path.with_name("id000_0_c23_swap_id001.mp4")
    path.write_bytes(other.read_bytes())


def directory(path):
    path.unlink()
    path.mkdir()


DAMAGE = {
    "truncated": (truncate, "changed since it was indexed"),
    "deleted": (lambda path: path.unlink(), "No such file"),
    "noise of the same length": (noise, ""),
    "pictures zeroed": (zero_the_pictures, ""),
    "another video": (another_video, "changed since it was indexed"),
    "a directory": (directory, ""),
}


@pytest.fixture
def copy(tiny, tmp_path):
    """A copy of the corpus that may be damaged, and the source that reads it by the index of the original."""
    shutil.copytree(tiny / "corpus", tmp_path / "corpus")
    return tmp_path / "corpus"


@pytest.fixture(scope="module")
def whole(module_of):
    return list(module_of(clip=ClipSpec(2)).train_dataloader().batches(0))


def damaged(module_of, tiny, copy, **options):
    return module_of(train=Source(str(tiny / "tiny.parquet"), root=str(copy)), clip=ClipSpec(2), **options)


def number_of(data, video_id, stage="train"):
    return data.describe(stage).table["video_id"].to_pylist().index(video_id)


def same_but(batches, whole, victim):
    """Whether the clips of ``victim`` have weight 0 and all others are as they were."""
    assert len(batches) == len(whole)
    for batch, before in zip(batches, whole, strict=True):
        lost = batch.item == victim
        assert torch.equal(batch.item, before.item)
        assert torch.equal(batch.clip, before.clip)
        assert torch.equal(batch.label, before.label)
        assert (batch.weight == (~lost).float()).all()
        assert (batch.video[lost] == 0).all()
        assert not batch.mask[lost].any()
        assert torch.equal(batch.video[~lost], before.video[~lost])
        assert torch.equal(batch.frames[~lost], before.frames[~lost])
        assert [item for item, _ in batch.errors] == [victim] * int(lost.sum())
    assert sum(int((b.item == victim).sum()) for b in batches) == 4


@pytest.mark.parametrize("reader", ["auto", "decord"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_damaged_after_indexing_costs_its_clips_and_is_named(module_of, tiny, copy, whole, damage, reader):
    harm, says = DAMAGE[damage]
    harm(copy / f"{VICTIM}.mp4")
    data = damaged(module_of, tiny, copy, reader=reader)
    batches = list(data.train_dataloader().batches(0))
    same_but(batches, whole, number_of(data, VICTIM))
    reasons = {reason for batch in batches for _, reason in batch.errors}
    assert len(reasons) == 1
    assert f"{VICTIM}.mp4: " in min(reasons)
    assert says in min(reasons)
    assert "\n" not in min(reasons)


def test_it_is_the_same_with_workers(module_of, tiny, copy, whole):
    truncate(copy / f"{VICTIM}.mp4")
    data = damaged(module_of, tiny, copy, num_workers=2)
    same_but(list(data.train_dataloader().batches(0)), whole, number_of(data, VICTIM))


def test_of_a_pair_the_other_one_stays(module_of, tiny, copy):
    truncate(copy / f"{VICTIM}.mp4")
    data = damaged(module_of, tiny, copy, pairs=True)
    victim = number_of(data, VICTIM)
    for batch in data.train_dataloader().batches(0):
        assert (batch.weight == (batch.item != victim).float()).all()


def test_in_evaluation_it_stands_in_its_place_with_its_reason(module_of, tiny, copy):
    truncate(copy / f"{EVALUATED}.mp4")
    data = damaged(module_of, tiny, copy, eval_clips=2)
    batches = list(data.val_dataloader())
    victim = number_of(data, EVALUATED, "val")
    assert sum(len(b) for b in batches) == 16
    assert {int(i) for b in batches for i in b.item[b.weight == 0]} == {victim}
    assert {item for b in batches for item, _ in b.errors} == {victim}


def tracks_changed(tiny, folder, change):
    """The corpus with an index whose tracks were changed."""
    whole = manifest.read(tiny / "tiny.parquet")
    rows = pd.read_parquet(tiny / "tiny.faces.parquet")
    meta = {k: v for k, v in whole.meta.items() if k not in ("schema", "version")}
    manifest.write(folder / "x.parquet", whole.table, change(rows), {**meta, "root": str(tiny / "corpus")})
    return str(folder / "x.parquet")


def nan_boxes(rows):
    rows.loc[rows["video_id"].isin([VICTIM, EVALUATED]), ["x", "h"]] = np.nan
    return rows


def flat_boxes(rows):
    rows.loc[rows["video_id"].isin([VICTIM, EVALUATED]), "h"] = 0.0
    return rows


def frames_beyond(rows):
    rows.loc[rows["video_id"].isin([VICTIM, EVALUATED]), "frame"] += 1000
    return rows


def no_rows(rows):
    return rows[~rows["video_id"].isin([VICTIM, EVALUATED])]


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("change", [nan_boxes, flat_boxes, frames_beyond, no_rows])
def test_boxes_that_are_none_cost_the_clips_of_their_video(module_of, tiny, tmp_path, whole, change):
    data = module_of(train=tracks_changed(tiny, tmp_path, change), clip=ClipSpec(2), eval_clips=2)
    same_but(list(data.train_dataloader().batches(0)), whole, number_of(data, VICTIM))
    batches = list(data.val_dataloader())
    victim = number_of(data, EVALUATED, "val")
    assert {int(i) for b in batches for i in b.item} == set(range(8))
    assert {item for b in batches for item, _ in b.errors} == {victim}


class Crashing(VisitMaker):
    """Stands for a decoder that crashes, or never returns, on one file."""

    victim = -1
    hangs = False

    def __call__(self, visit, out=None):
        items = visit.items if hasattr(visit, "items") else (visit.item,)
        if self.victim in items:
            if self.hangs:
                time.sleep(1000)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(visit, out)


def crashing(maker, victim, hangs=False):
    made = Crashing(
        maker.items,
        maker.clip,
        maker.crop,
        maker.augment,
        seed=maker.choose.seed,
        clips_per_visit=maker.choose.clips_per_visit,
    )
    made.victim, made.hangs = victim, hangs
    return made


@pytest.mark.parametrize("hangs", [False, True], ids=["dies", "hangs"])
def test_a_worker_that_dies_or_hangs_costs_the_visit_that_it_was_at(module_of, whole, hangs):
    data = module_of(clip=ClipSpec(2))
    victim = number_of(data, VICTIM)
    maker = crashing(data.maker("train"), victim, hangs)
    loader = TrainLoader(maker, data.plan, len(whole), lambda: (0, 0), 2, False, patience=2)
    batches = list(loader)
    same_but(batches, whole, victim)
    reason = "no answer for 2 s" if hangs else "died"
    assert all(f"{VICTIM}.mp4: " in text and reason in text for b in batches for _, text in b.errors)


def test_the_same_holds_in_evaluation(module_of):
    data = module_of(clip=ClipSpec(2), eval_clips=2)
    victim = number_of(data, EVALUATED, "val")
    maker = crashing(data.maker("val"), victim)
    batches = list(EvalLoader(maker, data.eval_visits("val"), 8, 2, False))
    assert [len(b) for b in batches] == [8, 8]
    assert [int(i) for b in batches for i in b.item[b.weight == 0]] == [victim] * 2
    assert {item for b in batches for item, _ in b.errors} == {victim}


def test_an_idle_worker_that_is_killed_between_epochs_costs_nothing(module_of, whole, content):
    before = set(multiprocessing.active_children())
    loader = module_of(clip=ClipSpec(2), num_workers=2).train_dataloader()
    assert [content(b) for b in loader.batches(0)] == [content(b) for b in whole]
    own = [child for child in multiprocessing.active_children() if child not in before]
    assert own
    os.kill(own[0].pid, signal.SIGKILL)
    own[0].join(10)
    assert [content(b) for b in loader.batches(0)] == [content(b) for b in whole]
