"""`dfdet fit --init_from`: what fits is taken, the rest is told, and the run says where it started."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml

from dfdet.cli import main
from dfdet.detectors.frames import FrameDetector
from dfdet.detectors.mesonet import Meso4Detector
from dfdet.detectors.srm_cnn import SRMCNNDetector
from dfdet.errors import UserError
from dfdet.training.starting import layer_of, start_from
from dfdet.training.workflow import evaluate

torch.set_num_threads(1)


def small(**more):
    return SRMCNNDetector(size=32, head="gap", **more)


@pytest.fixture
def saved(tmp_path):
    """A detector's state dict in a file, and the detector."""
    torch.manual_seed(7)
    detector = small()
    torch.save(detector.state_dict(), tmp_path / "w.pt")
    return detector, str(tmp_path / "w.pt")


def equal(a, b, key):
    return torch.equal(a.state_dict()[key], b.state_dict()[key])


# The loader ----------------------------------------------------------------------------------------------------------


def test_what_fits_is_loaded_and_the_rest_stays_as_it_was(saved):
    detector, path = saved
    other = SRMCNNDetector(size=32)  # head=flatten: its last layer has another shape
    before = other.state_dict()["network.output.weight"].clone()
    start = start_from(other, path)
    assert equal(other, detector, "network.conv1.weight")
    assert torch.equal(other.state_dict()["network.output.weight"], before)
    assert start.shapes == [("network.output.weight", (1, 64), (1, 16384))]
    assert "network.conv2.weight" in start.loaded
    assert start.new == []
    rows = {row[0]: row[1:] for row in start.table().rows}
    assert rows["output"] == [1, 1, 0, 1]
    assert rows["conv2"] == [2, 0, 0, 64 * 32 * 9 + 64]
    assert rows["all"][0] == len(start.loaded)


def test_what_the_file_does_not_have_is_new_and_what_the_detector_lacks_is_named(saved):
    detector, path = saved
    attentive = small(pool="attention")
    start = start_from(attentive, path)
    assert start.new
    assert all(key.startswith("attention.") for key in start.new)
    torch.save({**detector.state_dict(), "network.extra.weight": torch.zeros(3)}, path)
    start = start_from(small(), path)
    assert start.unused == ["network.extra.weight"]
    assert start.table().notes == ["1 tensors of the file have no place here: network.extra.weight"]


def test_weights_of_which_nothing_fits_are_refused_and_change_nothing(saved):
    _, path = saved
    meso = Meso4Detector(size=64)
    before = {key: value.clone() for key, value in meso.state_dict().items()}
    with pytest.raises(UserError, match=r"nothing in .*w\.pt fits Meso4Detector: it has .*network\."):
        start_from(meso, path)
    assert all(torch.equal(before[key], value) for key, value in meso.state_dict().items())


class Trunked(torch.nn.Module):
    """A network with a trunk of timm's names."""

    num_features = 4

    def __init__(self):
        super().__init__()
        self.trunk = torch.nn.Sequential()
        self.trunk.stem = torch.nn.Conv2d(3, 4, 3)
        self.output = torch.nn.Linear(4, 1)


def test_a_bare_state_dict_of_timm_finds_its_way_into_the_trunk(tmp_path):
    stem = torch.nn.Conv2d(3, 4, 3)
    state = {f"stem.{key}": value for key, value in stem.state_dict().items()}
    torch.save({**state, "classifier.weight": torch.zeros(10, 4)}, tmp_path / "timm.pth")
    detector = FrameDetector(Trunked())
    start = start_from(detector, str(tmp_path / "timm.pth"))
    assert torch.equal(detector.network.trunk.stem.weight, stem.weight)
    assert start.new == ["network.output.weight", "network.output.bias"]
    assert start.unused == ["network.trunk.classifier.weight"]


