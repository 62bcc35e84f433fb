"""A window on the frame's grid of 8 pixels keeps JPEG's blocks: their coefficients are multiples of its quantisers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from dfdet.classical.block_dct import ycc
from dfdet.data.crop import apply, plan
from dfdet.data.crop_rule import CropSpec
from dfdet.errors import UserError
from dfdet.video.images import read_image

GRID = CropSpec(mode="native_grid8", size=64, scale=1.0)


def window(spec, frame, cx, cy, h=60.0, place=None):
    made = plan(spec, [cx], [cy], [h], None, frame.shape[1], frame.shape[0], place)
    return apply(made, 0, frame), made.squares[0]


def off_quantisers(crop, table):
    """Mean distance of AC coefficients to the nearest multiple of their quantiser, in quantisers; .25 is chance."""
    luma = ycc(crop[None])[0, ..., 0] - 128
    blocks = luma.reshape(len(luma) // 8, 8, -1, 8).transpose(0, 2, 1, 3).reshape(-1, 8, 8)
    steps = dctn(blocks, axes=(1, 2), norm="ortho") / table
    # small quantisers drown in the rounding of pixels, and zeros are multiples of everything
    told = (table >= 8) & (np.abs(steps) > 0.5)
    told[:, 0, 0] = False
    return np.abs(steps - np.round(steps))[told].mean()


@pytest.mark.data
def test_only_an_aligned_window_of_a_jpeg_shows_its_quantisers(sample_media):
    files = sorted((sample_media / "dfdc_faces/real").glob("*.jpg"))[:5]
    assert files
    aligned, plain = [], []
    for path in files:
        frame = read_image(path)
        table = np.array(Image.open(path).quantization[0], np.float64).reshape(8, 8)
        for place in ((0.3, 0.7), None):
            aligned.append(off_quantisers(window(GRID, frame, 115, 109, 90, place)[0], table))
        shifted, square = window(replace(GRID, mode="native"), frame, 115, 109)
        assert (square[:2] % 8).any()
        plain.append(off_quantisers(shifted, table))
    assert max(aligned) < 0.1
    assert min(plain) > 0.2


def test_the_window_is_the_frame_s_own_pixels_at_the_grid_point_before_the_plain_one():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (243, 325, 3), dtype=np.uint8)
    for _ in range(200):
        where = rng.uniform(-20, 340), rng.uniform(-20, 260), rng.uniform(20, 200), tuple(rng.random(2))
        crop, (x, y, side) = window(GRID, frame, *where)
        _, (plain_x, plain_y, _) = window(replace(GRID, mode="native"), frame, *where)
        assert (x, y) == (plain_x // 8 * 8, plain_y // 8 * 8)
        assert side == 64
        assert np.array_equal(crop, frame[y : y + 64, x : x + 64])


@pytest.mark.parametrize(("width", "height"), [(50, 40), (61, 200), (33, 70)])
def test_a_window_larger_than_the_frame_covers_it_and_keeps_to_the_grid(width, height):
    frame = np.full((height, width, 3), 200, np.uint8)
    for cx in (0, width / 2, width):
        crop, (x, y, _) = window(GRID, frame, cx, height / 2)
        assert x % 8 == 0
        assert y % 8 == 0
        assert crop.any(2).sum() == width * min(height, 64)


def test_windows_that_follow_the_face_keep_to_the_grid_too():
    made = plan(replace(GRID, box="smoothed"), [100, 105, 111], [90, 92, 99], [60] * 3, None, 320, 240)
    assert not (made.squares[:, :2] % 8).any()
    assert len(set(made.squares[:, 0].tolist())) > 1


def test_it_does_not_go_with_alignment():
    with pytest.raises(UserError, match="resamples, mode='native_grid8' does not"):
        CropSpec(mode="native_grid8", align="similarity")
