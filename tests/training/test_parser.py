"""The command line and configuration files of `dfdet fit`: what wins, and one line for what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dfdet.cli import main
from dfdet.errors import UserError
from dfdet.training.parser import DetectorCLI, find_config


def config(folder: Path, text: str, name: str = "x.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--model.lrr 3", "unknown key 'model.lrr'; did you mean 'model.lr'?"),
        ("--modl.lr 3", "unknown key 'modl.lr'; did you mean 'model.lr'?"),
        ("--lr 3", "unknown key 'lr'; did you mean 'model.lr'?"),
        ("--config configs/nope.yaml", "configs/nope.yaml does not exist; see `dfdet models`"),
        ("--data.crop.preset ffp", "did you mean 'ffpp'?"),
        ("--trainer.max_epoch 3", "unknown key 'trainer.max_epoch'; did you mean 'trainer.max_epochs'?"),
        ("--data.batchsize 3", "unknown key 'data.batchsize'; did you mean 'data.batch_size'?"),
        ("--data.crop.sizee 3", "unknown key 'data.crop.sizee'; did you mean 'data.crop.size'?"),
        ("--wandb.projct x", "unknown key 'wandb.projct'; did you mean 'wandb.project'?"),
        ("--patienc 3", "unknown key 'patienc'; did you mean 'patience'?"),
        ("--model.lr abc", "model.lr is 'abc'; it wants float"),
        ("--model.loss mae", "model.loss is 'mae'; it wants one of ['bce', 'mse']"),
        ("--data.batch_size x", "data.batch_size is 'x'; it wants int"),
        (
            "--data.crop.align foo",
            "data.crop.align is 'foo'; it wants one of ['none', 'similarity', 'upright'] or null",
        ),
        ("--trainer.precision bf16-mixd", "trainer.precision is 'bf16-mixd'; it wants"),
        ("--model mso4", "no detector is named 'mso4'; did you mean 'meso4'?"),
        ("--model", "--model wants a value"),
        ("--config experiment/srm_cn.yaml", "does not exist; did you mean 'experiment/srm_cnn.yaml'?"),
        ("--config nowhere/x.yaml", "configuration nowhere/x.yaml does not exist"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_with_the_nearest_right_word(flags, said, capsys):
    assert main(["fit", "--model", "meso4", *flags.split()]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: meso4\ndata:\n  batchsize: 3\n", "unknown key 'data.batchsize'; did you mean 'data.batch_size'?"),
        ("model: meso4\ndata:\n  crop: {sizee: 3}\n", "unknown key 'data.crop.sizee'; did you mean 'data.crop.size'?"),
        ("model: meso4\ntrainr:\n  max_epochs: 3\n", "unknown key 'trainr.max_epochs'; did you mean"),
        ("model: meso5\n", "no detector is named 'meso5'; did you mean 'meso4'?"),
        ("model:\n  class_path: meso5\n", "no detector is named 'meso5'; did you mean 'meso4'?"),
        ("model:\n  class_path: meso4\n  init_args: {lrr: 3}\n", "unknown key 'model.lrr'; did you mean 'model.lr'?"),
        ("model:\n  class_path: meso4\n  init_args: {lr: fast}\n", "model.lr is 'fast'; it wants float"),
        ("model:\n  name: meso4\n", "unknown key 'model.name'"),
        ("model: 3\n", "it wants a detector's name, or class_path and init_args"),
        ("a: [\n b", "is no YAML"),
        ("- a\n", "holds no keys"),
        ("data:\n  batch_size: 3\n", "no detector"),
    ],
)
def test_a_mistake_in_a_configuration_is_one_line(text, said, tmp_path, capsys):
    assert main(["fit", "--config", config(tmp_path, text)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nolab.Detector", "detector 'nolab.Detector' cannot be imported: No module named 'nolab'"),
        ("mylab.Plain", "mylab.Plain is no detector; a detector is a LightningModule"),
        ("mylab.number", "mylab.number is no detector"),
        ("mylab.Nobody", "cannot be imported: module 'mylab' has no attribute 'Nobody'"),
        ("broken.Detector", "detector 'broken.Detector' cannot be imported: RuntimeError: out of luck today"),
    ],
)
def test_an_import_path_that_yields_no_detector_is_one_line(path, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "mylab.py").write_text("class Plain: pass\nnumber = 3\n")
    (tmp_path / "broken.py").write_text("raise RuntimeError('out of luck\\ntoday')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mylab", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert main(["fit", "--model", path]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_without_a_detector_the_names_are_listed():
    with pytest.raises(UserError, match="give --config FILE or --model NAME: srm_cnn, meso4"):
        DetectorCLI([])


MESO = "model:\n  class_path: meso4\n  init_args: {lr: 0.5, dropout: 0.25}\ndata: {batch_size: 4}\n"


def test_flags_beat_the_configuration_and_a_later_configuration_beats_an_earlier_one(tmp_path):
    first = config(tmp_path, MESO, "first.yaml")
    second = config(tmp_path, "model:\n  init_args: {lr: 0.25}\ndata: {batch_size: 6}\n", "second.yaml")
    cli = DetectorCLI(["--config", first, "--config", second, "--data.batch_size", "10"])
    assert (cli.config.model.init_args.lr, cli.config.model.init_args.dropout) == (0.25, 0.25)
    assert cli.config.data.batch_size == 10


@pytest.mark.parametrize(
    "text",
    ["model: meso4\n", "model: {class_path: meso4}\n", "model: {class_path: dfdet.detectors.mesonet.Meso4Detector}\n"],
)
def test_a_detector_is_named_in_yaml_as_on_the_command_line(text, tmp_path):
    in_file = DetectorCLI(["--config", config(tmp_path, text)])
    on_line = DetectorCLI(["--model", "meso4"])
    assert in_file.config.model == on_line.config.model


def test_a_detector_on_the_command_line_beats_the_one_in_the_configuration(tmp_path):
    cli = DetectorCLI(["--config", config(tmp_path, "model: srm_cnn\n"), "--model", "meso4"])
    assert cli.config.model.class_path.endswith("Meso4Detector")


def test_the_printed_configuration_gives_itself(tmp_path, capsys):
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main(["fit", "--config", config(tmp_path, MESO), "--trainer.max_epochs", "7", "--print_config"])
        assert ended.value.code == 0
        printed = capsys.readouterr().out
        assert yaml.safe_load(printed)["trainer"]["max_epochs"] == 7
        (tmp_path / "printed.yaml").write_text(printed)
    cli = DetectorCLI(["--config", str(tmp_path / "printed.yaml")])
    assert yaml.safe_load(cli.dump()) == yaml.safe_load(printed)


@pytest.mark.parametrize("name", ["experiment/srm_cnn.yaml", "configs/experiment/srm_cnn.yaml"])
def test_our_own_configurations_are_found_from_any_directory(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name).is_file()


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("val/video_auroc", "max"), ("val/loss", "min"), ("val/video_eer", "min"), ("val/frame_log_loss", "min")],
)
def test_less_of_a_loss_or_an_error_rate_is_better(monitor, mode):
    assert DetectorCLI(["--model", "meso4", "--monitor", monitor]).monitor_mode == mode
    assert DetectorCLI(["--model", "meso4", "--monitor", monitor, "--monitor_mode", "max"]).monitor_mode == "max"


def test_parsing_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    DetectorCLI(["--model", "meso4", "--model.weights", "nowhere.safetensors", "--data.train", "nowhere.parquet"])
    assert list(tmp_path.iterdir()) == []


def test_short_help_imports_no_torch(tmp_path):
    program = "import sys; from dfdet.cli import main; sys.exit(main(['fit', '--help']) or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert "--resume RUN" in done.stdout
    assert len(done.stdout.splitlines()) < 40


def test_the_saved_configuration_names_manifests_from_any_directory(tiny, monkeypatch):
    monkeypatch.chdir(tiny)
    cli = DetectorCLI(["--model", "srm_cnn", "--data.train", "[tiny.parquet, {manifest: tiny.parquet, weight: 2}]"])
    first, second = yaml.safe_load(cli.dump())["data"]["train"]
    assert first == second["manifest"] == str(tiny.resolve() / "tiny.parquet")


def test_a_mistyped_model_flag_is_an_unknown_key(capsys):
    assert main(["fit", "--modle", "meso4"]) == 2
    assert "unknown key 'modle'; did you mean 'model'?" in capsys.readouterr().err
