"""Scores of batches become one table: each clip once on any number of ranks, what failed counted apart."""

from __future__ import annotations

import os
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch

from dfdet.data import sources
from dfdet.data.batch import ClipBatch
from dfdet.errors import UserError
from dfdet.training.scoring import ScoreRows, logits_of, score_table


def batch(items: list[int], clips: list[int], made: list[int] | None = None) -> ClipBatch:
    count = len(items)
    return ClipBatch(
        video=torch.zeros(count, 1, 3, 2, 2, dtype=torch.uint8),
        mask=torch.ones(count, 1, dtype=torch.bool),
        label=torch.zeros(count, dtype=torch.int64),
        weight=torch.tensor(made or [1] * count, dtype=torch.float32),
        item=torch.tensor(items),
        track=torch.zeros(count, dtype=torch.int64),
        clip=torch.tensor(clips),
        frames=torch.tensor(clips)[:, None] * 10,
        pad=torch.zeros(count),
        errors=[],
    )


def test_rows_are_sorted_by_video_and_clip_in_whatever_order_ranks_bring_them():
    rows = ScoreRows().begin()
    rows.add(batch([2, 0], [1, 1]), torch.tensor([2.1, 0.1]))
    rows.add(batch([2, 0], [0, 0]), torch.tensor([2.0, 0.0]))
    keys, logits = rows.compute()
    assert keys[:, [0, 2, 3]].tolist() == [[0, 0, 0], [0, 1, 10], [2, 0, 0], [2, 1, 10]]
    assert logits.dtype == np.float64
    assert np.allclose(logits, [0.0, 0.1, 2.0, 2.1])


def test_nothing_scored_is_an_empty_table():
    keys, logits = ScoreRows().begin().compute()
    assert keys.shape == (0, 6)
    assert len(logits) == 0


def test_a_failed_clip_has_no_logit_and_its_reason_and_an_unseen_video_its_own(tiny):
    items = sources.load(sources.as_sources(str(tiny / "tiny.parquet")), "test", True)
    rows = ScoreRows().begin()
    rows.add(batch([0, 0, 1], [0, 1, 0], [1, 0, 1]), torch.tensor([1.0, 9.0, -1.0]))
    table = score_table(items, *rows.compute(), {0: "x.mp4: it has changed"})
    first = table[table["video_id"] == items.table["video_id"][0].as_py()]
    assert first["status"].tolist() == ["ok", "x.mp4: it has changed"]
    assert first["logit"].isna().tolist() == [False, True]
    assert table["video_id"].nunique() == len(items)
    assert table.loc[table["status"] == "ok", "logit"].tolist() == [1.0, -1.0]
    faceless = [v for v, t in zip(items.table["video_id"].to_pylist(), items.main_track, strict=True) if t < 0]
    assert table[table["video_id"].isin(faceless)]["status"].tolist() == ["no face was found"] * len(faceless)


@pytest.mark.parametrize("outputs", [None, torch.zeros(2), {"logits": torch.zeros(2)}, {"logit": torch.zeros(2, 1)}])
def test_anything_but_one_logit_a_clip_is_refused(outputs):
    with pytest.raises(UserError, match="must return ClipScores"):
        logits_of(outputs, batch([0, 1], [0, 0]))


@pytest.mark.slow
def test_two_processes_train_and_score_every_video_once(flags, tmp_path, dfdet_command):
    more = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "4", "--name", "two")
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "DFDET_RUN")}
    command = [*dfdet_command, "fit", *flags(tmp_path, *more)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "default/two"
    assert [p.name for p in (tmp_path / "default").iterdir()] == ["two"]
    assert done.stdout.count("two on demo val") == 1  # the first process speaks for all
    table = pd.read_parquet(run / "scores/demo-val.parquet")
    assert len(table) == 16
    assert not table.duplicated(["video_id", "track", "clip"]).any()
    # the numbers during training are of all videos too
    epochs = pd.read_csv(run / "metrics.csv")
    assert epochs["val/video_auroc"].notna().sum() == 2
