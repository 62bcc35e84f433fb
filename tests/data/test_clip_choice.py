"""Which frames a clip takes: the shapes, the bounds, what is random and what is fixed."""

from __future__ import annotations

import numpy as np
import pytest

from dfdet.data.clips import MIN_STRETCH, ClipSpec, draw, fixed, intersect, runs_of

CONSECUTIVE = ClipSpec(8)
STRIDED = ClipSpec(8, "strided", 5)
UNIFORM = ClipSpec(8, "uniform")
SINGLE = ClipSpec(1)
SPECS = [CONSECUTIVE, STRIDED, UNIFORM, SINGLE]
RUNS = [(10, 60), (75, 80), (100, 420)]
GOP250 = tuple(range(0, 1000, 250))


def rng(seed=0):
    return np.random.default_rng(seed)


def many(spec, runs, keyframes=GOP250, clips=4, tries=60):
    return [draw(spec, runs, keyframes, clips, rng(seed)) for seed in range(tries)]


def inside(frames, runs):
    return all(any(a <= f < b for a, b in runs) for f in frames.tolist())


@pytest.mark.parametrize("spec", SPECS, ids=str)
class TestEveryShape:
    def test_random_clips_have_the_shape_and_lie_in_usable_runs(self, spec):
        for visit in many(spec, RUNS):
            assert len(visit) == 4
            for clip in visit:
                assert len(clip) == spec.frames
                assert inside(clip, RUNS)
                assert (np.diff(clip) > 0).all()

    def test_fixed_clips_have_the_shape_and_lie_in_usable_runs(self, spec):
        found = fixed(spec, RUNS, 6)
        assert len(found) == 6
        assert all(len(clip) == spec.frames and inside(clip, RUNS) for clip in found)

    def test_fixed_clips_are_fixed_and_differ(self, spec):
        one, two = fixed(spec, RUNS, 6), fixed(spec, RUNS, 6)
        assert [c.tolist() for c in one] == [c.tolist() for c in two]
        assert len({tuple(c.tolist()) for c in one}) == 6

    def test_random_clips_follow_from_the_generator_alone(self, spec):
        one, two, other = (draw(spec, RUNS, GOP250, 4, rng(s)) for s in (1, 1, 2))
        assert [c.tolist() for c in one] == [c.tolist() for c in two]
        assert [c.tolist() for c in one] != [c.tolist() for c in other]

    def test_a_track_shorter_than_a_clip_gives_what_it_has(self, spec):
        runs = [(3, 6)]
        for clip in [*draw(spec, runs, (0,), 2, rng()), *fixed(spec, runs, 2)]:
            assert 1 <= len(clip) <= min(3, spec.frames)
            assert inside(clip, runs)

    def test_a_picture_has_one_clip_however_many_are_asked_for(self, spec):
        assert [clip.tolist() for clip in fixed(spec, [(0, 1)], 8)] == [[0]]


def test_consecutive_frames_are_neighbours():
    assert all((np.diff(clip) == 1).all() for visit in many(CONSECUTIVE, RUNS) for clip in visit)


def test_strided_frames_are_a_stride_apart():
    assert all((np.diff(clip) == 5).all() for visit in many(STRIDED, RUNS) for clip in visit)


def test_no_clip_reaches_across_a_gap():
    for spec in (CONSECUTIVE, STRIDED):
        for clip in [*(c for visit in many(spec, RUNS) for c in visit), *fixed(spec, RUNS, 20)]:
            assert any(a <= clip[0] and clip[-1] < b for a, b in RUNS)


def test_uniform_takes_one_frame_in_each_of_t_equal_parts():
    for visit in many(UNIFORM, [(100, 180)]):
        for clip in visit:
            assert ((clip - 100) // 10).tolist() == list(range(8))


def test_runs_too_short_for_a_clip_are_left_alone_while_another_holds_one():
    runs = [(0, 5), (20, 26), (40, 52)]
    for visit in many(CONSECUTIVE, runs):
        assert all(clip[0] >= 40 and len(clip) == 8 for clip in visit)


@pytest.mark.parametrize("keyframes", [GOP250, (0, 250, 500, 590, 595)], ids=["gop250", "keyframes near the end"])
def test_the_clips_of_a_visit_begin_in_one_stretch_between_keyframes(keyframes):
    runs = [(0, 600)]
    cuts = [0, 250, 500, 600]
    stretches = set()
    for visit in many(CONSECUTIVE, runs, keyframes, tries=200):
        found = {int(np.searchsorted(cuts, clip[0], side="right")) for clip in visit}
        assert len(found) == 1
        assert max(c[-1] for c in visit) - min(c[0] for c in visit) < 250 + CONSECUTIVE.extent
        stretches |= found
    assert stretches == {1, 2, 3}


def test_every_place_is_as_likely_as_another():
    starts = np.concatenate([[clip[0] for clip in visit] for visit in many(CONSECUTIVE, [(0, 600)], tries=1500)])
    counts, _ = np.histogram(starts, bins=10, range=(0, 593))
    assert counts.min() > 0.8 * counts.mean()
    assert counts.max() < 1.2 * counts.mean()


def test_dense_keyframes_are_joined_so_that_the_clips_of_a_visit_differ():
    keyframes = tuple(range(0, 300, 12))
    for visit in many(CONSECUTIVE, [(0, 300)], keyframes):
        starts = sorted(int(clip[0]) for clip in visit)
        assert starts[-1] - starts[0] < 2 * MIN_STRETCH
        assert len(set(starts)) == 4


def test_single_frames_reach_the_first_and_the_last_frame():
    seen = {int(clip[0]) for visit in many(SINGLE, [(5, 15)], (0,), tries=200) for clip in visit}
    assert seen == set(range(5, 15))
    assert [int(c[0]) for c in fixed(SINGLE, [(5, 15)], 4)] == [5, 8, 11, 14]


def test_runs_and_their_intersection():
    assert runs_of(np.array([0, 1, 1, 0, 1], bool), 10) == [(11, 13), (14, 15)]
    assert runs_of(np.zeros(3, bool)) == []
    assert intersect([(0, 10), (20, 30)], [(5, 25)]) == [(5, 10), (20, 25)]
    assert intersect([(0, 5)], [(5, 9)]) == []