@pytest.mark.data
def test_published_weights_warn_where_the_input_is_normalised_otherwise(sample_media, capsys):
    file = sample_media / "weights" / "mesonet" / "Meso4_DF.h5"
    if not file.is_file():
        pytest.skip(f"no published MesoNet weights at {file}")
    detector = Meso4Detector()
    start = start_from(detector, str(file))
    assert start.new == start.shapes == start.unused == []
    assert capsys.readouterr().err == ""
    detector.mean = (0.5, 0.5, 0.5)
    start_from(detector, str(file))
    assert "normalised by mean (0.5, 0.5, 0.5)" in capsys.readouterr().err


def test_a_setting_that_no_shape_tells_is_warned_of(saved, capsys, monkeypatch):
    from dfdet.weights.layouts import LAYOUTS
    from dfdet.weights.registry import PUBLISHED

    detector, path = saved
    start = start_from(detector, path)
    from dfdet.training import starting

    for layout, name, settings, said in [
        (
            "deepfakebench.efficientnet_b4",
            "efficientnet_b4.deepfakebench",
            {"pad_compat": "tf", "size": 256},
            "pad_compat is tf",
        ),
        ("deepfakebench.xception", "xception.deepfakebench", {"statistics": "imagenet"}, "statistics is imagenet"),
        (
            "icpr2020.efficientnet_b4",
            "efficientnet_b4.icpr_dfdc",
            {"pad_compat": "tf", "size": 299},
            "pad_compat is tf",
        ),
        ("icpr2020.efficientnet_b4", "efficientnet_b4.icpr_dfdc", {"pad_compat": "tf", "size": 224}, ""),
    ]:
        start.weights.layout, start.weights.name = LAYOUTS[layout], name
        detector.mean, detector.std = PUBLISHED[name].statistics
        capsys.readouterr()
        starting._warn(detector, start.weights, settings)
        told = capsys.readouterr().err
        assert (said in told) if said else not told


@pytest.mark.parametrize(
    ("key", "layer"),
    [
        ("network.trunk.blocks.3.1.conv_pw.weight", "trunk.blocks.3"),
        ("network.trunk.block2.rep.0.conv1.weight", "trunk.block2.rep.0"),
        ("network.trunk.conv_stem.weight", "trunk.conv_stem"),
        ("network.output.1.bias", "output.1"),
        ("attention.score.0.weight", "attention.score.0"),
        ("network.lstm.weight_ih_l0", "lstm"),
        ("centre", "centre"),
    ],
)
def test_a_layer_goes_by_its_first_number(key, layer):
    assert layer_of(key) == layer


# The command ---------------------------------------------------------------------------------------------------------


def provenance(run):
    return json.loads((run / "provenance.json").read_text())


@pytest.fixture(scope="module")
def tuned(finished, flags, tmp_path_factory):
    """A run that started from the finished one, whose learning rate is so small that it stays there; its printing."""
    runs = tmp_path_factory.mktemp("tuned")
    arguments = flags(runs, "--name", "tuned", "--model.lr", "1e-12", "--trainer.max_epochs", "1")
    code = main(["fit", *arguments, "--init_from", str(finished), "--json", str(runs / "tables.json")])
    assert code == 0
    return runs / "default" / "tuned"


def test_a_training_starts_at_the_best_checkpoint_of_a_run(tuned, finished, weights):
    theirs, ours = weights(finished, "best"), weights(tuned)
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=0, atol=1e-8)


def test_the_run_says_where_it_started(tuned, finished):
    found = provenance(tuned)["init_from"]
    assert found["source"] == str(finished)
    assert found["file"] == str(finished / "checkpoints" / "best.ckpt")
    assert found["layout"] == "dfdet"
    assert (found["another_shape"], found["new"], found["unused"]) == (0, 0, 0)
    assert found["loaded"] > 4
    log = (tuned / "log.txt").read_text()
    assert log.count("init_from loaded") == found["loaded"]
    assert "init_from loaded network.conv1.weight" in log


def test_the_table_is_printed_and_in_the_json(tuned):
    tables = json.loads((tuned.parents[1] / "tables.json").read_text())
    assert tables[0]["title"].startswith("Starting from ")
    assert {"layer", "loaded", "another shape", "new", "numbers loaded"} == set(tables[0]["rows"][0])
    assert any("tuned on demo val" in table["title"] for table in tables[1:])


