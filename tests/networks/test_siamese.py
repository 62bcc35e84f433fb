"""The siamese network is the tutorial's, and says of two images whether they are of one class."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from dfdet.networks.siamese import Siamese, distance

torch.set_num_threads(1)


@pytest.fixture
def images():
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_trunk_has_20_400_parameters():
    network = Siamese()
    assert sum(p.numel() for m in network.trunk for p in m.parameters()) == 20_400
    assert sum(p.numel() for p in network.pair.parameters()) == 2


@pytest.mark.parametrize("count", [1, 32])
@pytest.mark.parametrize("size", [32, 128])
def test_shapes(count, size):
    network, images = Siamese().eval(), torch.rand(count, 3, size, size)
    assert network.features(images).shape == (count, 48)
    assert network(images).shape == network.pair_logit(*[network.features(images)] * 2).shape == (count,)


def test_even_kernels_pad_at_the_right_and_the_bottom_as_keras():
    network = Siamese().eval()
    impulse = torch.zeros(1, 3, 8, 8)
    impulse[0, 0, 4, 4] = 1.0
    seen = {}
    network.conv1.register_forward_hook(lambda module, given, out: seen.update(maps=out - module.bias[:, None, None]))
    network(impulse)
    assert seen["maps"].shape == (1, 64, 8, 8)
    assert seen["maps"][0].abs().sum(0).nonzero().tolist() == [[3, 3], [3, 4], [4, 3], [4, 4]]


def test_distance_is_euclid_s_with_a_floor_that_keeps_its_gradient_finite():
    first, second = torch.randn(2, 5, 48)
    torch.testing.assert_close(distance(first, second), (first - second).norm(dim=1))
    same = first.clone().requires_grad_(True)
    distance(same, first).sum().backward()
    assert torch.isfinite(same.grad).all()
    assert float(distance(first, first).max()) == pytest.approx(1e-7**0.5, rel=1e-3)


def test_every_parameter_gets_a_gradient_from_pairs_or_from_single_images(images):
    torch.manual_seed(0)
    network = Siamese(dropout=0.0)
    embedding = network.features(images)
    (network.pair_logit(embedding[:2], embedding[2:]).sum() + network.classify(embedding).square().sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_one_image_s_embedding_does_not_depend_on_its_neighbours(images):
    network = Siamese().eval()
    alone = torch.cat([network.features(images[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(network.features(images), alone)


def test_bfloat16_autocast_keeps_the_distance_in_float32(images):
    network = Siamese().eval()
    with torch.autocast("cpu", torch.bfloat16):
        embedding = network.features(images)
        assert distance(embedding[:2].float(), embedding[2:].float()).dtype == torch.float32
        assert torch.isfinite(network.pair_logit(embedding[:2], embedding[2:])).all()


def test_it_learns_that_far_is_one_class_as_the_paper_s_pairs_are():
    torch.manual_seed(0)
    real = torch.rand(8, 3, 1, 1).expand(8, 3, 16, 16)
    fake = (real + 0.02 * torch.randn(8, 3, 16, 16)).clamp(0, 1)
    images = torch.stack([fake, real], 1).flatten(0, 1)
    first = torch.tensor([*range(0, 16, 2), *range(0, 14)])
    second = torch.tensor([*range(1, 16, 2), *range(2, 16)])
    same = (torch.arange(22) >= 8).float()
    network = Siamese(dropout=0.0)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        embedding = network.features(images)
        logit = network.pair_logit(embedding[first], embedding[second])
        loss = nn.functional.binary_cross_entropy_with_logits(logit, same)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert ((logit > 0) == (same == 1)).float().mean() > 0.9


@pytest.mark.slow
def test_it_learns_the_pairs_of_one_batch_of_real_crops(sample_media):
    torch.manual_seed(0)
    home = sample_media / "dfdc_faces"
    with (home / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    reals = {row["video"]: row["path"] for row in rows if row["label"] == "REAL"}
    chosen = [(row["path"], reals[row["original"]]) for row in rows if row["label"] == "FAKE"][:8]
    crops = [cv2.resize(cv2.imread(str(home / path)), (48, 48)) for pair in chosen for path in pair]
    images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2) / 255
    first = torch.tensor([*range(0, 16, 2), *range(0, 14)])
    second = torch.tensor([*range(1, 16, 2), *range(2, 16)])
    same = (torch.arange(22) >= 8).float()
    network = Siamese(dropout=0.0)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(300):
        embedding = network.features(images)
        logit = network.pair_logit(embedding[first], embedding[second])
        loss = nn.functional.binary_cross_entropy_with_logits(logit, same)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert ((logit > 0) == (same == 1)).float().mean() > 0.95


@pytest.mark.slow
def test_compiled_it_gives_the_same(images):
    network = Siamese().eval()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(network)(images), network(images), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_exported_to_onnx_it_gives_the_same(images, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = Siamese().eval()
    shapes = ({0: torch.export.Dim("images")},)
    torch.onnx.export(network, (images,), tmp_path / "net.onnx", dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = runtime.InferenceSession(tmp_path / "net.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: images[:1].numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), network(images[:1]), atol=1e-5, rtol=1e-4)
