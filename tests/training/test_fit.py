"""What a training leaves behind, and what it refuses before it starts."""

from __future__ import annotations

import csv
import json
import math
import multiprocessing as mp
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import average_precision_score, balanced_accuracy_score, log_loss, roc_auc_score

from dfdet.cli import main
from dfdet.training.workflow import evaluate, fit


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def files_in(run: Path) -> dict[str, bytes]:
    return {p.relative_to(run).as_posix(): p.read_bytes() for p in run.rglob("*") if p.is_file()}


def test_a_run_directory_holds_everything_of_one_training(finished):
    assert sorted(files_in(finished)) == [
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "config.yaml",
        "log.txt",
        "metrics.csv",
        "provenance.json",
        "scores/demo-val.parquet",
        "thresholds.json",
    ]


def test_provenance_names_command_versions_manifest_and_faces(finished, tiny):
    found = json.loads((finished / "provenance.json").read_text())
    assert (
        found["packages"]["torch"] == torch.__version__.split("+")[0] or found["packages"]["torch"] == torch.__version__
    )
    assert list(found["manifests"]) == [str(tiny / "tiny.parquet")]
    assert re.fullmatch("[0-9a-f]{64}", found["manifests"][str(tiny / "tiny.parquet")])
    assert found["faces"][0]["name"] == "dlib"
    assert found["command"]


def test_the_log_holds_what_was_said(finished):
    log = (finished / "log.txt").read_text()
    assert "training on 6 real and 6 fake videos" in log
    assert len(re.findall(r"epoch \d: val/video_auroc", log)) == 2
    assert "\r" not in log


