"""What the data module promises: the same batches whatever the workers, balance, pairs, evaluation that is complete."""

from __future__ import annotations

import multiprocessing
import resource
import types
from collections import Counter
from itertools import islice

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from dfdet.data.clips import ClipSpec
from dfdet.data.loader import TrainLoader
from dfdet.data.module import CropOptions
from dfdet.data.sources import MEDIA, Source
from dfdet.data.visits import VisitMaker
from dfdet.data.wanted import EvalVisit, TrainVisit, tracks_of, usable_runs
from dfdet.errors import UserError
from dfdet.video import Media


def standing(data, rank=0, world=1, epoch=0, batch=0):
    """The data module as one of several processes, at a place of the training."""
    ready = types.SimpleNamespace(ready=batch)
    loop = types.SimpleNamespace(batch_progress=types.SimpleNamespace(current=ready))
    data.trainer = types.SimpleNamespace(
        global_rank=rank,
        world_size=world,
        current_epoch=epoch,
        fit_loop=types.SimpleNamespace(epoch_loop=loop),
        strategy=types.SimpleNamespace(root_device=torch.device("cpu")),
    )
    return data


@pytest.fixture(scope="module", params=["none", "icpr"])
def augment(request):
    return request.param


@pytest.fixture(scope="module")
def first_epochs(module_of, content, augment):
    """Two epochs made in this process: what every other way must give."""
    loader = module_of(clip=ClipSpec(4), augment=augment).train_dataloader()
    return [[content(batch) for batch in loader.batches(epoch)] for epoch in range(2)]


class TestTheSameBatches:
    @pytest.mark.parametrize("workers", [1, 2, 3])
    def test_whatever_the_number_of_workers(self, module_of, content, augment, first_epochs, workers):
        loader = module_of(clip=ClipSpec(4), augment=augment, num_workers=workers).train_dataloader()
        made = [[content(batch) for batch in loader.batches(epoch)] for epoch in range(2)]
        assert made == first_epochs

    def test_for_another_module_with_the_same_seed(self, module_of, content, augment, first_epochs):
        loader = module_of(clip=ClipSpec(4), augment=augment).train_dataloader()
        assert [content(batch) for batch in loader.batches(1)] == first_epochs[1]

    @pytest.mark.parametrize("first", [1, 3, 6])
    def test_from_any_place_of_the_epoch_on(self, module_of, content, augment, first_epochs, first):
        data = standing(module_of(clip=ClipSpec(4), augment=augment), epoch=1, batch=first)
        assert [content(batch) for batch in data.train_dataloader()] == first_epochs[1][first:]

    def test_but_others_in_the_next_epoch(self, first_epochs):
        assert all(one != two for one, two in zip(*first_epochs, strict=True))

    def test_and_others_with_another_seed(self, module_of, content, augment, first_epochs):
        loader = module_of(clip=ClipSpec(4), augment=augment, seed=1).train_dataloader()
        assert all(content(one) != two for one, two in zip(loader.batches(0), first_epochs[0], strict=True))

    def test_after_an_epoch_that_was_left_halfway(self, module_of, content, augment, first_epochs):
        loader = module_of(clip=ClipSpec(4), augment=augment, num_workers=1).train_dataloader()
        list(islice(loader.batches(0), 2))
        assert [content(batch) for batch in loader.batches(1)] == first_epochs[1]


def test_augmentation_changes_pixels_and_nothing_else(module_of):
    plain, altered = (next(module_of(augment=a).train_dataloader().batches(0)) for a in ("none", "icpr"))
    assert not torch.equal(plain.video, altered.video)
    assert torch.equal(plain.frames, altered.frames)
    assert torch.equal(plain.item, altered.item)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generators_are_left_alone(module_of, workers):
    torch.manual_seed(3)
    np.random.seed(3)
    loader = module_of(augment="icpr", num_workers=workers).train_dataloader()
    for epoch in range(2):
        list(loader.batches(epoch))
    drawn = torch.rand(1), np.random.rand()
    torch.manual_seed(3)
    np.random.seed(3)
    assert drawn == (torch.rand(1), np.random.rand())


