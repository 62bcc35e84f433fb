"""A run, a file or a name fills a network, whole or not at all, and nothing is unpickled."""

from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import save_file

from dfdet.errors import UserError
from dfdet.networks.mesonet import Meso4
from dfdet.networks.srm_cnn import SRMCNN
from dfdet.weights.checkpoints import at_home, load_weights

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
    for name, words in [
        (
            "meso",
            r"does not fit SRMCNN: missing \d \(front\.kernel.*unexpected \d+ \(convolutions\.0\..*another shape 1",
        ),
        ("size", r"does not fit SRMCNN: of another shape 1 \(output\.weight is \(1, 65536\), not \(1, 16384\)\)"),
        ("list", "no state dict"),
    ]:
        with pytest.raises(UserError, match=words):
            load_weights(tmp_path / f"{name}.pt", network)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_integers_where_weights_belong_are_refused_and_change_nothing(tmp_path):
    state = Meso4(64).state_dict()
    state["output.weight"] = state["output.weight"].round().long()
    torch.save(state, tmp_path / "w.pt")
    network = Meso4(64)
    before = network.output.weight.clone()
    with pytest.raises(UserError, match=r"output\.weight holds torch\.int64, not torch\.float32"):
        load_weights(tmp_path / "w.pt", network)
    assert torch.equal(network.output.weight, before)


@pytest.mark.data
def test_a_published_file_of_another_network_is_told_by_its_name(sample_media):
    file = sample_media / "weights" / "mesonet" / "Meso4_DF.h5"
    if not file.is_file():
        pytest.skip(f"no published MesoNet weights at {file}")
    with pytest.raises(UserError, match=r"does not fit SRMCNN \(it is of DariusAf/MesoNet, Meso4\)"):
        load_weights(file, SRMCNN(size=32))
    network = Meso4()
    assert load_weights(file, network).name is None
    with pytest.raises(UserError, match=r"of another shape 1 \(hidden\.weight is \(16, 1024\)"):
        load_weights(file, Meso4(64))


def a_run(folder, which, network):
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("{}")
    state = {f"network.{key}": value for key, value in network.state_dict().items()}
    torch.save(
        {"state_dict": state, "dfdet": {"model": "meso4", "epoch": {}}}, folder / "checkpoints" / f"{which}.ckpt"
    )
    return folder


@pytest.mark.parametrize("which", ["best", "last"])
def test_a_run_gives_its_best_checkpoint_else_its_last(tmp_path, which):
    saved, network = Meso4(64), Meso4(64)
    run = a_run(tmp_path / "run", which, saved)
    weights = load_weights(run, network)
    assert weights.path.name == f"{which}.ckpt"
    assert same(saved, network)
    if which == "best":
        torch.save({"state_dict": {}}, run / "checkpoints" / "last.ckpt")
        assert load_weights(str(run), network).path.name == "best.ckpt"


def test_a_folder_with_one_file_of_weights_stands_for_it(tmp_path):
    torch.save(Meso4(64).state_dict(), tmp_path / "w.pt")
    (tmp_path / "readme.txt").write_text("")
    assert load_weights(tmp_path, Meso4(64)).path == tmp_path / "w.pt"
    torch.save({}, tmp_path / "v.pt")
    with pytest.raises(UserError, match=r"several files of weights \(v\.pt, w\.pt\); give one"):
        load_weights(tmp_path, Meso4(64))


def test_what_is_nowhere_is_told_with_the_nearest_name(tmp_path, cache):
    for source, words in [
        (tmp_path / "absent.pt", "is no file, no run and no name of published weights; `dfdet weights list`"),
        ("meso4.dff", r"did you mean 'meso4\.df'\?"),
        (tmp_path, "holds no file of weights"),
    ]:
        with pytest.raises(UserError, match=words):
            load_weights(source, Meso4(64))


def test_keys_find_their_place_with_or_without_what_stands_before_them():
    own = {"network.trunk.conv.weight", "network.output.weight", "attention.score.weight"}
    one = torch.zeros(1)
    assert at_home({"trunk.conv.weight": one, "output.weight": one}, own).keys() == {
        "network.trunk.conv.weight",
        "network.output.weight",
    }
    assert at_home({"conv.weight": one, "fc.weight": one}, own).keys() == {
        "network.trunk.conv.weight",
        "network.trunk.fc.weight",
    }
    assert at_home({"network.output.weight": one, "attention.score.weight": one}, own).keys() == {
        "network.output.weight",
        "attention.score.weight",
    }
