"""Every file under configs/ parses and says what it is; `dfdet fit --config` trains with it, as a user would."""

from __future__ import annotations

import os
import subprocess

import pytest
import torch
import yaml

from dfdet.detectors import DETECTORS
from dfdet.training.parser import DetectorCLI, config_home

HOME = config_home()
ALL = sorted(p.relative_to(HOME).as_posix() for p in HOME.rglob("*.yaml"))
# one of each kind by default, the others, and networks of many gigaflops, among the slow tests
QUICK = {
    "data/pairs.yaml", "detector/block_dct.yaml", "detector/ela.yaml", "detector/meso4_150.yaml",
    "detector/noise_gbm.yaml", "detector/noise_gru.yaml", "detector/resnext_lstm.yaml", "detector/siamese.yaml",
    "detector/xception_att_st.yaml", "experiment/srm_cnn.yaml", "trainer/gpu.yaml",
}  # fmt: skip


def arguments(name: str) -> list[str]:
    """A detector is put in front where the configuration names none."""
    named = "model" in (yaml.safe_load((HOME / name).read_text()) or {})
    return [*([] if named else ["--model", "srm_cnn"]), "--config", name]


@pytest.mark.parametrize("name", ALL)
def test_it_parses_says_what_it_is_and_has_no_key_that_does_nothing(name):
    text = (HOME / name).read_text()
    assert text.startswith("# ")
    cli = DetectorCLI(arguments(name))
    dumped = yaml.safe_load(cli.dump())

    def held(part: object, whole: object) -> bool:
        if isinstance(part, dict) and isinstance(whole, dict):
            return all(key in whole and held(value, whole[key]) for key, value in part.items())
        return True

    assert held({k: v for k, v in yaml.safe_load(text).items() if k != "model"}, dumped)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in ALL])
def test_it_trains(name, dfdet_command, tiny, tmp_path):
    text = (HOME / name).read_text()
    scratch = ["--model.pretrained", "false"] if "pretrained: true" in text else []
    command = [
        *(*dfdet_command, "fit", *arguments(name), *scratch, "--data.train", str(tiny / "tiny.parquet")),
        *("--data.batch_size", "4", "--data.epoch_visits", "8", "--data.clips_per_visit", "1", "--data.eval_clips"),
        *("1", "--data.num_workers", "0", "--trainer.max_epochs", "1", "--runs", str(tmp_path), "--name", "x"),
        *([] if name == "trainer/gpu.yaml" else ["--trainer.accelerator", "cpu"]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, "COLUMNS": "200"})
    if name == "trainer/gpu.yaml" and not torch.cuda.is_available():
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("dfdet: error: "), done.stderr
        return
    assert done.returncode == 0, done.stderr
    (run,) = tmp_path.glob("*/x")
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] > 0
    assert "AUROC" in done.stdout
    assert list((run / "scores").glob("*-val.parquet"))


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_has_a_configuration_that_makes_it_and_one_for_a_corpus(name):
    for place in (DETECTORS[name].config, f"configs/experiment/{name}.yaml"):
        values = yaml.safe_load((HOME / place.removeprefix("configs/")).read_text())
        assert values["model"]["class_path"] == name
        assert values["trainer"]["max_epochs"] >= 1
