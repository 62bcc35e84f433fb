"""What several test modules share: where the sample media lie, and a tiny demo corpus made and indexed once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from filelock import FileLock

DEFAULT_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"

# tests decode, train and fork on two cores: threads of the libraries would only fight
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


@pytest.fixture(autouse=True)
def _the_same_draws() -> None:
    """What a test draws without a seed of its own does not depend on the tests before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)


@pytest.fixture(scope="session")
def sample_media() -> Path:
    """The folder of sample media (real files that may not be redistributed); skips where it is absent."""
    folder = Path(os.environ.get("DFDET_TEST_DATA", DEFAULT_DATA)).resolve()
    if not folder.is_dir():
        pytest.skip(f"no sample media at {folder}: set DFDET_TEST_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def dfdet_command() -> list[str]:
    """The command as a user's shell would find it."""
    return [sys.executable, "-m", "dfdet"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder with ``corpus/`` (a small demo corpus), ``tiny.parquet`` and ``tiny.faces.parquet``, made once a run.

    Shared by all workers of the run and by many tests: read it, never write into it.
    """
    base = tmp_path_factory.getbasetemp()
    home = (base if worker_id == "master" else base.parent) / "tiny"
    with FileLock(f"{home}.lock"):
        if not (home / "tiny.parquet").is_file():
            from dfdet.cli import main
            from dfdet.demo.corpus import make

            make(home / "corpus", identities=6, frames=24, strength=1.0, workers=2, size=(256, 192))
            command = ["index", "csv", str(home / "corpus"), "--name", "demo", "--detector", "dlib"]
            code = main([*command, "--detector_size", "256", "--out", str(home / "tiny.parquet"), "--workers", "2"])
            assert code == 0
    return home