class TestABatch:
    @pytest.fixture(scope="class")
    def batch(self, module_of):
        return next(module_of(clip=ClipSpec(4)).train_dataloader().batches(0))

    def test_is_typed_and_uint8(self, batch):
        assert len(batch) == 8
        shapes = {name: (t.dtype, tuple(t.shape)) for name, t in vars(batch).items() if name != "errors"}
        assert shapes == {
            "video": (torch.uint8, (8, 4, 3, 32, 32)),
            "mask": (torch.bool, (8, 4)),
            "label": (torch.int64, (8,)),
            "weight": (torch.float32, (8,)),
            "item": (torch.int64, (8,)),
            "track": (torch.int64, (8,)),
            "clip": (torch.int64, (8,)),
            "frames": (torch.int64, (8, 4)),
            "pad": (torch.float32, (8,)),
        }
        assert batch.errors == []

    def test_holds_what_it_names(self, module_of, batch):
        items = module_of().describe("train")
        assert batch.label.tolist() == items.label[batch.item.numpy()].tolist()
        assert batch.track.tolist() == items.main_track[batch.item.numpy()].tolist()
        assert (batch.weight == 1).all()

    def test_holds_clips_of_neighbouring_frames_of_usable_track(self, module_of, batch):
        items = module_of().describe("train")
        assert (batch.frames.diff(dim=1) == 1).all()
        for item, track, frames in zip(batch.item.tolist(), batch.track.tolist(), batch.frames.tolist(), strict=True):
            media = Media.from_row(items.row(item, MEDIA))
            runs = usable_runs(tracks_of(items, item, media.num_frames)[track], media)
            assert any(a <= frames[0] and frames[-1] < b for a, b in runs)

    def test_can_be_narrowed_and_moved(self, batch):
        fakes = batch.select(batch.label == 1).to("cpu")
        assert len(fakes) == int(batch.label.sum())
        assert (fakes.label == 1).all()
        assert fakes.video.shape[0] == len(fakes)


@pytest.mark.parametrize(
    ("clip", "step"),
    [(ClipSpec(4, "strided", 3), 3), (ClipSpec(4, "uniform"), None), (ClipSpec(1), None)],
    ids=["strided", "uniform", "single"],
)
def test_clips_of_every_kind_come_through(module_of, clip, step):
    batch = next(module_of(clip=clip).train_dataloader().batches(0))
    assert batch.video.shape == (8, clip.frames, 3, 32, 32)
    assert batch.mask.all()
    if step:
        assert (batch.frames.diff(dim=1) == step).all()


def test_a_track_shorter_than_a_clip_repeats_its_last_frame_masked(module_of):
    batch = next(module_of(clip=ClipSpec(40)).train_dataloader().batches(0))
    assert ((batch.mask.sum(1) > 0) & (batch.mask.sum(1) <= 24)).all()
    for video, mask, frames in zip(batch.video, batch.mask, batch.frames, strict=True):
        last = int(mask.sum()) - 1
        assert mask.tolist() == [True] * (last + 1) + [False] * (40 - last - 1)
        assert (video[last:] == video[last]).all()
        assert (frames[last:] == frames[last]).all()


class TestWhatIsVisited:
    def test_half_real_half_fake_by_default(self, module_of):
        data = module_of(train=Source(module_of().train_sources[0].manifest, where='method != "reenact"'))
        assert (data.items("train").label == 1).mean() < 0.45
        for epoch in range(3):
            assert data.items("train").label[data.visits_of(epoch)[0][:, 0]].mean() == 0.5
        labels = torch.cat([batch.label for batch in data.train_dataloader().batches(0)]).double()
        assert 0.35 < float(labels.mean()) < 0.65

    def test_as_they_come_if_asked_for(self, module_of):
        data = module_of(balance="none")
        assert sorted(data.visits_of(0)[0][:, 0].tolist()) == list(range(len(data.items("train"))))

    def test_several_sources_by_weight_each_with_its_own_filter_and_root(self, module_of, tiny):
        path = str(tiny / "tiny.parquet")
        data = module_of(
            train=[
                Source(path, weight=3, where='method != "reenact"'),
                Source(path, weight=1, split="val", root=str(tiny / "corpus")),
            ],
            epoch_visits=80,
        )
        items = data.items("train")
        assert Counter(items.source[data.visits_of(0)[0][:, 0]].tolist()) == {0: 60, 1: 20}
        batch = next(data.train_dataloader().batches(0))
        assert batch.errors == []
        assert {items.row(i, ["split"])["split"] for i in range(len(items))} == {"train", "val"}

    def test_fakes_with_several_faces_can_be_left_out(self, module_of):
        data = module_of(multi_face_fakes="drop")
        rows = data.items("train").table.to_pandas()
        assert not ((rows["label"] == 1) & (rows["num_tracks"] > 1)).any()
        assert ((rows["label"] == 0) & (rows["num_tracks"] > 1)).any()

    def test_validation_falls_back_to_the_val_split_whatever_training_takes(self, module_of, tiny):
        data = module_of(train=Source(str(tiny / "tiny.parquet"), split="train"))
        assert set(data.items("val").table["split"].to_pylist()) == {"val"}
        everything = module_of(train=Source(str(tiny / "tiny.parquet"), split="all"))
        assert set(everything.items("val").table["split"].to_pylist()) == {"val"}


