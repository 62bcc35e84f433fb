"""Checkpoints are whole or not there, and never unpickled."""

from __future__ import annotations

import errno
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from dfdet.errors import UserError
from dfdet.training.checkpoint_io import AtomicCheckpointIO, load_into, read_checkpoint

KILLED = """
import sys, torch
from dfdet.training.checkpoint_io import AtomicCheckpointIO
io, path = AtomicCheckpointIO(), sys.argv[1]
number = 0
while True:
    io.save_checkpoint({"state_dict": {"w": torch.full((200_000,), float(number))}, "number": number}, path)
    if number == 0: print("saving", flush=True)
    number += 1
"""


@pytest.mark.slow
def test_a_kill_in_the_midst_of_saving_never_leaves_a_torn_file(tmp_path):
    path = tmp_path / "last.ckpt"
    for attempt in range(8):
        saver = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
        assert saver.stdout is not None
        assert saver.stdout.readline() == "saving\n"
        time.sleep(0.02 + 0.013 * attempt)
        saver.send_signal(signal.SIGKILL)
        saver.wait()
        found = read_checkpoint(path)
        assert (found["state_dict"]["w"] == found["number"]).all()


@pytest.mark.parametrize("at", ["torch.save", "os.fsync"])
def test_a_full_disk_keeps_the_checkpoint_that_was_there(at, tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "number": 1}, path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(at, full)
    with pytest.raises(OSError, match="No space left"):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "number": 2}, path)
    monkeypatch.undo()
    assert read_checkpoint(path)["number"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_what_could_not_be_loaded_again_is_refused_when_it_is_saved(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "number": 1}, path)
    with pytest.raises(UserError, match=r"more than tensors and plain values.*Path"):
        AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "hyper_parameters": {"x": Path()}}, path)
    assert read_checkpoint(path)["number"] == 1


@pytest.mark.parametrize("damage", ["half", "empty", "flipped", "text"])
def test_a_damaged_checkpoint_is_one_line(damage, tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"w": torch.zeros(1000)}}, path)
    whole = path.read_bytes()
    path.write_bytes(
        {"half": whole[: len(whole) // 2], "empty": b"", "flipped": b"XX" + whole[2:], "text": b"hello"}[damage]
    )
    with pytest.raises(UserError) as raised:
        read_checkpoint(path)
    assert str(path) in str(raised.value)
    assert "damaged" in str(raised.value)
    assert "weights_only" not in str(raised.value)  # torch's advice to load it unsafely is not passed on


def test_a_pickle_is_refused_and_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    pickled, saved = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    pickled.write_bytes(pickle.dumps({"state_dict": Trap()}))
    torch.save({"state_dict": Trap()}, saved)
    for path in (pickled, saved):
        with pytest.raises(UserError, match="cannot be loaded safely or is damaged"):
            read_checkpoint(path)
    assert not (tmp_path / "sprung").exists()


def test_a_file_without_weights_is_no_checkpoint(tmp_path):
    torch.save({"w": torch.zeros(1)}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="no checkpoint of dfdet"):
        read_checkpoint(tmp_path / "x.ckpt")
    with pytest.raises(UserError, match="does not exist"):
        read_checkpoint(tmp_path / "y.ckpt")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (nn.Sequential(nn.Linear(3, 2)), "0.weight has shape"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "1.weight is unknown here"),
        (nn.Sequential(), "0.weight is absent"),
    ],
)
def test_a_checkpoint_of_another_architecture_is_refused_by_name_and_loads_nothing(other, said, tmp_path):
    own = nn.Sequential(nn.Linear(2, 2))
    before = own[0].weight.detach().clone()
    checkpoint = {"state_dict": other.state_dict(), "dfdet": {"model": "meso4"}}
    AtomicCheckpointIO().save_checkpoint(checkpoint, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match=f"is a checkpoint of meso4, not of Sequential: .*{said}"):
        load_into(own, tmp_path / "x.ckpt")
    assert torch.equal(own[0].weight, before)
