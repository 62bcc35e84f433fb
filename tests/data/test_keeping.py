"""What a loader process promises of its files: read for their hash once, and again when somebody has touched them."""

from __future__ import annotations

import os
import shutil

import pytest

from dfdet import files
from dfdet.data import keeping
from dfdet.data.keeping import Unchanged
from dfdet.video import ReadError


@pytest.fixture
def hashed(monkeypatch):
    """The files that were read for their hash, in order."""
    read = []
    real = files.sha256

    def sha256(path):
        read.append(path)
        return real(path)

    monkeypatch.setattr(keeping.files, "sha256", sha256)
    return read


@pytest.fixture
def items(module_of):
    return module_of().items("train")


def test_a_file_is_hashed_when_it_is_first_met_only(items, hashed):
    unchanged = Unchanged(items)
    for _ in range(3):
        unchanged.check(0, items.path(0))
        unchanged.check(1, items.path(1))
    assert hashed == [items.path(0), items.path(1)]


def test_one_that_was_touched_is_hashed_again_and_refused_if_its_bytes_differ(items, hashed, tmp_path):
    copy = shutil.copy(items.path(0), tmp_path / "copy.mp4")
    unchanged = Unchanged(items)
    unchanged.check(0, copy)
    os.utime(copy, ns=(1, 1))
    unchanged.check(0, copy)
    assert len(hashed) == 2
    data = bytearray(copy.read_bytes())
    data[len(data) // 2] ^= 1
    copy.write_bytes(data)
    with pytest.raises(ReadError, match="as many bytes, but others"):
        unchanged.check(0, copy)
    copy.write_bytes(data[:-1])
    with pytest.raises(ReadError, match=r"it has changed since it was indexed \(\d+ bytes then"):
        unchanged.check(0, copy)
    copy.unlink()
    with pytest.raises(FileNotFoundError):
        unchanged.check(0, copy)
