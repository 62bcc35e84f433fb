"""The published MesoNet files give the published numbers; what does not fit is told in one line."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import torch

from dfdet.errors import UserError
from dfdet.networks.mesonet import Meso4, MesoInception4
from dfdet.weights.checkpoints import load_weights
from dfdet.weights.mesonet import load_keras

torch.set_num_threads(1)
FILES = {
    "Meso4_DF": Meso4,
    "Meso4_F2F": Meso4,
    "MesoInception_DF": MesoInception4,
    "MesoInception_F2F": MesoInception4,
}
# reference specs.md §b.2: P(real) of df00204, df01254, real00240, real00772, PIL's nearest to 256
GOLDEN = {
    "Meso4_DF": [0.0414, 0.0487, 0.9897, 0.9977],
    "MesoInception_DF": [0.0262, 0.0010, 1.0000, 1.0000],
    "Meso4_F2F": [0.8312, 0.6411, 0.8810, 0.9524],
    "MesoInception_F2F": [0.9987, 1.0000, 1.0000, 0.9908],
}
IMAGES = ["df/df00204.jpg", "df/df01254.jpg", "real/real00240.jpg", "real/real00772.jpg"]


@pytest.fixture(scope="module")
def folder(sample_media):
    found = sample_media / "weights" / "mesonet"
    if not found.is_dir():
        pytest.skip(f"no published MesoNet weights at {found}")
    return found


@pytest.fixture(scope="module")
def reference(sample_media):
    path = sample_media.parent / "reference" / "weights" / "mesonet_reference.json"
    if not path.is_file():
        pytest.skip(f"no reference outputs at {path}")
    return json.loads(path.read_text())


def load(folder, name):
    network = FILES[name]()
    load_keras(folder / f"{name}.h5", network)
    return network.eval()


def smooth():
    n, y, x, c = np.ogrid[:4, :256, :256, :3]
    wave = np.sin(2 * np.pi * ((n + 1) * x / 97 + (c + 1) * y / 131)) * np.cos(2 * np.pi * (x - (n + 2) * y) / 57)
    return (0.5 + 0.3 * wave).astype(np.float32)


def noise():
    return np.random.RandomState(0).random_sample((4, 256, 256, 3)).astype(np.float32)


def faces(folder):
    image = pytest.importorskip("PIL.Image")
    pictures = [image.open(folder / "test_images" / name).convert("RGB") for name in IMAGES]
    return np.stack([np.asarray(p.resize((256, 256), image.NEAREST), dtype=np.float32) / 255 for p in pictures])


def logits(network, nhwc):
    with torch.no_grad():
        return network(torch.from_numpy(nhwc).permute(0, 3, 1, 2)).double().numpy()


@pytest.mark.data
@pytest.mark.parametrize("name", FILES)
def test_the_published_images_get_the_published_probabilities(folder, name):
    real = 1 / (1 + np.exp(logits(load(folder, name), faces(folder))))
    np.testing.assert_allclose(real, GOLDEN[name], atol=6e-5)


@pytest.mark.data
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("key", "make"), [("smooth", smooth), ("random", noise), ("images_nearest", None)])
def test_logits_agree_with_keras_to_one_in_ten_thousand(folder, reference, name, key, make):
    ours = logits(load(folder, name), make() if make else faces(folder))
    published = np.array(reference["models"][name]["outputs"][key]["logit_float64"])
    np.testing.assert_allclose(-ours, published, rtol=1e-4, atol=1e-5)


@pytest.mark.data
def test_fakes_score_above_zero(folder):
    scores = logits(load(folder, "Meso4_DF"), faces(folder))
    assert (scores > 0).tolist() == [True, True, False, False]


@pytest.mark.data
def test_the_wrong_architecture_is_told_by_name(folder):
    with pytest.raises(UserError, match="weights of MesoInception4, not of Meso4"):
        load_keras(folder / "MesoInception_DF.h5", Meso4())
    with pytest.raises(UserError, match="weights of Meso4, not of MesoInception4"):
        load_keras(folder / "Meso4_DF.h5", MesoInception4())
    with pytest.raises(UserError, match="for 150 pixels, the published files for 256"):
        load_keras(folder / "Meso4_DF.h5", Meso4(150))


def write_keras(path, size=64, seed=0, leave_out="", inner=""):
    """A file in Keras 2's layout from random arrays; returns {layer: {name: array}}. Names count from 8 on."""
    rng = np.random.default_rng(seed)
    side = Meso4(size).side
    shapes = {}
    for i, shape in enumerate([(3, 3, 3, 8), (5, 5, 8, 8), (5, 5, 8, 16), (5, 5, 16, 16)]):
        shapes[f"conv2d_{i + 8}"] = {"kernel": shape, "bias": shape[-1:]}
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        shapes[f"batch_normalization_{i + 8}"] = dict.fromkeys(names, shape[-1:])
    shapes["dense_9"] = {"kernel": (16 * side**2, 16), "bias": (16,)}
    shapes["dense_10"] = {"kernel": (16, 1), "bias": (1,)}
    arrays = {
        layer: {
            name: rng.uniform(0.1, 1, shape).astype(np.float32) - 0.4 * (name == "kernel") for name, shape in s.items()
        }
        for layer, s in shapes.items()
    }
    with h5py.File(path, "w") as file:
        root = file.create_group(inner) if inner else file
        # not in the order of creation, as in the published inception files
        root.attrs["layer_names"] = [name.encode() for name in sorted(arrays)] + [b"flatten_3"]
        root.create_group("flatten_3").attrs["weight_names"] = np.array([], dtype="S1")
        for layer, content in arrays.items():
            names = [f"{layer}/{name}:0" for name in content if name != leave_out]
            group = root.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name in names:
                group[name] = content[name.split("/")[1][:-2]]
    return arrays


