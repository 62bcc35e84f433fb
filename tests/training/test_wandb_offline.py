"""Weights & Biases, offline: inside the run directory and nowhere else."""

from __future__ import annotations

import os
import subprocess

import pytest


@pytest.mark.slow
def test_an_offline_run_lies_in_the_run_directory_and_is_gone_on_with(flags, tmp_path, dfdet_command):
    pytest.importorskip("wandb", reason="wandb is not installed")
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    environment = os.environ | {"WANDB_MODE": "offline", "HOME": str(home)}
    more = ("--name", "x", "--wandb.project", "tests", "--wandb.tags", "[a, b]", "--trainer.max_epochs", "1")
    run = tmp_path / "runs/default/x"
    for command in (
        ["fit", *flags(tmp_path / "runs", *more)],
        ["fit", "--resume", str(run), "--trainer.max_epochs", "2"],
    ):
        subprocess.run([*dfdet_command, *command], cwd=here, env=environment, check=True, timeout=300)
    written = list((run / "wandb").rglob("*.wandb"))
    name = (run / "wandb/id").read_text()
    assert written
    assert all(name in p.name for p in written)
    assert list(here.iterdir()) == []
    assert (run / "metrics.csv").is_file()
