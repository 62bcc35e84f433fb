"""The block DCT's features against formulas, and which blocks count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from dfdet.classical.block_dct import BlockDCTDetector, histograms, is_skin, log_dct, ycc
from dfdet.errors import UserError


def noise(count, size, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=draw)


def flat(colour, size=64):
    return torch.tensor(colour, dtype=torch.uint8)[None, :, None, None].expand(1, 3, size, size).clone()


SKIN, SKY = (200, 140, 120), (90, 140, 220)


def test_the_dct_is_the_sum_of_cosines_of_its_definition():
    block = np.random.default_rng(0).uniform(0, 255, (1, 32, 32)).astype(np.float32)
    n, k = np.meshgrid(np.arange(32), np.arange(32))
    basis = np.cos(np.pi * (2 * n + 1) * k / 64) * np.where(k == 0, np.sqrt(1 / 32), np.sqrt(2 / 32))
    wanted = np.log1p(np.abs(basis @ block[0].astype(np.float64) @ basis.T))
    assert np.abs(log_dct(block)[0].reshape(32, 32) - wanted).max() < 1e-4


def test_the_histogram_is_numpy_s_and_sums_to_one():
    block = np.random.default_rng(0).uniform(0, 255, (3, 32, 32)).astype(np.float32)
    for found, one in zip(histograms(block), block, strict=True):
        wanted = np.histogram(np.rint(one), bins=np.arange(257))[0] / 1024
        assert np.array_equal(found, wanted.astype(np.float32))


def test_colours_are_those_of_jpeg():
    pixels = np.ascontiguousarray(noise(1, 32)[0].permute(1, 2, 0).numpy())
    pillow = np.asarray(Image.fromarray(pixels).convert("YCbCr"), dtype=np.float32)
    assert np.abs(ycc(pixels[None])[0] - pillow).max() <= 1


@pytest.mark.parametrize(
    ("options", "columns"),
    [({}, 1280), ({"raw_histogram": True}, 1536), ({"ela": True}, 2304), ({"stride": 16}, 1280), ({"block": 16}, 512)],
)
def test_the_paper_s_ablations_have_their_columns(options, columns):
    detector = BlockDCTDetector(size=64, **options)
    found = detector.blocks_of(noise(2, 64))
    assert found.features.shape[1] == detector.columns == columns
    assert len(found.features) == 2 * detector.rows_of(1)
    assert np.isfinite(found.features).all()


def test_columns_are_the_dct_then_the_dct_of_the_histogram_then_what_was_added():
    image = noise(1, 32)
    luma = ycc(image.permute(0, 2, 3, 1).numpy())[..., 0]
    share = histograms(luma)[0].astype(np.float64)
    n, k = np.meshgrid(np.arange(256), np.arange(256))
    basis = np.cos(np.pi * (2 * n + 1) * k / 512) * np.where(k == 0, np.sqrt(1 / 256), np.sqrt(2 / 256))
    row = BlockDCTDetector(size=32, raw_histogram=True).blocks_of(image).features[0]
    assert np.array_equal(row[:1024], log_dct(luma)[0])
    assert np.abs(row[1024:1280] - basis @ share).max() < 1e-6
    assert np.array_equal(row[1280:], share.astype(np.float32))


def test_blocks_stand_at_multiples_of_the_stride():
    image = noise(1, 64)
    found = BlockDCTDetector(size=64, stride=16).blocks_of(image)
    assert found.lattice == (3, 3)
    luma = ycc(image.permute(0, 2, 3, 1).numpy())[..., 0]
    for row, (_, i, j) in zip(found.features, found.place, strict=True):
        assert np.allclose(row[:1024], log_dct(luma[:, 16 * i : 16 * i + 32, 16 * j : 16 * j + 32])[0], atol=1e-5)


def test_skin_is_skin_and_sky_is_not():
    colours = np.array([[SKIN, SKY]], np.uint8)
    assert is_skin(ycc(colours[None]))[0].tolist() == [[True, False]]


def test_training_takes_blocks_of_skin_alone_and_scoring_all(batch_of):
    image = flat(SKY)
    image[:, :, :32, :32] = flat(SKIN, 32)
    image[:, :, 32:, 48:] = flat(SKIN, 32)[..., :16]  # half of the last block: enough
    detector = BlockDCTDetector(size=64)
    assert detector.blocks_of(image, skin_only=True).place[:, 1:].tolist() == [[0, 0], [1, 1]]
    assert len(detector.extract(batch_of(image[None]), training=False)[0]) == 4
    assert len(detector.extract(batch_of(image[None]), training=True)[0]) == 2


def test_an_image_without_skin_is_learnt_from_whole():
    images = torch.cat([flat(SKY), flat(SKIN)])
    assert BlockDCTDetector(size=64).blocks_of(images, skin_only=True).place[:, 0].tolist() == [0] * 4 + [1] * 4


def test_constant_padding_is_never_part_of_a_block():
    images = noise(2, 96)
    images[0, :, :8] = 0  # above
    images[0, :, :, 64:] = 0  # on the right
    images[1, :, 40:50, 40:50] = 0  # black within the picture is the picture
    found = BlockDCTDetector(size=96).blocks_of(images)
    places = [found.place[found.place[:, 0] == n, 1:].tolist() for n in (0, 1)]
    assert places[0] == [[1, 0], [1, 1], [2, 0], [2, 1]]
    assert len(places[1]) == 9
    black = BlockDCTDetector(size=64).blocks_of(flat((0, 0, 0)))
    assert black.features.shape == (0, 1280)


def test_rows_know_their_clip_and_missing_frames_give_none(batch_of):
    video = noise(6, 64).unflatten(0, (2, 3))
    mask = torch.tensor([[True, True, True], [True, False, False]])
    _, clip = BlockDCTDetector(size=64).extract(batch_of(video, mask), training=False)
    assert clip.tolist() == [0] * 12 + [1] * 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stride": 12}, "model.stride is 12 pixels; blocks keep to the grid of 8"),
        ({"block": 20}, "model.block is 20 pixels"),
        ({"size": 24}, "a block of 32 pixels does not fit into a window of 24"),
        ({"max_blocks": 0}, "a table of 0 features is nothing to learn from"),
    ],
)
def test_blocks_off_the_grid_are_one_line(options, said):
    with pytest.raises(UserError, match=said):
        BlockDCTDetector(**options)
