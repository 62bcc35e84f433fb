"""What MesoNet's variants promise: paper 001's, and the other networks that DeepfakeBench publishes under its names."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn
from weights_rule import HALF, filled, reference_images

from dfdet.networks.mesonet import Meso4
from dfdet.networks.mesonet_deepfakebench import DeepfakeBenchMeso4, DeepfakeBenchMesoInception4

torch.set_num_threads(1)
BOTH = [DeepfakeBenchMeso4, DeepfakeBenchMesoInception4]
# name in the reference, network, trainable parameters, the original's [real, fake] of two pictures, of its features
# the mean and the largest absolute value
PUBLISHED = [
    ("meso4", DeepfakeBenchMeso4, 27_898, [[-0.111891, 0.399448], [-0.121728, 0.387616]], (0.2030644, 0.7980358)),
    (
        "meso4Inception",
        DeepfakeBenchMesoInception4,
        28_525,
        [[-0.397963, 0.420016], [-0.268338, 0.469514]],
        (0.1293016, 1.0939679),
    ),
]


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def ours(key):
    """The published name of a parameter as these networks'."""
    key = key.removeprefix("backbone.")
    if not key.startswith("Incption"):
        return key
    block, _, rest = key.removeprefix("Incption").partition("_")
    part, _, last = rest.partition(".")
    names = {"conv1": "a", "bn": "bn"}
    names |= {f"conv{n}_{i}": f"{branch}{i}" for n, branch in ((2, "b"), (3, "c"), (4, "d")) for i in (1, 2)}
    return f"inception{block}.{names[part]}.{last}"


@pytest.fixture(scope="module")
def reference(sample_media):
    folder = sample_media.parent / "reference" / "weights"
    if not (folder / "deepfakebench_state_dicts.json").is_file():
        pytest.skip(f"no shapes of the published files in {folder}")
    return {name: json.loads((folder / f"deepfakebench_{name}.json").read_text()) for name in ("state_dicts", "parity")}


def test_paper_001_s_has_150_pixels_and_17_993_parameters():
    assert parameters(Meso4(150, 0.25)) == 17_993


@pytest.mark.parametrize(("name", "make", "count", "logits", "features"), PUBLISHED, ids=["meso4", "inception"])
def test_deepfakebench_s_answer_as_its_own_code(reference, name, make, count, logits, features):
    shapes = {key: tuple(shape) for key, (_, shape) in reference["state_dicts"][name].items()}
    network = make().eval()
    network.load_state_dict({ours(key): filled(key, shape) for key, shape in shapes.items()}, strict=True)
    with torch.no_grad():
        found = network.features(reference_images(2, 256, HALF))
        both = network.logits(found)
        one = network(reference_images(2, 256, HALF))
    run = next(run for run in reference["parity"]["runs"] if (run["net"], run["size"]) == (name, 256))
    torch.testing.assert_close(both, torch.tensor(run["logits"]), rtol=1e-4, atol=0)
    torch.testing.assert_close(both, torch.tensor(logits), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(one, both[:, 1] - both[:, 0])
    assert (float(found.mean()), float(found.abs().max())) == pytest.approx(features, rel=1e-4)
    assert (parameters(network), len(shapes)) == (count, {"meso4": 18, "meso4Inception": 35}[name])


@pytest.mark.parametrize("make", BOTH)
def test_convolutions_have_no_bias_and_norms_torch_s_eps(make):
    modules = list(make().modules())
    assert all(m.bias is None for m in modules if isinstance(m, nn.Conv2d))
    assert {m.eps for m in modules if isinstance(m, nn.BatchNorm2d)} == {1e-5}
    assert sum(isinstance(m, nn.BatchNorm2d) for m in modules) == (2 if make is DeepfakeBenchMeso4 else 3)


@pytest.mark.parametrize("make", BOTH)
def test_in_evaluation_one_image_s_logit_does_not_depend_on_its_neighbours(make):
    torch.manual_seed(0)
    network, images = make(64), torch.rand(3, 3, 64, 64)
    network(images)
    network.eval()
    torch.testing.assert_close(network(images), torch.cat([network(image[None]) for image in images]))


@pytest.mark.parametrize("make", BOTH)
def test_every_parameter_gets_a_gradient_also_in_bfloat16(make):
    torch.manual_seed(1)
    network = make(64)
    (network(torch.rand(8, 3, 64, 64)) * torch.arange(8.0)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(network(torch.rand(2, 3, 64, 64))).all()


@pytest.mark.parametrize("make", BOTH)
def test_other_sizes_are_refused(make):
    with pytest.raises(ValueError, match="multiple of 32"):
        make(150)
    with pytest.raises(ValueError, match="meet a network for 256 x 256"):
        make()(torch.rand(1, 3, 128, 128))


@pytest.mark.parametrize("make", BOTH)
def test_it_learns_eight_real_crops(make, sample_media):
    from PIL import Image

    paths = sorted((sample_media / "dfdc_faces").rglob("*.jpg"))[::500][:8]
    faces = np.stack([np.asarray(Image.open(path).convert("RGB").resize((64, 64))) for path in paths])
    images = torch.from_numpy(faces).permute(0, 3, 1, 2) / 127.5 - 1
    torch.manual_seed(0)
    network, labels = make(64), torch.tensor([0.0, 1.0] * 4)
    network.dropout.p = 0.0
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(150):
        loss = nn.functional.binary_cross_entropy_with_logits(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss < 0.1:
            break
    assert loss < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("make", BOTH)
def test_it_compiles(make):
    network, images = make(64).eval(), torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(torch.compile(network)(images), network(images), atol=1e-5, rtol=1e-4)
