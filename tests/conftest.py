"""What several test modules share: where the sample media lie, and tiny real videos made once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DEFAULT_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def sample_media() -> Path:
    """The folder of sample media (real files that may not be redistributed); skips where it is absent."""
    folder = Path(os.environ.get("DFDET_TEST_DATA", DEFAULT_DATA)).resolve()
    if not folder.is_dir():
        pytest.skip(f"no sample media at {folder}: set DFDET_TEST_DATA to the folder that holds them")
    return folder
