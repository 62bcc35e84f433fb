"""The protocol of one named frame a video in evaluation (paper 001: frame 150)."""

from __future__ import annotations

import numpy as np
import pytest

from dfdet.data.clips import ClipSpec, draw, evaluated, fixed
from dfdet.errors import UserError

RUNS = [(10, 60), (75, 80), (100, 420)]
SINGLE = ClipSpec(1, eval_frame=150)


@pytest.mark.parametrize(
    ("runs", "frame"),
    [
        ([(0, 300)], 150),
        ([(0, 151)], 150),
        ([(0, 150)], 149),  # shorter: the last
        ([(0, 40)], 39),
        ([(0, 100), (180, 300)], 180),  # no face at 150: the nearest with one
        ([(0, 130), (180, 300)], 129),
        ([(0, 141), (160, 300)], 140),  # equally near: the earlier
        ([(200, 300)], 200),
    ],
)
def test_it_is_the_usable_frame_nearest_to_150(runs, frame):
    assert evaluated(SINGLE, {0: runs}, 8) == [(0, 0, (frame,))]


def test_of_several_faces_those_in_that_frame_are_taken():
    both, left, later = [(100, 200)], [(0, 120)], [(148, 160)]
    assert evaluated(SINGLE, {0: both, 1: left, 2: later, 3: []}, 8) == [(0, 0, (150,)), (2, 0, (150,))]
    assert evaluated(SINGLE, {1: left, 2: [(170, 180)]}, 8) == [(2, 0, (170,))]
    assert evaluated(SINGLE, {3: []}, 8) == []


def begun(spec, runs):
    ((_, _, frames),) = evaluated(spec, {0: runs}, 8)
    return list(frames)


def test_a_longer_clip_begins_there_and_lies_in_one_run():
    assert begun(ClipSpec(4, eval_frame=150), RUNS) == [150, 151, 152, 153]
    assert begun(ClipSpec(3, "strided", 5, eval_frame=150), RUNS) == [150, 155, 160]
    assert begun(ClipSpec(4, eval_frame=79), [(70, 80), (200, 300)]) == [76, 77, 78, 79]
    assert begun(ClipSpec(4, eval_frame=150), [(7, 9)]) == [7, 8]


def test_without_it_evaluation_is_evenly_spread_as_before():
    for spec in (ClipSpec(1), ClipSpec(8, "uniform"), ClipSpec(4, "strided", 3)):
        spread = [(4, number, tuple(clip.tolist())) for number, clip in enumerate(fixed(spec, RUNS, 5))]
        assert evaluated(spec, {4: RUNS, 7: []}, 5) == spread


def test_training_is_not_touched_with_or_without_a_pool():
    plain = ClipSpec(1)
    one, two = (draw(spec, RUNS, (0,), 4, np.random.default_rng(0)) for spec in (plain, SINGLE))
    assert [c.tolist() for c in one] == [c.tolist() for c in two]
    assert [c.tolist() for c in fixed(plain, RUNS, 16)] == [c.tolist() for c in fixed(SINGLE, RUNS, 16)]


def test_what_cannot_be_meant_is_one_line():
    with pytest.raises(UserError, match="counted from 0"):
        ClipSpec(1, eval_frame=-1)
    with pytest.raises(UserError, match=r"eval_frame says where a clip begins.*leave one of them out"):
        ClipSpec(8, "uniform", eval_frame=150)


@pytest.mark.parametrize("asked", [10, 150])
def test_the_loader_gives_one_frame_of_every_video_and_the_pixels_that_it_has_otherwise(module_of, asked):
    # the same frames by the other way: every frame of every track
    every = {}
    for batch in module_of(eval_clips=24).test_dataloader():
        for item, track, frame, video in zip(*_columns(batch), batch.video, strict=True):
            every[item, track, frame] = video.clone()
    found = {}
    for batch in module_of(clip=ClipSpec(1, eval_frame=asked)).test_dataloader():
        for item, track, frame, video in zip(*_columns(batch), batch.video, strict=True):
            assert (video == every[item, track, frame]).all()
            found.setdefault(item, set()).add((frame, track))
    assert found.keys() == {item for item, _, _ in every}
    for item, faces in found.items():
        frames = {frame for _, _, frame in (key for key in every if key[0] == item)}
        nearest = min(frames, key=lambda frame: (abs(frame - asked), frame))
        assert faces == {(frame, track) for i, track, frame in every if (i, frame) == (item, nearest)}
    # the demo's videos have 24 frames
    assert {frame for faces in found.values() for frame, _ in faces} >= {min(asked, 23)}


def _columns(batch):
    return batch.item.tolist(), batch.track.tolist(), batch.frames[:, 0].tolist()


def test_the_command_line_takes_it():
    from dfdet.training.parser import DetectorCLI

    assert DetectorCLI(["--model", "meso4", "--data.clip.eval_frame", "150"]).build()[1].clip == SINGLE
    with pytest.raises(UserError, match="counted from 0"):
        DetectorCLI(["--model", "meso4", "--data.clip.eval_frame", "-1"]).build()
