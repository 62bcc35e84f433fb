"""Tracks, cuts, posters, the main face, and what is said of a video without one."""

from __future__ import annotations

import av
import numpy as np
import pytest

from dfdet.faces import cuts
from dfdet.faces.boxes import Face
from dfdet.faces.detector import DetectorSettings
from dfdet.faces.tracking import Tracker, face_status, whole_image_track
from dfdet.manifest import FACE_COLUMNS, TRACKS_COLUMNS

YUNET, DLIB = DetectorSettings("yunet"), DetectorSettings("dlib")


def scene(seed, shift=0):
    """A frame of coloured patches, another one for every seed; ``shift`` moves the camera by pixels."""
    patches = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    frame = np.kron(patches, np.ones((40, 40, 1), np.uint8))
    return np.roll(frame, shift, axis=1)


def head(i, x=100.0, y=80.0, h=60.0, score=0.93, sway=0.05):
    """A living head at sample i: it sways by 5 % of its height."""
    dx, dy = sway * h * np.sin(0.9 * i), sway * h * np.cos(0.7 * i)
    return Face(x + dx, y + dy, 0.735 * h, h, score, np.full((5, 2), x + dx, np.float32))


def poster(x=230.0, h=90.0, score=0.72):
    return Face(x, 40.0, 0.735 * h, h, score)


def track(samples, settings=YUNET, frames=None, stride=5):
    """Runs the tracker over lists of faces; ``frames`` gives the picture of each sample."""
    tracker = Tracker(settings)
    for i, faces in enumerate(samples):
        tracker.add(i * stride, scene(0) if frames is None else frames[i], faces)
    return tracker.finish(stride * len(samples))


def test_one_moving_head_is_one_track():
    result = track([[head(i, x=100 + 6 * i)] for i in range(20)])
    assert list(result.rows.columns) == [c for c in TRACKS_COLUMNS if c != "video_id"]
    assert set(result.summary) == set(FACE_COLUMNS) - {"face_retry"}  # that one is the indexer's
    assert set(result.rows.track) == {0}
    assert result.rows.frame.tolist() == list(range(0, 100, 5))
    assert result.rows.dtypes.to_dict() == {
        c: np.dtype(TRACKS_COLUMNS[c].to_pandas_dtype()) for c in result.rows.columns
    }
    assert result.rows.k0.iloc[3] == result.rows.x.iloc[3]
    assert result.summary == {
        "face_status": "ok",
        "coverage": 1.0,
        "num_sampled": 20,
        "num_tracks": 1,
        "main_track": 0,
        "face_height": pytest.approx(60),
    }


@pytest.mark.parametrize("heads", [2, 5])  # greedy, and optimal assignment
def test_every_face_keeps_its_own_track_whatever_the_order_in_a_frame(heads):
    rng = np.random.default_rng(1)
    samples = [list(rng.permutation([head(i, x=10 + 70 * k) for k in range(heads)])) for i in range(20)]
    result = track(samples)
    assert result.summary["num_tracks"] == heads
    for _, rows in result.rows.groupby("track"):
        assert len(rows) == 20
        assert rows.x.std() < 10


def test_one_missing_sample_is_bridged_and_two_end_the_track():
    one = track([[] if i == 10 else [head(i)] for i in range(20)])
    two = track([[] if i in (10, 11) else [head(i)] for i in range(20)])
    assert (one.summary["num_tracks"], two.summary["num_tracks"]) == (1, 2)
    assert one.summary["coverage"] == pytest.approx(0.95)
    assert two.rows.groupby("track").frame.agg(["min", "max"]).to_numpy().tolist() == [[0, 45], [60, 95]]


def test_a_hard_cut_ends_a_track_even_where_the_face_stays_in_place():
    pictures = [scene(0)] * 10 + [scene(1)] * 10
    result = track([[head(i)] for i in range(20)], frames=pictures)
    assert result.summary["num_tracks"] == 2
    assert result.rows.groupby("shot").frame.agg(["min", "max"]).to_numpy().tolist() == [[0, 45], [50, 95]]


def test_a_few_detections_make_no_track():
    blinks = track([[head(i)] if i in (3, 4, 5, 6) else [] for i in range(20)])
    assert blinks.summary["num_tracks"] == 0
    assert len(blinks.rows) == 0
    assert blinks.summary["face_status"] == "none"
    assert blinks.summary["main_track"] is None
    assert blinks.summary["face_height"] is None
    assert list(blinks.rows.columns) == [c for c in TRACKS_COLUMNS if c != "video_id"]


@pytest.mark.parametrize(("samples", "enough"), [(1, 1), (3, 1), (4, 2), (8, 4), (10, 5), (60, 5)])
def test_half_of_the_samples_and_at_most_five_are_enough(samples, enough):
    for detections, kept in ((enough, 1), (enough - 1, 0)):
        result = track([[head(i)] if i < detections else [] for i in range(samples)])
        assert result.summary["num_tracks"] == kept


@pytest.mark.parametrize("settings", [YUNET, DLIB])
def test_an_image_has_a_track_of_one_that_is_no_poster(settings):
    tracker = Tracker(settings)
    tracker.add(0, scene(0), [head(0, score=0.7)])
    result = tracker.finish(1)
    assert result.summary["face_status"] == "ok"
    assert result.rows.frame.tolist() == [0]
    assert not result.rows.static.any()


