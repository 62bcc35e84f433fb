"""An empty cache, and the keys of the published networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of the user's; converted weights lie in its folder ``weights``."""
    monkeypatch.setenv("DFDET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def published_shapes(sample_media):
    """The original networks' keys with dtype and shape: {net: {key: [dtype, shape]}}."""
    folder = sample_media.parent / "reference" / "weights"
    if not folder.is_dir():
        pytest.skip(f"no state dicts of the original networks at {folder}")
    found = {}
    for name in ("ispl_state_dicts", "deepfakebench_state_dicts", "resnext_lstm_state_dict"):
        content = json.loads((folder / f"{name}.json").read_text())
        content = content if name != "resnext_lstm_state_dict" else {"ResNeXt50-LSTM": _innermost(content)}
        found |= {net: keys for net, keys in content.items() if isinstance(keys, dict)}
    return found


def _innermost(content):
    inner = [value for value in content.values() if isinstance(value, dict)]
    return inner[0] if inner else content