def test_a_run_without_it_says_nothing_of_it(finished):
    assert "init_from" not in provenance(finished)


def test_mistakes_are_one_line_and_leave_no_run(finished, flags, tmp_path, capsys):
    torch.save({"network.nothing": torch.zeros(1)}, tmp_path / "none.pt")
    for more, said in [
        (["--init_from", "meso4.dff"], "did you mean 'meso4.df'?"),
        (["--init_from", str(tmp_path / "none.pt")], "nothing in"),
        (["--init_from"], "--init_from wants a value"),
        (["--init_from", str(finished), "--model.weights", "x.pt"], "model.weights x.pt are both given"),
        (["--init_from", "wandb:x"], "say wandb:entity/project/name:alias"),
    ]:
        capsys.readouterr()
        assert main(["fit", *flags(tmp_path / "runs", "--name", "x"), *more]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert said in lines[0]
    assert not (tmp_path / "runs").exists()
    assert main(["fit", "--resume", str(finished), "--init_from", str(finished)]) == 2
    assert "--resume and --init_from are both given" in capsys.readouterr().err


def test_two_things_to_start_from_are_one_too_many(saved):
    detector, path = saved
    with pytest.raises(UserError, match=r"--init_from .*w\.pt and model\.weights other\.pt are both given"):
        start_from(detector, path, {"weights": "other.pt"})


def test_an_artifact_of_wandb_is_a_start_too(finished, flags, tmp_path, monkeypatch):
    asked = []

    class Artifact:
        version = "v0"

        def download(self, root):
            Path(root).mkdir(parents=True)
            (Path(root) / "model.ckpt").write_bytes((finished / "checkpoints" / "best.ckpt").read_bytes())
            return root

    def api():
        return types.SimpleNamespace(artifact=lambda name: asked.append(name) or Artifact())

    library = types.ModuleType("wandb")
    library.Api, library.Error = api, RuntimeError
    monkeypatch.setitem(sys.modules, "wandb", library)
    monkeypatch.setenv("DFDET_CACHE", str(tmp_path / "cache"))
    detector = small()
    start = start_from(detector, "wandb:team/faces/srm:best")
    assert asked == ["team/faces/srm:best"]
    assert start.record()["source"] == "wandb:team/faces/srm:best"


class Eager(SRMCNNDetector):
    """A detector whose pretrained weights cannot be had."""

    def __init__(self, pretrained: bool = True, **kwargs):
        super().__init__(size=32, head="gap", **kwargs)
        if pretrained:
            raise UserError("no network")


def test_pretrained_weights_are_not_fetched_where_others_are_loaded(finished, flags, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    (tmp_path / "eager.yaml").write_text("model: {class_path: test_init_from.Eager}\n")
    arguments = ["--config", str(tmp_path / "eager.yaml"), *flags(tmp_path, "--name", "eager")[6:]]
    assert main(["fit", *arguments]) == 2
    assert main(["fit", *arguments, "--trainer.max_epochs", "1", "--init_from", str(finished)]) == 0
    run = tmp_path / "default" / "eager"
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["pretrained"] is False
    evaluate(str(run), "test")


# What a run started from is not needed again -------------------------------------------------------------------------


def test_a_run_is_tested_after_the_file_it_started_from_is_gone(finished, flags, tmp_path):
    file = tmp_path / "start.ckpt"
    file.write_bytes((finished / "checkpoints" / "best.ckpt").read_bytes())
    arguments = flags(tmp_path, "--name", "gone", "--model.weights", str(file), "--trainer.max_epochs", "1")
    assert main(["fit", *arguments]) == 0
    run = tmp_path / "default" / "gone"
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["weights"] == str(file)
    file.unlink()
    evaluate(str(run), "test")
    assert (run / "scores" / "demo-test.parquet").is_file()
    assert main(["fit", "--resume", str(run), "--trainer.max_epochs", "2"]) == 0
