"""What a bench promises before it measures: that everybody reads the same pixels, and how its figures are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dfdet.bench import clips, competitors, counting, pixels, stages
from dfdet.bench.clips import Files, Shape, VisitClips
from dfdet.bench.extracted import Pictures, extract
from dfdet.bench.pipeline import LoaderRun, Pipeline
from dfdet.bench.rounds import interleaved, times_faster
from dfdet.errors import UserError
from dfdet.video import PyAVReader

SHAPE = Shape(clip_length=3, size=32, clips_per_visit=2, batch_size=4)


@pytest.fixture(scope="module")
def files(tiny: Path) -> Files:
    return clips.choose(tiny / "tiny.parquet", None, None)


@pytest.fixture(scope="module")
def wanted(files: Files) -> list[VisitClips]:
    return clips.visits(clips.module(files, SHAPE, num_workers=0, epoch_visits=4))


@pytest.fixture(scope="module")
def ours(files: Files) -> pixels.Expected:
    data = clips.module(files, SHAPE, num_workers=0, epoch_visits=4)
    return pixels.expected(data.train_dataloader().batches(0))


def _made(make: competitors.Make, wanted: list[VisitClips]) -> Pipeline:
    return Pipeline(make, wanted, SHAPE.clip, workers=0, batch_size=4)


@pytest.mark.parametrize("rival", ["decord_per_clip", "plain_pass"])
def test_other_readers_make_the_clips_of_the_data_module_bit_for_bit(
    rival: str, wanted: list[VisitClips], ours: pixels.Expected
) -> None:
    assert pixels.check(rival, _made(getattr(competitors, rival), wanted).made(), ours) == 8


def test_png_crops_are_the_same_bits_and_jpeg_crops_are_not(
    tmp_path: Path, wanted: list[VisitClips], ours: pixels.Expected
) -> None:
    costs = extract(wanted, tmp_path, [".png", ".jpg"])
    assert costs[".png"].crops == 8 * SHAPE.clip_length
    assert costs[".png"].bytes == sum(path.stat().st_size for path in tmp_path.rglob("*.png"))
    assert pixels.check("PNG", _made(Pictures(tmp_path, ".png"), wanted).made(), ours) == 8
    with pytest.raises(UserError, match="JPEG returns other pixels"):
        pixels.check("JPEG", _made(Pictures(tmp_path, ".jpg"), wanted).made(), ours)


def test_extraction_by_two_processes_writes_the_same_files(tmp_path: Path, wanted: list[VisitClips]) -> None:
    alone, together = extract(wanted, tmp_path / "1", [".png"]), extract(wanted, tmp_path / "2", [".png"], workers=2)
    assert (alone[".png"].crops, alone[".png"].bytes) == (together[".png"].crops, together[".png"].bytes)


def test_a_rival_that_is_one_grey_level_off_stops_the_bench(wanted: list[VisitClips], ours: pixels.Expected) -> None:
    def nearly(visit: VisitClips, shape: competitors.ClipShape) -> np.ndarray:
        made = competitors.plain_pass(visit, shape)
        made[-1, -1, 0, 0, 0] ^= 1
        return made

    with pytest.raises(UserError, match=r"nearly returns other pixels than the data module for .*frames"):
        pixels.check("nearly", _made(nearly, wanted).made(), ours)


def test_a_timed_pass_flips_the_clips_as_the_data_module_does(files: Files, wanted: list[VisitClips]) -> None:
    data = clips.module(files, SHAPE, num_workers=0, epoch_visits=4, augment="flip")
    flipped = pixels.expected(data.train_dataloader().batches(0))
    assert pixels.check("plain", _made(competitors.plain_pass, wanted).made(altered=True), flipped) == 8


def test_every_clip_of_the_epoch_is_wanted_and_no_other(files: Files, wanted: list[VisitClips]) -> None:
    run = LoaderRun(clips.module(files, SHAPE, num_workers=0, epoch_visits=4), SHAPE)
    assert run.clips == sum(len(visit.clips) for visit in wanted) == 8


def test_frames_are_counted_as_they_come_out_of_the_decoder(wanted: list[VisitClips]) -> None:
    visit = wanted[0]
    with counting.counted() as count:
        frames = dict(PyAVReader().frames(visit.path, range(5), visit.media))
    # the decoder may run ahead of the last frame that is wanted, by what it keeps back for the order of showing
    assert 5 <= count.frames <= 5 + 3
    assert count.opening > 0
    assert np.array_equal(frames[3], dict(PyAVReader().frames(visit.path, [3], visit.media))[3])


def test_the_stages_of_a_visit_are_found(files: Files, wanted: list[VisitClips]) -> None:
    found = stages.measure(clips.module(files, SHAPE, num_workers=0, epoch_visits=4, augment="flip"), wanted)
    assert 1 <= found.decoded_per_used <= 24
    assert found.seconds["decode"] > 0
    assert found.seconds["transfer"] == 0
    assert sum(found.shares().values()) == pytest.approx(1)
    assert found.presets["icpr"] > found.presets["none"] >= 0


def test_rounds_take_turns_and_the_ratio_is_the_median_of_theirs() -> None:
    order: list[str] = []

    def takes(name: str) -> float:
        order.append(name)
        return {"a": 1.0, "b": 2.0}[name] * len(order)

    seconds = interleaved({"a": lambda: takes("a"), "b": lambda: takes("b")}, 2)
    assert order == ["a", "b", "b", "a"]
    assert seconds == {"a": [1.0, 4.0], "b": [4.0, 6.0]}
    assert times_faster([1.0, 1.0, 1.0], [2.0, 30.0, 3.0]) == 3.0


def test_a_manifest_without_sound_videos_is_refused_in_one_line(tiny: Path) -> None:
    with pytest.raises(UserError, match="holds no undamaged video"):
        clips.choose(tiny / "tiny.parquet", None, "num_frames > 1000")
    with pytest.raises(UserError, match="cannot be read"):
        clips.choose(tiny / "tiny.parquet", None, "heigth > 1")