def test_nothing_is_written_into_the_working_directory(flags, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fit(flags(tmp_path / "runs", "--trainer.max_epochs", "1", "--trainer.precision", "bf16-mixed"))
    assert list((tmp_path / "here").iterdir()) == []
    assert {p.name for p in tmp_path.iterdir()} == {"here", "runs"}
    # the run is named by its detector, and mixed precision trained
    assert all(np.isfinite(pq.read_table(tmp_path / "runs/default/srm_cnn/scores/demo-val.parquet")["logit"]))


def test_fitting_again_from_the_stored_configuration_gives_the_same_weights(finished, tmp_path, weights):
    again = fit(["--config", str(finished / "config.yaml"), "--runs", str(tmp_path), "--name", "again"]).run.path
    for which in ("best", "last"):
        own, theirs = weights(again, which), weights(finished, which)
        assert own.keys() == theirs.keys()
        assert all(torch.equal(own[k], theirs[k]) for k in own)
    assert pq.read_table(again / "scores/demo-val.parquet").equals(pq.read_table(finished / "scores/demo-val.parquet"))


def test_the_number_of_loader_workers_changes_nothing(finished, flags, tmp_path, weights):
    two = fit(flags(tmp_path, "--name", "two", "--data.num_workers", "2")).run.path
    own, theirs = weights(two), weights(finished)
    assert all(torch.equal(own[k], theirs[k]) for k in own)


def test_an_earlier_run_is_never_overwritten(finished, flags, capsys):
    before = files_in(finished)
    assert main(["fit", *flags(finished.parents[1], "--name", "finished")]) == 2
    assert "holds an earlier run and is never overwritten; give another --name" in capsys.readouterr().err
    assert files_in(finished) == before


def test_runs_without_a_name_are_numbered(tmp_path, flags, monkeypatch):
    from dfdet import runs

    (tmp_path / "default/srm_cnn").mkdir(parents=True)
    assert runs.free_name(tmp_path, "default", "srm_cnn") == "srm_cnn-2"


def test_every_checkpoint_loads_as_tensors_and_plain_values_only(finished):
    for path in (finished / "checkpoints").iterdir():
        found = torch.load(path, weights_only=True)
        assert found["dfdet"]["model"] == "srm_cnn"
        assert "hyper_parameters" not in found


def test_the_logged_metrics_are_those_of_scikit_learn_on_the_score_file(finished):
    epochs = [row for row in rows_of(finished) if row["val/video_auroc"]]
    best = max(
        epochs, key=lambda row: float(row["val/video_auroc"])
    )  # the first of equals, as ModelCheckpoint keeps it
    scores = pd.read_parquet(finished / "scores/demo-val.parquet")
    videos = scores.groupby("video_id")[["label", "logit"]].mean()
    for level, table in (("frame", scores), ("video", videos)):
        label, logit = table["label"].astype(int), table["logit"]
        probability = 1 / (1 + np.exp(-logit))
        assert float(best[f"val/{level}_auroc"]) == pytest.approx(roc_auc_score(label, logit), abs=1e-6)
        assert float(best[f"val/{level}_ap"]) == pytest.approx(average_precision_score(label, logit), abs=1e-6)
        assert float(best[f"val/{level}_log_loss"]) == pytest.approx(log_loss(label, probability), abs=1e-6)
        assert float(best[f"val/{level}_accuracy"]) == pytest.approx(np.mean((logit > 0) == label), abs=1e-6)


def test_the_threshold_has_the_highest_balanced_accuracy_on_validation(finished):
    record = json.loads((finished / "thresholds.json").read_text())
    assert record["checkpoint"] == "best.ckpt"
    videos = pd.read_parquet(finished / "scores/demo-val.parquet").groupby("video_id")[["label", "logit"]].mean()
    label = videos["label"].astype(int)
    at = balanced_accuracy_score(label, videos["logit"] > record["thresholds"]["video"])
    cuts = [-math.inf, *videos["logit"]]
    assert at == max(balanced_accuracy_score(label, videos["logit"] > cut) for cut in cuts)


def test_best_is_the_epoch_that_the_monitor_says(flags, tmp_path):
    more = ("--monitor", "val/loss", "--trainer.max_epochs", "3", "--model.lr", "0.05", "--patience", "1")
    run = fit(flags(tmp_path, "--name", "x", *more)).run.path
    losses = [float(row["val/loss"]) for row in rows_of(run) if row["val/loss"]]
    best = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == int(np.argmin(losses))


def test_a_patience_of_one_stops_early(flags, tmp_path):
    more = ("--trainer.max_epochs", "9", "--model.lr", "0", "--patience", "2")
    run = fit(flags(tmp_path, "--name", "x", *more)).run.path
    assert len([row for row in rows_of(run) if row["val/loss"]]) == 3  # no weight moves: the first is the best


REFUSED = [
    (["--data.batch_size", "64"], "fills no batch of 64; lower data.batch_size"),
    (["--model.optimizer", "Adm"], "model.optimizer 'Adm' is no class of torch.optim; did you mean 'Adam'?"),
    (["--model.schedule", "StepRL"], "did you mean 'StepLR'?"),
    (["--monitor", "val/auroc"], "monitor is 'val/auroc', which is not logged; did you mean 'val/video_auroc'?"),
    (["--trainer.accelerator", "tpu"], "dfdet: error: "),
    (["--trainer.limit_val_batches", "7.5"], "dfdet: error: "),
    (["--data.crop.size", "64"], "data.crop.size is 64, but the detector was built for 32"),
    (
        ["--model.weights", "nowhere.safetensors"],
        "nowhere.safetensors is no file, no run and no name of published weights",
    ),
    (["--data.train", "nowhere.parquet"], "nowhere.parquet does not exist"),
]


@pytest.mark.parametrize(("more", "said"), REFUSED, ids=[r[0][0] + r[0][1] for r in REFUSED])
def test_what_cannot_work_is_one_line_and_leaves_no_run(more, said, flags, tmp_path, capsys):
    assert main(["fit", *flags(tmp_path / "runs", "--name", "x", *more)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dfdet: error: ")]
    assert len(errors) == 1
    assert said in errors[0]
    assert not (tmp_path / "runs/default/x").exists()


def test_the_workers_end_with_a_training(flags, tmp_path):
    before = set(mp.active_children())
    run = fit(flags(tmp_path, "--name", "x", "--data.num_workers", "2")).run
    assert set(mp.active_children()) <= before
    evaluate(str(run.path), "val")
    assert set(mp.active_children()) <= before
