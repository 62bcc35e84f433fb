"""Whatever a file holds, it is tensors or one line that says what it is; nothing in it is ever carried out."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import tarfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dfdet.errors import UserError
from dfdet.weights.reading import WeightsError, read

torch.set_num_threads(1)


def state():
    return {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.ones(2)}


def same(found):
    return found.keys() == state().keys() and all(torch.equal(found[key], value) for key, value in state().items())


def legacy(value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [torch.save, legacy])
@pytest.mark.parametrize("wrap", ["bare", "net", "state_dict", "model_state_dict", "parallel", "parameters"])
def test_a_state_dict_is_found_in_whatever_holds_it(tmp_path, write, wrap):
    tensors = state()
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(2))])
    content = {
        "bare": tensors,
        "parallel": {f"module.{key}": value for key, value in tensors.items()},
        "parameters": {key: nn.Parameter(value) for key, value in tensors.items()},
        # as icpr2020dfdc's training writes it
        "net": {"net": tensors, "opt": optimizer.state_dict(), "val_loss": 0.3, "iteration": 5},
    }.get(wrap, {wrap: tensors, "epoch": 3})
    write(content, tmp_path / "w.pth")
    assert same(read(tmp_path / "w.pth").state)


def test_the_content_decides_and_not_the_name(tmp_path):
    torch.save(state(), tmp_path / "download")
    assert same(read(tmp_path / "download").state)
    save_file(state(), tmp_path / "w.pth", metadata={"source": "x"})
    found = read(tmp_path / "w.pth")
    assert same(found.state)
    assert found.notes == {"source": "x"}


class Gadget:
    def __reduce__(self):
        return os.system, ("touch exploded",)


class Own(nn.Module):
    pass


@pytest.mark.parametrize("write", [torch.save, legacy])
@pytest.mark.parametrize(
    ("content", "offender"),
    [
        ({"net": state(), "loss": np.float64(0.3)}, r"numpy\S*multiarray\S*"),
        ({"net": state(), "seen": np.arange(3)}, r"numpy\S*multiarray\S*"),
        ({"net": state(), "args": argparse.Namespace(lr=1)}, r"argparse\.Namespace"),
        ({"net": state(), "path": Path("x")}, r"pathlib\S*"),
        (Own(), r"test_reading\.Own"),
        ({"net": Gadget()}, "posix"),
    ],
)
def test_what_would_have_to_be_unpickled_is_refused_by_name(tmp_path, monkeypatch, write, content, offender):
    monkeypatch.chdir(tmp_path)
    write(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=rf"w\.pth \(.*torch's .*\) holds more than .* \({offender}") as raised:
        read(tmp_path / "w.pth")
    assert "save its state_dict() as .safetensors" in str(raised.value)
    assert isinstance(raised.value, UserError)
    assert not (tmp_path / "exploded").exists()


def archive():
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("storages"))
    return memory.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"\(0 bytes\) is empty; download it again"),
        (b"<!DOCTYPE html><html>Sign in", "is an HTML page, not the file itself; the link wants a browser"),
        (b"\n  <HTML><body>404", "is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "is a Git LFS pointer.*git lfs pull"),
        (pickle.dumps({"state_dict": 1}), "is a plain pickle; load it where you trust it"),
        (pickle.dumps(Gadget()), "is a plain pickle"),
        (archive(), "is a tar archive; unpack it"),
        (b"nothing of use", "is of no known kind; known are"),
        (b"\x40\x00\x00\x00\x00\x00\x00\x00{not json", "cannot be read as safetensors"),
    ],
)
def test_what_is_no_file_of_weights_is_told_by_its_first_bytes(tmp_path, monkeypatch, content, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=said) as raised:
        read(tmp_path / "w.pth")
    assert str(tmp_path / "w.pth") in str(raised.value)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("write", [torch.save, legacy, save_file])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.98])
def test_a_file_that_was_cut_is_damaged(tmp_path, write, share):
    tensors = {"weight": torch.ones(100, 100)}
    write(tensors, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(WeightsError, match=r"cut \(.*(cannot be read|damaged)"):
        read(tmp_path / "cut")


@pytest.mark.parametrize("write", [torch.save, legacy, save_file])
def test_flipped_bytes_give_tensors_or_one_line_and_never_a_traceback(tmp_path, write):
    write(state(), tmp_path / "whole")
    whole = bytearray((tmp_path / "whole").read_bytes())
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        broken = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            broken[place] = rng.integers(256)
        (tmp_path / "broken").write_bytes(broken)
        with suppress(UserError):  # any other error is a failure
            read(tmp_path / "broken")
            continue
        refused += 1
    assert refused > 10


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    tensors = state()
    tensors["conv.bias"][1] = value
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"conv\.bias holds values that are not finite"):
        read(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "has"), [({"epoch": 3, "loss": 0.1}, "epoch, loss"), ([1, 2], "list"), ({}, "nothing")]
)
def test_plain_values_without_tensors_are_no_state_dict(tmp_path, content, has):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=rf"w\.pt holds no state dict \(it has: {has}\)"):
        read(tmp_path / "w.pt")


def test_a_file_that_is_absent_is_told(tmp_path):
    with pytest.raises(WeightsError, match="is not a file"):
        read(tmp_path / "absent.pt")
    with pytest.raises(WeightsError, match="is not a file"):
        read(tmp_path)
