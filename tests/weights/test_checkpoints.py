"""Weights are read by the file's name, whole or not at all, and never unpickled."""

from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import save_file

from dfdet.errors import UserError
from dfdet.networks.mesonet import Meso4
from dfdet.networks.srm_cnn import SRMCNN
from dfdet.weights.checkpoints import load_weights

torch.set_num_threads(1)


def same(a, b):
    return all(torch.equal(value, b.state_dict()[key]) for key, value in a.state_dict().items())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth", "run.ckpt"])
def test_a_saved_network_comes_back(tmp_path, name):
    saved, network = Meso4(64), Meso4(64)
    path = tmp_path / name
    if name.endswith("safetensors"):
        save_file(saved.state_dict(), path)
    elif name == "run.ckpt":
        state = {f"network.{key}": value for key, value in saved.state_dict().items()}
        torch.save({"state_dict": {**state, "loss.weight": torch.ones(1)}, "epoch": 3}, path)
    else:
        torch.save(saved.state_dict(), path)
    assert not same(saved, network)
    load_weights(path, network)
    assert same(saved, network)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('exploded')",))


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_is_refused_unread(tmp_path, write):
    write({"state_dict": Bomb()}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"w\.pt"):
        load_weights(tmp_path / "w.pt", Meso4(64))


def test_what_does_not_fit_is_told_and_changes_nothing(tmp_path):
    network = SRMCNN(size=32)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    torch.save(Meso4(64).state_dict(), tmp_path / "meso.pt")
    torch.save(SRMCNN(size=64).state_dict(), tmp_path / "size.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name, words in [("meso", "it lacks conv1.bias"), ("size", "output.weight is"), ("list", "no state dict")]:
        with pytest.raises(UserError, match=words):
            load_weights(tmp_path / f"{name}.pt", network)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_other_files_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="is not a file"):
        load_weights(tmp_path / "absent.pt", Meso4(64))
    for name, words in [
        ("w.pkl", r"\.pkl"),
        ("w.h5", "weights of MesoNet, not of SRMCNN"),
        ("w.safetensors", "cannot be read as safetensors"),
        ("w.pt", "cannot be read by torch|not unpickled"),
    ]:
        (tmp_path / name).write_bytes(b"nothing of use")
        with pytest.raises(UserError, match=words):
            load_weights(tmp_path / name, SRMCNN(size=32))
