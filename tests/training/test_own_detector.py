"""A detector of one's own, by import path: twenty lines that keep ClipBatch and ClipScores."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

import dfdet
from dfdet.cli import main

GOOD = """
import torch
from lightning import LightningModule

class Mean(LightningModule):
    def __init__(self, lr: float = 0.1):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(3, 1)

    def logit(self, batch):
        return self.layer(batch.video.float().mean((1, 3, 4)) / 255)[:, 0]

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.binary_cross_entropy_with_logits(self.logit(batch), batch.label.float())

    def predict_step(self, batch, batch_idx):
        return {"logit": self.logit(batch)}

    validation_step = test_step = predict_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)
"""
MORE = """
from pathlib import Path

class Tensor(Mean):
    def validation_step(self, batch, batch_idx):
        return self.logit(batch)

class Column(Mean):
    def validation_step(self, batch, batch_idx):
        return {"logit": self.logit(batch)[:, None]}

class Nothing(Mean):
    def validation_step(self, batch, batch_idx):
        pass

class NoLoss(Mean):
    def training_step(self, batch, batch_idx):
        return "well trained"

class Keeper(Mean):
    def __init__(self, lr: float = 0.1):
        super().__init__(lr)
        self.save_hyperparameters({"where": Path("x")})

class Picky(Mean):
    def __init__(self, lr: float = 0.1):
        raise ValueError("lr must be a prime")
"""


@pytest.fixture
def lab(tmp_path, monkeypatch, tiny):
    """Flags of a fit in a directory that holds my_lab.py."""
    (tmp_path / "my_lab.py").write_text(GOOD + MORE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_lab", raising=False)
    data = ["--data.train", str(tiny / "tiny.parquet"), "--data.crop.size", "32", "--data.batch_size", "8"]
    return [*data, "--data.num_workers", "0", "--data.eval_clips", "1", "--trainer.max_epochs", "1", "--name", "own"]


def test_it_goes_the_whole_way_through_fit_test_and_predict(lab, tmp_path, tiny):
    assert main(["fit", "--model", "my_lab.Mean", "--model.lr", "0.2", *lab]) == 0
    run = tmp_path / "runs/default/own"
    assert main(["test", "--run", str(run)]) == 0
    scores = pd.read_parquet(run / "scores/demo-test.parquet")
    assert np.isfinite(scores.loc[scores["status"] == "ok", "logit"]).all()
    video = next(iter((tiny / "corpus").rglob("*swap*.mp4")))
    assert np.isfinite(dfdet.load(str(run)).predict(video).videos["logit"]).all()


def test_a_checkpoint_s_hyper_parameters_never_beat_what_is_given(lab, tmp_path):
    assert main(["fit", "--model", "my_lab.Mean", "--model.lr", "0.2", *lab]) == 0
    run = tmp_path / "runs/default/own"
    kept = dfdet.load(str(run)).model.hparams["lr"]
    from dfdet.training.parser import DetectorCLI

    given = ["--config", str(run / "config.yaml"), "--model.lr", "0.5"]
    assert (kept, DetectorCLI(given).build()[0].hparams["lr"]) == (0.2, 0.5)
    assert main(["fit", "--resume", str(run), "--model.lr", "0.5", "--trainer.max_epochs", "1"]) == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "Tensor",
            "the detector's step returned a Tensor for 8 clips; validation_step, test_step and predict_step must",
        ),
        ("Column", "the detector's step returned a logit of shape (8, 1) for 8 clips"),
        ("Nothing", "the detector's step returned a NoneType"),
        ("NoLoss", "training_step"),
        ("Keeper", "save_hyperparameters() of the detector keeps more than numbers, strings, lists and dicts"),
        ("Picky", "lr must be a prime"),
    ],
)
def test_one_that_breaks_the_contract_is_one_line_and_leaves_no_run(name, said, lab, tmp_path, capsys):
    assert main(["fit", "--model", f"my_lab.{name}", *lab]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dfdet: error: ")]
    assert len(errors) == 1
    assert said in errors[0]
    assert not (tmp_path / "runs/default/own").exists()
