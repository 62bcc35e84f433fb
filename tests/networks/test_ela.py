"""What error levels and the small CNN on them promise."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageEnhance

from dfdet.networks.ela import ELACNN, ela

torch.set_num_threads(1)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def faces(sample_media):
    """Real crops, uint8 (8, 3, 128, 128)."""
    paths = sorted((sample_media / "dfdc_faces").rglob("*.jpg"))[::500][:8]
    pictures = [np.asarray(Image.open(path).convert("RGB").resize((128, 128), Image.Resampling.BOX)) for path in paths]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


@pytest.fixture
def noise():
    return torch.randint(0, 256, (3, 3, 40, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def pillow(image, quality):
    """Picture, and what its JPEG differs from it, by Pillow alone."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    memory = io.BytesIO()
    picture.save(memory, "JPEG", quality=quality)
    return ImageChops.difference(picture, Image.open(memory))


@pytest.mark.parametrize("quality", [75, 90, 95])
def test_it_is_pillow_s_difference_of_each_picture(faces, quality):
    levels = ela(faces, quality, scale=1.0)
    for image, level in zip(faces, levels, strict=True):
        assert np.array_equal(level.permute(1, 2, 0).numpy(), np.asarray(pillow(image, quality), np.float32))


def test_max_brightens_as_the_lineage_does_to_within_its_rounding(faces):
    levels = ela(faces)
    assert levels.amax((1, 2, 3)).tolist() == pytest.approx([255.0] * len(faces))
    for image, level in zip(faces, levels, strict=True):
        difference = pillow(image, 90)
        largest = max(high for _, high in difference.getextrema())
        bright = np.asarray(ImageEnhance.Brightness(difference).enhance(255 / largest), np.float32)
        assert np.abs(level.permute(1, 2, 0).numpy() - bright).max() < 1.001


def test_a_number_multiplies_and_cuts_at_255(noise):
    plain, bright = ela(noise, scale=1.0), ela(noise, scale=20.0)
    assert torch.equal(bright, (plain * 20).clamp(max=255))
    assert (plain * 20 > 255).any()
    assert (bright < 255).any()


def test_where_a_jpeg_changes_nothing_there_is_nothing():
    assert not ela(torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)).any()


def test_a_worse_jpeg_changes_more_and_a_second_one_less(faces):
    assert ela(faces, 50, 1.0).mean() > 1.5 * ela(faces, 95, 1.0).mean()
    once = torch.stack([torch.from_numpy(np.array(Image.open(_jpeg(image)))).permute(2, 0, 1) for image in faces])
    assert ela(once, 90, 1.0).mean() < 0.5 * ela(faces, 90, 1.0).mean()


def _jpeg(image):
    memory = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(memory, "JPEG", quality=90)
    return memory


@pytest.mark.parametrize("scale", ["max", 3.0])
def test_each_image_by_itself_whatever_its_layout_without_a_gradient_in_float32(noise, scale):
    levels = ela(noise, scale=scale)
    assert (levels.dtype, levels.shape, levels.requires_grad) == (torch.float32, noise.shape, False)
    assert 0 <= levels.min() <= levels.max() <= 255
    assert torch.equal(levels, torch.cat([ela(image[None], scale=scale) for image in noise]))
    inside = noise.to(memory_format=torch.channels_last)
    assert torch.equal(levels, ela(inside, scale=scale))
    assert ela(noise[:0], scale=scale).shape == (0, 3, 40, 56)


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        (torch.zeros(1, 3, 8, 8), {}, "uint8"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), {}, r"\(N, 3, H, W\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), {}, r"\(N, 3, H, W\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), {"quality": 0}, r"1\.\.100, not 0"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), {"scale": 0.0}, "above 0"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), {"scale": "mean"}, "'mean'"),
    ],
)
def test_wrong_pictures_and_settings_are_told(images, options, said):
    with pytest.raises(ValueError, match=said):
        ela(images, **options)


def test_the_network_is_the_lineage_s_with_one_output():
    # its notebook prints 29,520,034 with two
    assert parameters(ELACNN()) == 29_520_034 - 257
    assert ELACNN(64).hidden.in_features == 32 * 28 * 28


def test_the_network_sees_error_levels_in_0_to_1(faces):
    network = ELACNN()
    seen = []
    network.conv1.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    assert network(faces.float()).shape == (8,)
    assert torch.equal(seen[0], ela(faces) / 255)


def test_under_autocast_error_levels_stay_float32_and_one_image_s_logit_its_own(noise):
    torch.manual_seed(0)
    network = ELACNN(40).eval()
    images = noise[:, :, :, :40].float()
    seen = []
    network.conv1.register_forward_pre_hook(lambda module, given: seen.append(given[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(network(images)).all()
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(network(images), alone, atol=1e-6, rtol=1e-5)
    assert set(seen) == {torch.float32}


def test_every_parameter_gets_a_gradient_and_other_sizes_are_refused(noise):
    torch.manual_seed(0)
    network = ELACNN(40)
    (network(noise[:, :, :, :40].float()) * torch.tensor([1.0, -1.0, 2.0])).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    with pytest.raises(ValueError, match="meet a network for 40 x 40"):
        network(noise.float())
    for wrong in ({"size": 8}, {"quality": 101}, {"scale": -1.0}):
        with pytest.raises(ValueError):
            ELACNN(**wrong)


def test_it_learns_eight_real_crops_by_heart(faces):
    torch.manual_seed(0)
    labels = torch.tensor([0.0, 1.0] * 4)
    network = ELACNN(48)
    images = faces[:, :, 40:88, 40:88].float()
    optimiser = torch.optim.RMSprop(network.parameters(), lr=5e-4, alpha=0.9)
    for _ in range(40):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.nn.functional.binary_cross_entropy_with_logits(network.eval()(images), labels) < 0.1


@pytest.mark.slow
def test_it_compiles(noise):
    network = ELACNN(40).eval()
    images = noise[:, :, :, :40].float()
    torch.testing.assert_close(torch.compile(network)(images), network(images), atol=1e-5, rtol=1e-4)
