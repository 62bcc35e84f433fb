"""What the residual filters and the network on them promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfdet.networks.srm_cnn import DIVISORS, KERNELS, SRMCNN, SRMResidual

torch.set_num_threads(1)
KERNEL = torch.tensor(KERNELS) / torch.tensor(DIVISORS)[:, None, None]


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)).float()


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 281_537),
        ({"head": "gap"}, 19_457),
        ({"size": 224}, 822_209),
        ({"size": 224, "head": "gap"}, 19_457),
        ({"front": "rgb"}, 281_537),
        ({"front": "fused"}, 281_537 + 864),
        ({"front": "fused", "mode": "per_channel"}, 281_537 + 9 * 864 // 3),
    ],
)
def test_parameter_counts(settings, count):
    assert parameters(SRMCNN(**settings)) == count


def test_kernels_sum_to_zero_and_have_the_published_norms():
    assert KERNEL.sum((1, 2)).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert KERNEL.abs().sum((1, 2)).tolist() == pytest.approx([4, 8, 2])
    assert KERNEL.norm(dim=(1, 2)).tolist() == pytest.approx([1.5, 2.034, 1.225], abs=1e-3)


def test_an_impulse_in_all_colours_returns_three_times_each_kernel():
    impulse = torch.zeros(1, 3, 9, 9)
    impulse[:, :, 4, 4] = 1
    raw = SRMResidual(truncate=None)(impulse)[0, :, 2:7, 2:7]
    torch.testing.assert_close(raw, 3 * KERNEL)
    torch.testing.assert_close(SRMResidual(truncate=3.0)(impulse)[0, :, 2:7, 2:7], KERNEL)


def test_per_channel_applies_each_kernel_to_each_colour():
    impulse = torch.zeros(1, 3, 9, 9)
    impulse[:, 1, 4, 4] = 1
    maps = SRMResidual("per_channel", truncate=None)(impulse)[0, :, 2:7, 2:7]
    assert maps.shape[0] == 9
    torch.testing.assert_close(maps[3:6], KERNEL)
    assert not maps[:3].any()
    assert not maps[6:].any()


def test_the_sum_of_the_colours_maps_is_the_map_of_their_sum(images):
    each = SRMResidual("per_channel", truncate=None)(images).unflatten(1, (3, 3)).sum(1)
    torch.testing.assert_close(each, SRMResidual("sum", truncate=None)(images), atol=1e-3, rtol=1e-5)


def test_a_flat_image_has_no_residual_not_even_at_its_border():
    assert SRMResidual()(torch.full((1, 3, 16, 16), 255.0)).abs().max() == 0


def test_truncation_bounds_the_maps_by_one_and_keeps_what_lies_within(images):
    raw, cut = SRMResidual(truncate=None)(images), SRMResidual(truncate=3.0)(images)
    assert cut.abs().max() == 1
    small = raw.abs() < 3
    torch.testing.assert_close(cut[small], raw[small] / 3)
    assert (raw.abs() > 3).float().mean() > 0.5


def test_scipy_agrees(images):
    from scipy.ndimage import correlate

    summed = images[0].sum(0).numpy().astype(np.float64)
    expected = np.stack([correlate(summed, k, mode="mirror") for k in KERNEL.double().numpy()])
    np.testing.assert_allclose(SRMResidual(truncate=None)(images)[0].numpy(), expected, atol=1e-3)


def test_the_filters_are_buffers_and_are_saved():
    front = SRMResidual()
    assert not list(front.parameters())
    assert set(front.state_dict()) == {"kernel", "divisor"}


def test_autocast_leaves_the_residual_in_float32(images):
    front = SRMResidual(truncate=None)
    images = images + 0.3
    with torch.autocast("cpu", torch.bfloat16):
        under = front(images)
        assert SRMCNN(size=32)(images).dtype == torch.bfloat16
    assert under.dtype == torch.float32
    assert torch.equal(under, front(images))


def test_whole_numbers_survive_a_convolution_in_bfloat16_operands(images):
    # what TF32 and bfloat16 do to operands: the kernels, being whole numbers up to 12, lose nothing
    front = SRMResidual(truncate=None)
    assert torch.equal(front.kernel.bfloat16().float(), front.kernel)
    assert torch.equal(images.bfloat16().float(), images)


@pytest.mark.parametrize("head", ["flatten", "gap"])
def test_both_fronts_start_from_the_same_weights(head):
    trainable = []
    for front in ("srm", "rgb"):
        torch.manual_seed(3)
        trainable.append(dict(SRMCNN(front, head).named_parameters()))
    assert trainable[0].keys() == trainable[1].keys()
    assert all(torch.equal(trainable[0][name], trainable[1][name]) for name in trainable[0])


def test_fused_puts_residuals_and_rgb_side_by_side_in_float32(images):
    residual, rgb, both = (SRMCNN(front, size=32).front for front in ("srm", "rgb", "fused"))
    assert torch.equal(both(images), torch.cat([residual(images), rgb(images)], 1))
    assert both(images).abs().max() <= 1
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(both(images + 0.3)[:, :3], residual(images + 0.3))


@pytest.mark.parametrize(
    "settings", [{}, {"head": "gap"}, {"front": "rgb"}, {"front": "fused"}, {"mode": "per_channel"}]
)
def test_every_trainable_parameter_gets_a_gradient(settings, images):
    torch.manual_seed(0)
    network = SRMCNN(size=32, **settings)
    network(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_one_image_s_logit_does_not_depend_on_its_neighbours(images):
    network = SRMCNN(size=32).eval()
    alone = torch.cat([network(images[i : i + 1]) for i in range(2)])
    assert alone.shape == (2,)
    torch.testing.assert_close(network(images), alone, atol=1e-6, rtol=1e-5)


def test_gap_takes_any_size_and_flatten_its_own_alone():
    network = SRMCNN(head="gap", size=128)
    assert network(torch.zeros(1, 3, 50, 70)).shape == (1,)
    with pytest.raises(ValueError, match="meet a network for 128 x 128"):
        SRMCNN()(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("head", ["flatten", "gap"])
def test_it_learns_eight_images_that_differ_in_noise(head):
    torch.manual_seed(0)
    labels = torch.tensor([0.0, 1.0] * 4)
    images = 128 + torch.randn(8, 3, 32, 32) * (0.3 + 0.5 * labels)[:, None, None, None]
    network = SRMCNN(head=head, size=32)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(80):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1


def test_wrong_settings_are_told():
    for wrong in ({"front": "bgr"}, {"head": "mean"}, {"mode": "mean"}, {"truncate": 0}):
        with pytest.raises(ValueError):
            SRMCNN(**wrong)
