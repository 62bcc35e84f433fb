"""What the store tests share: a small store, and a disk that fills up."""

import os
import subprocess

import pytest
from store_clips import fill, spec

from dfdet.store import CropStore, writing


@pytest.fixture
def ten_a_shard(monkeypatch):
    monkeypatch.setattr(writing, "SHARD_BYTES", 10 * spec().record_bytes)


@pytest.fixture
def filled(tmp_path, ten_a_shard):
    """A store of 25 clips in three shards."""
    store = CropStore.open(tmp_path / "store", spec())
    writer = store.writer()
    fill(writer, range(25))
    writer.close()
    return tmp_path / "store"


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a disk of so many KiB; skips where this may not be done."""
    mounted = []

    def mount(kibibytes):
        folder = tmp_path / "disk"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(folder)], capture_output=True, check=False
        )
        if os.name != "posix" or done.returncode != 0:
            pytest.skip("a small disk cannot be mounted here (not root, or no mount command)")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)
