"""Ctrl-C at any moment, then `--resume`: the run ends as if nothing had happened."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import time

import pytest
import torch

from dfdet import runs
from dfdet.cli import main
from dfdet.detectors.binary import BinaryDetector
from dfdet.training.workflow import fit


def steps_in(run) -> list[tuple[int, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [(int(row["step"]), row["val/loss"]) for row in csv.DictReader(file)]


@pytest.fixture
def ctrl_c_in(monkeypatch):
    """Sends SIGINT to this process in the n-th call (from 1) of a detector's step, once."""

    def at(step: str, number: int, times: int = 1) -> None:
        original, calls = getattr(BinaryDetector, step), []

        def wrapped(self, batch, batch_idx):
            calls.append(batch_idx)
            if len(calls) == number:
                for _ in range(times):
                    os.kill(os.getpid(), signal.SIGINT)
            return original(self, batch, batch_idx)

        monkeypatch.setattr(BinaryDetector, step, wrapped)

    return at


def interrupt_and_resume(arguments, run, capsys, monkeypatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        main(["fit", *arguments])
    assert ended.value.code == 130
    assert f"go on with: dfdet fit --resume {run}" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()
    assert main(["fit", "--resume", str(run)]) == 0


# six batches an epoch; the sanity check validates two batches before the first
@pytest.mark.parametrize(
    ("step", "number"),
    [("training_step", 3), ("training_step", 6), ("training_step", 7), ("training_step", 12), ("validation_step", 3)],
    ids=["mid-epoch", "last batch", "second epoch", "very last batch", "validation"],
)
def test_an_interrupted_run_ends_with_the_same_bits(
    step, number, finished, flags, weights, tmp_path, ctrl_c_in, capsys, monkeypatch
):
    ctrl_c_in(step, number)
    run = tmp_path / "default/x"
    interrupt_and_resume(flags(tmp_path, "--name", "x"), run, capsys, monkeypatch)
    for which in ("last", "best"):
        own, theirs = weights(run, which), weights(finished, which)
        assert all(torch.equal(own[k], theirs[k]) for k in own)
    assert steps_in(run) == steps_in(finished)
    assert (run / "thresholds.json").read_text() == (finished / "thresholds.json").read_text()


@pytest.mark.parametrize("number", [4, 8])
def test_dropout_is_drawn_the_same_after_an_interruption(
    number, flags, weights, tmp_path, ctrl_c_in, capsys, monkeypatch
):
    more = (
        "--model.schedule",
        "StepLR",
        "--model.schedule_args",
        "{step_size: 4}",
        "--model.schedule_interval",
        "step",
    )
    whole = fit(flags(tmp_path, "--name", "whole", *more, model="meso4")).run.path
    ctrl_c_in("training_step", number)
    run = tmp_path / "default/x"
    interrupt_and_resume(flags(tmp_path, "--name", "x", *more, model="meso4"), run, capsys, monkeypatch)
    own, theirs = weights(run), weights(whole)
    assert all(torch.equal(own[k], theirs[k]) for k in own)


def test_a_second_ctrl_c_ends_it_at_once_and_keeps_the_epoch_before(flags, tmp_path, ctrl_c_in, capsys):
    ctrl_c_in("training_step", 8, times=2)
    with pytest.raises(SystemExit) as ended:
        main(["fit", *flags(tmp_path, "--name", "x")])
    assert ended.value.code == 130
    assert "go on with" in capsys.readouterr().err
    found = torch.load(tmp_path / "default/x/checkpoints/last.ckpt", weights_only=True)
    assert found["global_step"] == 6


def test_ctrl_c_before_anything_is_saved_leaves_no_run(flags, tmp_path, ctrl_c_in, capsys):
    ctrl_c_in("training_step", 2, times=2)
    with pytest.raises(SystemExit) as ended:
        main(["fit", *flags(tmp_path, "--name", "x")])
    assert ended.value.code == 130
    assert "nothing to go on with" in capsys.readouterr().err
    assert not (tmp_path / "default/x").exists()


def test_so_does_ctrl_c_while_its_directory_is_being_made(flags, tmp_path, monkeypatch):
    def provenance(manifests):
        assert (tmp_path / "default/x/config.yaml").is_file()
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "provenance", provenance)
    with pytest.raises(SystemExit) as ended:
        main(["fit", *flags(tmp_path, "--name", "x")])
    assert ended.value.code == 130
    assert not (tmp_path / "default/x").exists()


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run that a test may harm."""
    return shutil.copytree(finished, tmp_path / "runs/default/copy")


def test_a_finished_run_is_gone_on_with_for_more_epochs(copy, flags, weights, tmp_path):
    assert main(["fit", "--resume", str(copy), "--trainer.max_epochs", "3"]) == 0
    three = fit(flags(tmp_path, "--name", "three", "--trainer.max_epochs", "3")).run.path
    own, theirs = weights(copy), weights(three)
    assert all(torch.equal(own[k], theirs[k]) for k in own)
    assert steps_in(copy) == steps_in(three)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--data.batch_size", "4"], "trained by 6 batches of 8 clips an epoch, not 12 of 4"),
        (["--model.front", "rgb"], "is a checkpoint of srm_cnn"),
    ],
)
def test_a_resume_that_would_be_another_training_is_refused(more, said, copy, capsys):
    assert main(["fit", "--resume", str(copy), "--trainer.max_epochs", "3", *more]) == 2
    assert said in capsys.readouterr().err


def test_a_torn_last_checkpoint_is_one_line_that_says_how_to_go_on(copy, capsys):
    last = copy / "checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:500])
    assert main(["fit", "--resume", str(copy)]) == 2
    error = capsys.readouterr().err
    assert "is damaged" in error
    assert f"cp {copy}/checkpoints/best.ckpt {last}" in error


def test_a_run_without_a_checkpoint_or_no_run_at_all_is_one_line(copy, tmp_path, capsys):
    for path in (copy / "checkpoints").iterdir():
        path.unlink()
    assert main(["fit", "--resume", str(copy)]) == 2
    assert "the run has saved none yet" in capsys.readouterr().err
    assert main(["fit", "--resume", str(tmp_path)]) == 2
    assert "is no run directory" in capsys.readouterr().err


def test_rows_that_a_killed_run_wrote_after_its_checkpoint_are_replaced(copy, tmp_path):
    from dfdet.training.callbacks import MetricsFile

    rows = (copy / "metrics.csv").read_text()
    log = MetricsFile(copy / "metrics.csv")
    log.log_metrics({"train/loss": 0.5}, step=6)
    log.save()
    assert [step for step, _ in steps_in(copy)] == [0, 5, 6]
    assert (copy / "metrics.csv").read_text().splitlines()[:3] == [
        line + ("," if number else ",train/loss") for number, line in enumerate(rows.splitlines()[:3])
    ]


@pytest.mark.slow
def test_ctrl_c_typed_at_a_terminal(finished, flags, weights, tmp_path, dfdet_command):
    run = tmp_path / "default/x"
    more = ("--name", "x", "--trainer.max_epochs", "40", "--data.num_workers", "2")
    child = subprocess.Popen(
        [*dfdet_command, "fit", *flags(tmp_path, *more)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("epoch 1:"):
            time.sleep(0.1)
            os.killpg(child.pid, signal.SIGINT)  # as a terminal does: to loader workers as well
            break
    said = child.stderr.read()
    assert child.wait(60) == 130
    assert f"go on with: dfdet fit --resume {run}" in said
    assert "Traceback" not in said
    stopped_at = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"]
    epochs = str(-(-stopped_at // 6))
    subprocess.run([*dfdet_command, "fit", "--resume", str(run), "--trainer.max_epochs", epochs], check=True)
    whole = fit(flags(tmp_path, "--name", "whole", "--trainer.max_epochs", epochs)).run.path
    own, theirs = weights(run), weights(whole)
    assert all(torch.equal(own[k], theirs[k]) for k in own)
