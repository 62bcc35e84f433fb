"""What Meso4 and MesoInception4 promise; that they equal the published ones is in tests/weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dfdet.networks.mesonet import Inception, Meso4, MesoInception4, SamePool

torch.set_num_threads(1)
BOTH = [Meso4, MesoInception4]


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("network", "count"), [(Meso4(), 27_977), (Meso4(150, 0.25), 17_993), (MesoInception4(), 28_615)]
)
def test_parameter_counts(network, count):
    assert parameters(network) == count


def test_inception_blocks_have_the_published_sizes():
    assert parameters(Inception(3, (1, 4, 4, 2))) == 378
    assert parameters(Inception(11, (2, 4, 4, 2))) == 478


def test_running_statistics_are_96_and_110_numbers():
    for network, count in [(Meso4(), 96), (MesoInception4(), 110)]:
        assert sum(b.numel() for name, b in network.named_buffers() if "running" in name) == count


@pytest.mark.parametrize("make", BOTH)
def test_normalisation_and_initialisation_are_keras(make):
    network = make()
    for norm in network.norms:
        assert (norm.eps, norm.momentum) == (1e-3, 0.01)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert not module.bias.any()
            fan = sum(nn.init._calculate_fan_in_and_fan_out(module.weight))
            assert module.weight.abs().max() <= (6 / fan) ** 0.5


@pytest.mark.parametrize(("length", "kernel", "first"), [(75, 2, 0), (19, 4, 0), (18, 4, 1), (17, 4, 1), (16, 4, 0)])
def test_pooling_pads_as_keras_does(length, kernel, first):
    row = torch.arange(length).float() - 100
    out = SamePool(kernel)(row.repeat(1, 1, length, 1))[0, 0, 0]
    starts = range(-first, length, kernel)
    assert out.tolist() == [max(row[max(0, s) : s + kernel].tolist()) for s in starts]
    assert len(out) == -(-length // kernel)


@pytest.mark.parametrize(("size", "side"), [(256, 8), (150, 5), (224, 7), (100, 4)])
def test_any_size_can_be_asked_for(size, side):
    network = Meso4(size).eval()
    assert network.side == side
    assert network(torch.rand(1, 3, size, size)).shape == (1,)


def test_another_size_than_the_network_s_is_refused():
    with pytest.raises(ValueError, match="meet a network for 256 x 256"):
        Meso4()(torch.rand(1, 3, 150, 150))


@pytest.mark.parametrize("make", BOTH)
def test_in_evaluation_one_image_s_logit_does_not_depend_on_its_neighbours(make):
    torch.manual_seed(0)
    network = make(64)
    network(torch.rand(4, 3, 64, 64))
    network.eval()
    images = torch.rand(3, 3, 64, 64)
    torch.testing.assert_close(network(images), torch.cat([network(images[i : i + 1]) for i in range(3)]))
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize("make", BOTH)
def test_every_parameter_gets_a_gradient(make):
    torch.manual_seed(1)
    network = make(64, dropout=0.0)
    (network(torch.rand(8, 3, 64, 64)) * torch.arange(8.0)).sum().backward()
    # glorot can leave a branch of one map dead behind its ReLU: asked of all weights as a whole, not of each number
    assert all(p.grad is not None for p in network.parameters())
    assert all(m.weight.grad.abs().sum() > 0 for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear))


def test_dropout_acts_on_single_elements_and_in_training_alone():
    network = Meso4(64, dropout=0.5)
    assert isinstance(network.dropout, nn.Dropout)
    images = torch.rand(2, 3, 64, 64)
    assert not torch.equal(network(images), network(images))


@pytest.mark.parametrize("make", BOTH)
def test_it_learns_eight_images_that_differ_in_colour(make):
    torch.manual_seed(0)
    labels = torch.tensor([0.0, 1.0] * 4)
    images = torch.rand(8, 3, 64, 64) * 0.5
    images[labels == 1, 0] += 0.3
    network = make(64, dropout=0.0)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        loss = nn.functional.binary_cross_entropy_with_logits(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1


@pytest.mark.parametrize("make", BOTH)
def test_bfloat16_autocast_runs(make):
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(make(150).eval()(torch.rand(2, 3, 150, 150))).all()