class TestPairs:
    @pytest.fixture(scope="class")
    def data(self, module_of):
        return module_of(pairs=True, clip=ClipSpec(4), augment="flip")

    @pytest.fixture(scope="class")
    def rows(self, data):
        return data.items("train").table.to_pandas()

    def test_fake_and_original_stand_side_by_side_at_the_same_frames(self, data, rows):
        for batch in data.train_dataloader().batches(0):
            fakes, reals = batch.item[::2].tolist(), batch.item[1::2].tolist()
            assert rows["original"][fakes].tolist() == rows["video_id"][reals].tolist()
            assert batch.label.tolist() == [1, 0] * 4
            assert torch.equal(batch.frames[::2], batch.frames[1::2])
            assert torch.equal(batch.clip[::2], batch.clip[1::2])

    def test_both_are_cut_by_the_track_of_the_original(self, data):
        maker = data.maker("train").choose
        for number, (fake, real) in enumerate(data.visits_of(0)[0].tolist()):
            visit = TrainVisit((fake, real), number, 0, (0, 1, 2, 3))
            for one, two in zip(maker.training(visit, fake), maker.training(visit, real), strict=True):
                assert one.frames.tolist() == two.frames.tolist()
                assert one.crop.squares.tolist() == two.crop.squares.tolist()
                assert one.draw == two.draw

    def test_frames_are_the_same_also_where_keyframes_and_tracks_differ(self, data):
        """The file of the fake was encoded with other keyframes, and its face was found later and in fewer frames."""
        fake, real = data.visits_of(0)[0][0].tolist()
        items = data.items("train").take(np.isin(np.arange(len(data.items("train"))), [fake, real]))
        fake, real = int(np.flatnonzero(items.label == 1)[0]), int(np.flatnonzero(items.label == 0)[0])
        table = items.table.to_pandas()
        table["keyframes"] = [[0, 64, 128] if label == 0 else [0, 70, 140, 210] for label in table["label"]]
        table["num_frames"] = [300 if label == 0 else 260 for label in table["label"]]
        table[["pts_start", "pts_step"]] = None
        name = {item: table["video_id"][item] for item in (fake, real)}
        rows = [{**row(40 + i, 5 * i), "video_id": name[fake]} for i in range(40)]
        rows += [{**row(60, 5 * i), "video_id": name[real]} for i in range(60)]
        items.tracks = [frame_of(rows)]
        items.table = items.table.from_pandas(table, preserve_index=False)
        maker = VisitMaker(items, ClipSpec(4), CropOptions().spec(32), data.augment, seed=0, clips_per_visit=4).choose
        for number in range(30):
            visit = TrainVisit((fake, real), number, 0, (0, 1, 2, 3))
            one, two = maker.training(visit, fake), maker.training(visit, real)
            assert [c.frames.tolist() for c in one] == [c.frames.tolist() for c in two]
            assert all(c.frames[-1] < 200 for c in one)

    def test_sources_of_pairs_are_mixed_by_weight(self, module_of, tiny):
        path = str(tiny / "tiny.parquet")
        both = [Source(path, weight=3), Source(path, weight=1, split="val")]
        data = module_of(pairs=True, train=both, epoch_visits=40)
        visits, _ = data.visits_of(0)
        assert visits.shape == (40, 2)
        assert Counter(data.items("train").source[visits[:, 0]].tolist()) == {0: 30, 1: 10}

    def test_an_odd_batch_is_refused(self, module_of):
        with pytest.raises(UserError, match="make it even"):
            module_of(pairs=True, batch_size=7)

    def test_a_split_without_pairs_is_refused(self, module_of, tiny):
        data = module_of(pairs=True, train=Source(str(tiny / "tiny.parquet"), where="label == 1"))
        with pytest.raises(UserError, match="names an original"):
            data.train_dataloader()


