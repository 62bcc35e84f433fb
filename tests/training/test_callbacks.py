"""What happens beside training: clips that fail, the monitor's refusal, seeds of steps."""

from __future__ import annotations

import csv
import shutil

import pytest
import torch

from dfdet.training.callbacks import MetricsFile
from dfdet.training.workflow import fit


def test_a_video_that_has_gone_costs_itself_only(tiny, flags, tmp_path, capsys):
    """Its clips are counted and named once; the loss is that of the others; its rows say why."""
    shutil.copytree(tiny, tmp_path / "copy")
    gone = sorted((tmp_path / "copy/corpus/train/fake").glob("*.mp4"))[0]
    lost = sorted((tmp_path / "copy/corpus/val/fake").glob("*.mp4"))[0]
    gone.unlink()
    lost.unlink()
    source = f"[{{manifest: {tiny / 'tiny.parquet'}, root: {tmp_path / 'copy/corpus'}}}]"
    run = fit(flags(tmp_path / "runs", "--name", "x", "--data.train", source)).run.path
    said = capsys.readouterr().err
    assert said.count(gone.name) == 1
    assert said.count(lost.name) == 2  # while training, and for the final scores
    with (run / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/failed_clips"]]
    assert [float(row["train/failed_clips"]) for row in rows] == [4.0, 8.0]
    assert all(torch.isfinite(torch.tensor(float(row["train/loss_epoch"]))) for row in rows)
    import pandas as pd

    table = pd.read_parquet(run / "scores/demo-val.parquet")
    missing = table[table["video_id"].str.endswith(lost.name)]
    assert missing["logit"].isna().all()
    assert missing["status"].str.contains("No such file").all()


def test_a_metrics_file_takes_columns_that_come_and_go(tmp_path):
    log = MetricsFile(tmp_path / "metrics.csv")
    log.log_metrics({"a": 1.0}, step=0)
    log.log_metrics({"b": 2.0}, step=0)
    log.log_metrics({"c": 3.0}, step=4)
    log.save()
    assert (tmp_path / "metrics.csv").read_text().splitlines() == ["step,a,b,c", "0,1.0,2.0,", "4,,,3.0"]


@pytest.mark.parametrize("other", [{"epoch": 1}, {"batch_idx": 1}, {"seed": 1}])
def test_the_seed_of_a_step_is_a_function_of_seed_epoch_and_batch(other):
    from types import SimpleNamespace

    from dfdet.training.callbacks import StepSeeds

    def draw(seed: int = 0, epoch: int = 0, batch_idx: int = 0) -> torch.Tensor:
        torch.manual_seed(12345)
        trainer = SimpleNamespace(current_epoch=epoch, global_rank=0)
        StepSeeds(seed).on_train_batch_start(trainer, None, None, batch_idx)
        return torch.rand(4)

    assert torch.equal(draw(), draw())
    assert not torch.equal(draw(), draw(**other))
