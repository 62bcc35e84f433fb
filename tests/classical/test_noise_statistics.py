"""What noise_gbm sees: statistics of noise, against OpenCV and plain loops."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch

from dfdet.classical.noise import NoiseGBMDetector, clip_statistics, face_statistics
from dfdet.errors import UserError


def clips(count, frames, size=24, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, frames, 3, size, size), dtype=torch.uint8, generator=draw)


def noise_by_opencv(frame):
    """|mean over the colours of face - Gaussian(face)| of uint8 (3, S, S)."""
    face = frame.permute(1, 2, 0).numpy().astype(np.float64)
    return np.abs((face - cv2.GaussianBlur(face, (3, 3), 0.8, borderType=cv2.BORDER_REFLECT_101)).mean(2))


def test_a_face_s_statistics_are_those_of_numpy_on_opencv_s_blur(batch_of):
    video = clips(2, 3)
    rows, clip = NoiseGBMDetector(frames=3, size=24).extract(batch_of(video), training=True)
    assert clip.tolist() == [0, 1]
    for row, frames in zip(rows, video, strict=True):
        for statistics, frame in zip(row[:21].reshape(3, 7), frames, strict=True):
            noise = noise_by_opencv(frame)
            wanted = [noise.mean(), noise.std(), *np.percentile(noise, (5, 25, 50, 75, 95))]
            assert np.allclose(statistics, wanted, atol=1e-3)


def test_the_changes_over_time_are_those_of_a_plain_loop():
    each = np.random.default_rng(0).normal(size=(1, 5, 7)).astype(np.float32)
    row = clip_statistics(each, np.ones((1, 5), bool))[0]
    assert np.array_equal(row[:35].reshape(5, 7), each[0])
    for k, series in enumerate(each[0].T.astype(np.float64)):
        steps = [abs(b - a) for a, b in itertools.pairwise(series)]
        wanted = [series.mean(), series.std(), np.mean(steps), max(steps)]
        assert np.allclose(row[35:].reshape(4, 7)[:, k], wanted, atol=1e-5)


def test_missing_frames_change_nothing_but_stand_for_the_mean(batch_of):
    video = clips(1, 4)
    mask = torch.tensor([[True, True, False, False]])
    other = video.clone()
    other[:, 2:] = 255 - other[:, 2:]
    detector = NoiseGBMDetector(frames=4, size=24)
    row, same = (detector.extract(batch_of(v, mask), training=False)[0][0] for v in (video, other))
    assert np.array_equal(row, same)
    faces = row[:28].reshape(4, 7)
    assert np.allclose(faces[2:], faces[:2].mean(0), atol=1e-5)
    short = NoiseGBMDetector(frames=2, size=24).extract(batch_of(video[:, :2]), training=False)[0][0]
    assert np.allclose(row[28:], short[14:], atol=1e-5)


def test_a_single_frame_has_no_steps():
    row = clip_statistics(np.ones((1, 1, 7), np.float32), np.ones((1, 1), bool))[0]
    assert row[7:].tolist() == [1.0] * 7 + [0.0] * 21


def test_the_means_alone_are_the_first_statistic_of_each_face(batch_of):
    video = clips(2, 5)
    means, _ = NoiseGBMDetector("means", frames=5, size=24).extract(batch_of(video), training=True)
    whole, _ = NoiseGBMDetector(frames=5, size=24).extract(batch_of(video), training=True)
    assert means.shape == (2, 5)
    assert np.allclose(means, whole[:, :35].reshape(2, 5, 7)[:, :, 0], atol=1e-5)


def test_at_the_paper_s_twenty_faces_there_are_168_columns():
    assert NoiseGBMDetector().columns == 20 * 7 + 4 * 7
    assert face_statistics(np.zeros((20, 9, 9), np.float32)).shape == (20, 7)


def test_a_clip_without_frames_has_no_row_and_the_logit_0(batch_of):
    detector = NoiseGBMDetector(frames=3, size=24)
    batch = batch_of(clips(2, 3), torch.tensor([[True] * 3, [False] * 3]))
    assert detector.extract(batch, training=False)[1].tolist() == [0]
    assert detector.pool(np.array([2.0]), np.array([0]), 2).tolist() == [2.0, 0.0]


@pytest.mark.parametrize(
    ("options", "said"), [({"kernel": 4}, "odd, at least 3"), ({"frames": 0}, "model.frames is 0")]
)
def test_what_cannot_be_made_is_one_line(options, said):
    with pytest.raises(UserError, match=said):
        NoiseGBMDetector(**options)


def test_clips_of_another_length_are_one_line(batch_of):
    with pytest.raises(UserError, match=r"wants clips of 20 frames, these have 3; set --data.clip.frames 20"):
        NoiseGBMDetector(size=24).extract(batch_of(clips(1, 3)), training=True)