def row(x, frame):
    return {"track": 0, "shot": 0, "frame": frame, "score": 1.0, "x": x, "y": 50, "w": 60, "h": 80, "static": False}


def frame_of(rows):
    from dfdet import manifest

    return manifest.tracks_of(pd.DataFrame(rows), {})


class TestEvaluation:
    @pytest.fixture(scope="class")
    def data(self, module_of):
        return module_of(eval_clips=3, clip=ClipSpec(4))

    @staticmethod
    def names(batches):
        keys = [(b.item, b.track, b.clip, b.frames[:, 0]) for b in batches]
        return [tuple(int(v) for v in one) for key in keys for one in zip(*key, strict=True)]

    def test_is_every_readable_video_once_with_all_its_tracks_and_no_clip_twice(self, data):
        items = data.items("test")
        names = self.names(data.test_dataloader())
        assert len(set(names)) == len(names)
        assert {item for item, *_ in names} == set(np.flatnonzero(items.readable).tolist())
        assert len(items) == len({item for item, *_ in names}) + 1  # the one without a head
        tracks = {(item, track) for item, track, *_ in names}
        assert tracks == {(i, t) for i in np.flatnonzero(items.readable).tolist() for t in items.tracks_of(i)}
        assert set(Counter(n[:2] for n in names).values()) == {3}

    @pytest.mark.parametrize("world", [2, 3])
    def test_is_the_same_on_any_number_of_ranks_without_padding(self, module_of, data, world):
        whole = self.names(data.test_dataloader())
        parts = []
        for rank in range(world):
            own = standing(module_of(eval_clips=3, clip=ClipSpec(4)), rank, world)
            parts += self.names(own.test_dataloader())
        assert sorted(parts) == sorted(whole)

    def test_is_the_same_every_time_and_with_workers(self, module_of, data, content):
        one = [content(b) for b in data.val_dataloader()]
        other = module_of(eval_clips=3, clip=ClipSpec(4), num_workers=2, augment="icpr", seed=9)
        loader = other.val_dataloader()
        assert [content(b) for b in loader] == one
        assert [content(b) for b in loader] == one

    def test_has_as_many_batches_as_it_says_and_the_last_is_not_filled_up(self, data):
        loader = data.test_dataloader()
        sizes = [len(batch) for batch in loader]
        assert len(sizes) == len(loader)
        assert all(size == 8 for size in sizes[:-1])
        assert sum(sizes) == sum(len(v.clips) for v in data.eval_visits("test"))


class TestRanks:
    def test_draw_disjoint_videos_and_equally_many_batches(self, module_of):
        seen = []
        for rank in range(2):
            data = standing(module_of(balance="none", batch_size=4), rank, 2)
            loader = data.train_dataloader()
            batches = list(loader.batches(0))
            assert len(batches) == len(loader) == 6
            seen.append({int(i) for b in batches for i in b.item})
        assert not seen[0] & seen[1]

    def test_together_make_the_clips_that_one_process_makes(self, module_of):
        """Draws carry the number of the visit in the whole epoch, so that they do not depend on who makes it."""

        def clips_of(world):
            found = set()
            for rank in range(world):
                data = standing(module_of(balance="none", batch_size=4), rank, world)
                for b in data.train_dataloader().batches(0):
                    found |= set(zip(b.item.tolist(), b.clip.tolist(), b.frames[:, 0].tolist(), strict=True))
            return found

        assert clips_of(1) == clips_of(2) == clips_of(3)


class TestReaders:
    @pytest.mark.parametrize("reader", ["decord", "pyav"])
    def test_give_the_same_bits_as_auto(self, module_of, content, reader):
        one = [content(b) for b in module_of(clip=ClipSpec(4)).train_dataloader().batches(0)]
        assert [content(b) for b in module_of(clip=ClipSpec(4), reader=reader).train_dataloader().batches(0)] == one

    @pytest.mark.parametrize("clips", [1, 4])
    def test_auto_is_exact_for_one_clip_and_for_several(self, module_of, content, clips):
        made = {
            reader: [content(b) for b in module_of(reader=reader, clips_per_visit=clips).train_dataloader().batches(0)]
            for reader in ("auto", "decord")
        }
        assert made["auto"] == made["decord"]

    def test_decord_is_refused_where_the_index_found_another_right(self, module_of):
        data = module_of(reader="decord")
        found = data.items("val")
        reader = ["pyav"] + ["decord"] * (len(found) - 1)
        place = found.table.schema.get_field_index("reader")
        found.table = found.table.set_column(place, "reader", [reader])
        with pytest.raises(UserError, match="does not read 1 of 8 videos exactly"):
            data._check_reader(found)


