"""From detections to a smooth box for every frame: what is bridged, what is held, and how far smoothing strays."""

from __future__ import annotations

import av
import numpy as np
import pytest

from dfdet.faces.boxes import iou
from dfdet.faces.dense import DETECTED, GAP, HELD, INTERPOLATED, dense
from dfdet.faces.detector import choose, open_detector
from dfdet.faces.tracking import Tracker, whole_image_track


def rows(frames, cx=None, h=100.0, shot=0, points=False):
    """A track whose centre is ``cx`` at the given frames."""
    frames = np.asarray(frames, np.int32)
    n = len(frames)
    cx = np.full(n, 200.0) if cx is None else np.asarray(cx, np.float64)
    w = 0.735 * h
    columns = {"frame": frames, "shot": np.full(n, shot, np.int16), "x": cx - w / 2, "y": np.full(n, 50.0)}
    columns |= {"w": np.full(n, w), "h": np.broadcast_to(h, n)}
    columns |= {f"k{i}": cx + i if points else np.full(n, np.nan) for i in range(10)}
    return columns


def test_a_straight_path_comes_out_straight_with_a_box_for_every_frame():
    frames = np.arange(0, 61, 5)
    track = dense(rows(frames, cx=100 + 2.0 * frames, points=True), 61)
    assert (track.start, track.stop, len(track.cx)) == (0, 61, 61)
    middle = slice(10, 51)
    assert track.cx[middle] == pytest.approx(100 + 2 * np.arange(61)[middle], abs=1e-3)
    assert track.points[middle, 0, 0] == pytest.approx(track.cx[middle])
    assert track.points.shape == (61, 5, 2)
    assert track.h == pytest.approx(np.full(61, 100))
    assert track.cy == pytest.approx(np.full(61, 100))
    assert {a.dtype for a in (track.cx, track.cy, track.h, track.points)} == {np.dtype(np.float32)}


def test_a_missing_detection_is_interpolated():
    frames = [f for f in range(0, 61, 5) if f != 30]
    track = dense(rows(frames, cx=100 + 2.0 * np.array(frames)), 61)
    assert track.usable.all()
    assert track.state[30] == INTERPOLATED
    assert track.state[25] == track.state[35] == DETECTED
    assert track.cx[30] == pytest.approx(160, abs=1e-3)


def test_a_gap_of_more_than_ten_frames_is_not_bridged_and_not_smoothed_across():
    frames = [0, 5, 10, 15, 30, 35, 40, 45]
    track = dense(rows(frames, cx=[100] * 4 + [300] * 4), 46)
    assert np.flatnonzero(~track.usable).tolist() == list(range(16, 30))
    assert (track.state[16:30] == GAP).all()
    assert track.cx[15] == pytest.approx(100)
    assert track.cx[30] == pytest.approx(300)
    assert dense(rows(frames), 46, max_gap=15).usable.all()


def test_boxes_are_held_for_five_frames_within_the_video():
    late = dense(rows([20, 25, 30]), 33)
    assert (late.start, late.stop) == (15, 33)
    assert late.state.tolist() == [HELD] * 5 + [0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0] + [HELD] * 2
    assert late.usable.all()
    early = dense(rows([2, 7]), 10)
    assert (early.start, early.stop) == (0, 10)


def test_boxes_are_not_held_where_a_cut_may_lie():
    second_shot = dense(rows([50, 55, 60], shot=1), 100)
    assert (second_shot.start, second_shot.stop) == (50, 61)
    known = dense(rows([50, 55, 60], shot=1), 100, bounds=(48, 64))
    assert (known.start, known.stop) == (48, 64)


def test_an_image_and_a_crop_have_a_box():
    table, _ = whole_image_track(300, 200)
    track = dense({c: table[c].to_numpy() for c in table}, 1)
    assert (track.start, track.stop, track.state.tolist()) == (0, 1, [DETECTED])
    assert (track.cx[0], track.cy[0], track.h[0]) == pytest.approx((150, 100, 200))
    assert track.points is None


def test_one_wild_box_leaves_no_trace():
    frames = np.arange(0, 60)
    cx = np.full(60, 200.0)
    cx[30] = 260
    assert dense(rows(frames, cx=cx), 60).cx == pytest.approx(np.full(60, 200))


def test_trembling_is_smoothed_away():
    frames = np.arange(0, 200)
    noise = np.random.default_rng(0).normal(0, 2, 200)
    smooth = dense(rows(frames, cx=200 + noise), 200).cx
    assert np.diff(smooth, 2).std() < 0.1 * np.diff(noise, 2).std()


def test_a_track_without_rows_or_outside_the_video_is_refused():
    for frames in ([], [5, 5], [0, 50]):
        with pytest.raises(ValueError, match="frames of a track"):
            dense(rows(frames), 50)


@pytest.mark.data
def test_smoothing_stays_close_to_the_raw_boxes_of_a_real_video(sample_media):
    settings = choose("yunet", sample_media / "models" / "face_detection_yunet_2023mar.onnx")
    detector, every, fifth = open_detector(settings), Tracker(settings), Tracker(settings)
    with av.open(str(sample_media / "ffpp_c23/original_sequences/youtube/c23/videos/720.mp4")) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i == 61:
                break
            rgb = frame.to_ndarray(format="rgb24")
            faces = detector.detect(rgb)
            every.add(i, rgb, faces)
            if i % 5 == 0:
                fifth.add(i, rgb, faces)
    raw = every.finish(61).rows
    assert set(raw.track) == {0}
    for tracker, least in ((every, 0.95), (fifth, 0.9)):
        table = tracker.finish(61).rows
        track = dense({c: table[c].to_numpy() for c in table}, 61)
        w = 0.735 * track.h
        smooth = np.stack([track.cx - w / 2, track.cy - track.h / 2, w, track.h], axis=1)
        same_shape = raw.assign(x=raw.x + raw.w / 2 - 0.735 * raw.h / 2, w=0.735 * raw.h)
        overlap = np.diag(iou(smooth, same_shape[["x", "y", "w", "h"]].to_numpy()))
        assert overlap.mean() > least
        assert track.points.shape == (61, 5, 2)