def test_a_poster_is_flagged_and_never_the_main_face_however_large():
    result = track([[head(i), poster()] for i in range(20)])
    assert result.rows.groupby("track").static.first().tolist() == [True, False]
    assert result.summary["main_track"] == 1
    assert result.summary["num_tracks"] == 2


def test_a_poster_does_not_count_as_coverage_and_alone_it_is_the_main_face():
    beside = track([[poster()] + ([head(i)] if i < 10 else []) for i in range(20)])
    assert beside.summary["coverage"] == pytest.approx(0.5)
    assert beside.summary["face_status"] == "few"
    alone = track([[poster()] for _ in range(20)])
    assert alone.rows.static.all()
    assert (alone.summary["main_track"], alone.summary["face_status"]) == (0, "ok")


@pytest.mark.parametrize(("settings", "score"), [(YUNET, 0.95), (DLIB, 0.8)])
def test_a_clear_photograph_is_told_from_a_still_head_by_time(settings, score):
    # a person at a desk may sit still for 100 frames; none of the sample does for 200
    for samples, static in ((20, False), (60, True)):
        rows = track([[poster(score=score)] for _ in range(samples)], settings).rows
        assert rows.static.eq(static).all()
    assert not track([[head(i, score=score)] for i in range(60)], settings).rows.static.any()


def test_the_main_face_is_the_one_with_most_area_time_score():
    large_and_short = [head(i, x=20, h=100) for i in range(6)]
    small_and_long = [head(i, x=200, h=60) for i in range(40)]
    samples = [[small_and_long[i], *large_and_short[i : i + 1]] for i in range(40)]
    result = track(samples)
    main = result.rows[result.rows.track == result.summary["main_track"]]
    assert len(main) == 40
    assert result.summary["face_height"] == pytest.approx(60)


def test_tracks_are_numbered_by_their_start():
    result = track([[*([head(i, x=200)] if i >= 5 else []), head(i, x=20)] for i in range(20)])
    assert result.rows.groupby("track").frame.min().tolist() == [0, 25]
    assert result.rows.equals(result.rows.sort_values(["track", "frame"], ignore_index=True))


def test_status_by_coverage():
    assert [face_status(c) for c in (1, 0.8, 0.79, 0.3, 0.29, 0)] == ["ok", "ok", "few", "few", "none", "none"]


def test_a_wide_stride_still_bridges_one_missing_sample():
    tracker = Tracker(DetectorSettings("yunet", stride=15))
    for i in range(10):
        tracker.add(15 * i, scene(0), [] if i == 5 else [head(i)])
    assert tracker.finish(150).summary["num_tracks"] == 1


def test_samples_must_come_in_order_and_lie_in_the_video():
    tracker = Tracker(YUNET)
    tracker.add(5, scene(0), [])
    with pytest.raises(ValueError, match="in order"):
        tracker.add(5, scene(0), [])
    with pytest.raises(ValueError, match="frames"):
        tracker.finish(5)


def test_a_video_without_a_sample_has_a_summary_too():
    assert Tracker(YUNET).finish(0).summary["face_status"] == "none"


def test_a_crop_is_its_own_track():
    rows, summary = whole_image_track(224, 200)
    assert rows[["track", "frame", "x", "y", "w", "h"]].to_numpy().tolist() == [[0, 0, 0, 0, 224, 200]]
    assert (summary["face_status"], summary["coverage"], summary["face_height"]) == ("ok", 1.0, 200)
    assert whole_image_track(64, 64, num_frames=24)[0].frame.tolist() == [0, 5, 10, 15, 20]


def test_another_picture_is_a_cut_and_a_moving_camera_noise_or_flash_is_none():
    detector = cuts.CutDetector()
    rng = np.random.default_rng(2)
    assert not detector.add(scene(0))
    assert not detector.add(scene(0, shift=25))
    noisy = scene(0, shift=50) + rng.normal(0, 4, scene(0).shape)
    assert not detector.add(np.clip(noisy, 0, 255).astype(np.uint8))
    assert not detector.add((scene(0, shift=50) * 0.8).astype(np.uint8))
    assert detector.add(scene(1))
    assert not detector.add(scene(1, shift=10))


@pytest.mark.data
def test_the_cuts_of_a_real_video_are_found_and_nothing_else(sample_media):
    # two jumps to another view of the same studio, at distances .42 and .39
    detector, found = cuts.CutDetector(), []
    with av.open(str(sample_media / "ffpp_c23/original_sequences/youtube/c23/videos/253.mp4")) as container:
        container.streams.video[0].thread_type = "AUTO"
        for i, frame in enumerate(container.decode(video=0)):
            if i % 5 == 0 and detector.add(frame.to_ndarray(format="rgb24")):
                found.append(i)
    assert found == [180, 365]


def test_histograms_are_shares_and_their_distance_lies_between_none_and_one():
    red, blue = (np.full((90, 160, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    assert cuts.histogram(red).shape == (16, 8)
    assert cuts.histogram(red).sum() == pytest.approx(1)
    assert cuts.distance(cuts.histogram(red), cuts.histogram(blue)) == pytest.approx(1)
    assert cuts.distance(cuts.histogram(red), cuts.histogram(red)) == 0