def make_in_child(maker, visit, queue):
    queue.put([(s.pixels, s.frames, s.error) for s in maker(visit)])


def test_a_visit_maker_can_be_sent_to_a_spawned_process_and_makes_the_same_clips_there(module_of):
    data = module_of(clip=ClipSpec(4), augment="icpr")
    maker, visit = data.maker("train"), TrainVisit((2,), 5, 1, (0, 1, 2, 3))
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=make_in_child, args=(maker, visit, queue))
    child.start()
    theirs = queue.get(timeout=120)
    child.join(timeout=60)
    for ours, (video, frames, error) in zip(maker(visit), theirs, strict=True):
        assert error is None
        assert (ours.pixels == video).all()
        assert (ours.frames == frames).all()


def test_workers_start_in_a_process_whose_opencv_has_worked_with_threads(module_of):
    """A forked worker that inherits OpenCV's pool without its threads would wait for ever."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (9, 9), 3)
        loader = module_of(num_workers=1).train_dataloader()
        assert next(loader.batches(0)).errors == []
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(threads)


def test_an_epoch_needs_few_open_files(module_of):
    """Clips wait by the hundred; each that came through shared memory would hold a file, and 1024 is a common limit."""
    loader = module_of(epoch_visits=96, num_workers=2).train_dataloader()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    list(islice(loader.batches(0), 1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        assert sum(len(batch) for batch in loader.batches(1)) == 96 * 4
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestRefusals:
    def test_an_epoch_too_small_for_a_batch(self, module_of):
        with pytest.raises(UserError, match=r"fills no batch of 64.*batch_size"):
            module_of(batch_size=64).train_dataloader()

    def test_nothing_to_train_on(self, module_of, tiny):
        path = str(tiny / "tiny.parquet")
        with pytest.raises(UserError, match=r"no video of .* can be trained on"):
            module_of(train=[path, Source(path, where='method == "Face2Face"')]).train_dataloader()

    def test_no_manifest(self, module_of):
        with pytest.raises(UserError, match=r"data\.train names no manifest"):
            module_of(train=None).train_dataloader()

    def test_no_size(self, module_of):
        with pytest.raises(UserError, match=r"crop\.size"):
            module_of(crop=CropOptions()).train_dataloader()

    def test_alignment_without_landmarks(self, module_of):
        with pytest.raises(UserError, match="needs landmarks"):
            module_of(crop=CropOptions(preset="mesonet", size=32)).train_dataloader()

    @pytest.mark.parametrize("option", ["clips_per_visit", "eval_clips", "batch_size", "block_visits"])
    def test_numbers_below_one(self, module_of, option):
        with pytest.raises(UserError, match=option):
            module_of(**{option: -1})


class TestMemory:
    def test_is_announced_before_training(self, module_of, capsys):
        module_of(epoch_visits=40, batch_size=4, num_workers=2).announce()
        said = "".join(capsys.readouterr())
        assert "6 real and 6 fake" in said
        assert "40 visits an epoch" in said
        assert "MiB" in said

    @pytest.mark.parametrize("pairs", [False, True])
    def test_that_waits_stays_below_what_was_said(self, module_of, pairs, monkeypatch):
        data = module_of(pairs=pairs, epoch_visits=60, batch_size=4, block_visits=10)
        waiting = most = 0
        counted = data.maker("train")
        make = counted.__call__

        def count(visit, out=None):
            nonlocal waiting, most
            made = make(visit, out)
            waiting += len(made)
            most = max(most, waiting)
            return made

        monkeypatch.setattr(VisitMaker, "__call__", lambda self, *given: count(*given))
        loader = TrainLoader(counted, data.plan, len(data.train_dataloader()), lambda: (0, 0), 0, False)
        for batch in loader:
            waiting -= len(batch)
        assert most * 3 * 32 * 32 <= data.block_bytes
        assert waiting == 0


def test_evaluation_of_a_visit_is_one_pass(module_of):
    visits = module_of().eval_visits("val")
    assert all(isinstance(visit, EvalVisit) for visit in visits)
    assert [visit.item for visit in visits] == list(range(8))
