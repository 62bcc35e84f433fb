"""`dfdet fit` with loader workers: Ctrl-C leaves what it says and nothing else; a worker that dies is no end of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from sessions import members

LAB = """
import sys, time
from dfdet.detectors.mesonet import Meso4Detector

def say(what):
    print(what, file=sys.stderr, flush=True)
    time.sleep(0.1)

class Slow(Meso4Detector):
    def training_step(self, batch, batch_idx):
        say(f"TRAINING {self.trainer.current_epoch} {batch_idx}")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        say("SANITY" if self.trainer.sanity_checking else f"VALIDATING {self.trainer.current_epoch}")
        return super().validation_step(batch, batch_idx)
"""


class Fit:
    """`dfdet fit` in a session of its own, its standard error in a file, its temporary files in a folder of its own."""

    def __init__(self, command: list[str], folder: Path) -> None:
        (folder / "tmp").mkdir()
        (folder / "my_lab.py").write_text(LAB)
        self.runs, self.tmp, self.log = folder / "runs", folder / "tmp", folder / "stderr"
        self.shared = set(Path("/dev/shm").iterdir())
        environment = {**os.environ, "TMPDIR": str(self.tmp), "PYTHONUNBUFFERED": "1"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--runs", str(self.runs), "--name", "x"],
                stdout=subprocess.DEVNULL, stderr=log, start_new_session=True, cwd=folder, env=environment,
            )  # fmt: skip

    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, condition) -> bool:
        """Whether it became true while the process lived."""
        limit = time.monotonic() + 120
        while self.process.poll() is None and time.monotonic() < limit:
            if condition():
                return True
            time.sleep(0.005)
        return False

    def ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def left_nothing(self) -> None:
        """Asserts that there is no process, no shared memory, no temporary file and no half file of it."""
        limit = time.monotonic() + 10
        while members(self.process.pid) and time.monotonic() < limit:
            time.sleep(0.05)
        assert members(self.process.pid) == []
        # others work on this machine too: what they share comes and goes
        while (left := set(Path("/dev/shm").iterdir()) - self.shared) and time.monotonic() < limit:
            time.sleep(0.1)
        assert not [p for p in left if not any(f"_{pid}_" in p.name for pid in self._others())]
        assert list(self.tmp.iterdir()) == []
        assert [p for p in self.runs.rglob("*") if "tmp" in p.name] == []

    @staticmethod
    def _others() -> list[str]:
        return [p.name for p in Path("/proc").glob("[0-9]*")]


@pytest.fixture
def fit(dfdet_command, tiny, tmp_path):
    """``fit(*more)``: a training of three epochs of six batches with two workers, begun; ended with the test."""
    begun = []

    def begin(*more: str) -> Fit:
        command = [
            *(*dfdet_command, "fit", "--model", "my_lab.Slow", "--model.size", "64"),
            *("--data.train", str(tiny / "tiny.parquet"), "--data.batch_size", "8", "--data.eval_clips", "6"),
            *("--data.num_workers", "2", "--trainer.max_epochs", "3", "--trainer.accelerator", "cpu", *more),
        ]
        begun.append(Fit(command, tmp_path))
        return begun[-1]

    yield begin
    for running in begun:
        for pid in members(running.process.pid):
            os.kill(pid, signal.SIGKILL)
        running.process.wait()


def check(fit: Fit) -> None:
    """It ended as it should, said how to go on, and left a run that can be gone on with or none."""
    code, said = fit.process.wait(60), fit.said()
    assert "Traceback" not in said
    # a shell says 130 of both: python ends itself by the signal where it met it inside exec(), handled or not
    assert code in (130, -signal.SIGINT), said
    fit.left_nothing()
    last = fit.runs / "default/x/checkpoints/last.ckpt"
    if last.exists():
        assert f"go on with: dfdet fit --resume {fit.runs / 'default/x'}" in said
        assert torch.load(last, weights_only=True)["global_step"] > 0
    else:
        assert "nothing to go on with" in said or "interrupted" in said
        assert not (fit.runs / "default/x").exists()


MOMENTS = {
    "the first workers start": lambda fit: len(members(fit.process.pid)) > 1,
    "the workers of training start": lambda fit: len(members(fit.process.pid)) > 3,
    "training": lambda fit: "TRAINING 1 2" in fit.said(),
    "validation": lambda fit: "VALIDATING 1" in fit.said(),
}


@pytest.mark.parametrize(
    "moment",
    ["the first workers start", pytest.param("the workers of training start", marks=pytest.mark.slow), "training",
     "validation"],
)  # fmt: skip
def test_once(fit, moment):
    running = fit()
    assert running.wait_for(lambda: MOMENTS[moment](running)), running.said()
    running.ctrl_c()
    check(running)


def test_twice_in_a_hurry(fit):
    running = fit()
    assert running.wait_for(lambda: MOMENTS["training"](running)), running.said()
    running.ctrl_c()
    time.sleep(0.05)
    running.ctrl_c()
    check(running)


@pytest.mark.slow
def test_workers_that_are_killed_do_not_end_it(fit):
    running = fit()
    for moment in ("TRAINING 0 3", "TRAINING 2 1"):
        assert running.wait_for(lambda moment=moment: moment in running.said()), running.said()
        for pid in set(members(running.process.pid)) - {running.process.pid}:
            os.kill(pid, signal.SIGKILL)
    assert running.process.wait(60) == 0, running.said()
    assert "Traceback" not in running.said()
    assert torch.load(running.runs / "default/x/checkpoints/last.ckpt", weights_only=True)["global_step"] == 18
    running.left_nothing()


def check_or_done(fit: Fit) -> None:
    """As :func:`check`; or all was done, and python itself may have been interrupted on its way out."""
    fit.process.wait(60)
    if "next: dfdet test" not in fit.said():
        check(fit)
        return
    assert "Traceback" not in fit.said()
    assert fit.process.returncode in (0, 130, -signal.SIGINT)
    fit.left_nothing()


def test_while_the_last_scores_are_written(fit):
    running = fit()
    assert running.wait_for((running.runs / "default/x/thresholds.json").exists), running.said()
    running.ctrl_c()
    check_or_done(running)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_at_any_moment(fit, seed):
    running = fit()
    time.sleep(random.Random(seed).uniform(0.3, 12.0))
    running.ctrl_c()
    check_or_done(running)