@pytest.mark.parametrize("inner", ["", "model_weights"])
def test_a_written_file_gives_what_numpy_computes_from_its_arrays(tmp_path, inner):
    arrays = write_keras(tmp_path / "w.h5", inner=inner)
    network = Meso4(64).eval()
    load_keras(tmp_path / "w.h5", network)
    maps = np.random.default_rng(1).normal(size=(2, 2, 2, 16)).astype(np.float32)  # N, H, W, C, as Keras has them
    hidden = maps.reshape(2, -1) @ arrays["dense_9"]["kernel"] + arrays["dense_9"]["bias"]
    real = np.where(hidden > 0, hidden, 0.1 * hidden) @ arrays["dense_10"]["kernel"] + arrays["dense_10"]["bias"]
    with torch.no_grad():
        flat = torch.from_numpy(maps).permute(0, 3, 1, 2).flatten(1)
        ours = network.output(network.leaky(network.hidden(flat)))
    np.testing.assert_allclose(ours.numpy(), -real, rtol=1e-5)
    third = arrays["conv2d_10"]["kernel"]
    assert network.convolutions[2].weight[5, 3, 1, 4].item() == third[1, 4, 3, 5]
    np.testing.assert_array_equal(network.norms[3].running_var, arrays["batch_normalization_11"]["moving_variance"])


def test_a_file_that_does_not_fit_leaves_the_network_as_it_was(tmp_path):
    write_keras(tmp_path / "w.h5", size=128)
    network = Meso4(64)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(UserError, match="layer dense_9"):
        load_keras(tmp_path / "w.h5", network)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("size", [64, 150])
def test_a_file_of_another_size_fills_a_network_of_that_size_alone(tmp_path, size):
    arrays = write_keras(tmp_path / "w.h5", size=size)
    network = Meso4(size)
    load_weights(tmp_path / "w.h5", network)
    assert network.hidden.bias.tolist() == arrays["dense_9"]["bias"].tolist()
    with pytest.raises(UserError, match=r"does not fit Meso4 \(it is of DariusAf/MesoNet, Meso4\): of another shape 1"):
        load_weights(tmp_path / "w.h5", Meso4(256))


def test_what_is_no_keras_file_is_told(tmp_path):
    with pytest.raises(UserError, match="is not a file"):
        load_keras(tmp_path / "absent.h5", Meso4())
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(UserError, match="cannot be read"):
        load_keras(tmp_path / "text.h5", Meso4())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(UserError, match="no Keras 2 weights"):
        load_keras(tmp_path / "other.h5", Meso4())
    write_keras(tmp_path / "part.h5", leave_out="gamma")
    with pytest.raises(UserError, match=r"layer batch_normalization_8 has no gamma"):
        load_keras(tmp_path / "part.h5", Meso4(64))
