"""A builder for tables of scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def rows() -> Callable[..., pd.DataFrame]:
    """``rows("a", 1, [0.5, 2.0])``: the scored clips of one video; ``rows("b", 0, None)``: a video that was not."""

    def build(video: str, label: int, logits: Sequence[float] | None, **columns: Any) -> pd.DataFrame:
        count = 1 if logits is None else len(logits)
        clip = [None] if logits is None else range(count)
        fixed = {"corpus": "faceforensics", "split": "test", "compression": "c23", "group": f"g{video}"}
        fixed |= {"method": "fake" if label else "real", "track": None if logits is None else 0, "static": None}
        fixed |= {"status": "no face" if logits is None else "ok", "num_frames": 16}
        fixed |= {"clip": clip, "frame": [None if c is None else 16 * c for c in clip], **columns}
        return pd.DataFrame(
            {"video_id": video, "label": label, "logit": [np.nan] if logits is None else logits, **fixed}
        )

    return build


@pytest.fixture
def corpus(rows: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """``corpus(videos=40, seed=0)``: half real, half fake by two methods, four clips each, told apart in part."""

    def build(videos: int = 40, seed: int = 0, missing: int = 0) -> pd.DataFrame:
        random = np.random.default_rng(seed)
        parts = []
        for i in range(videos):
            label, method = i % 2, ("real", "Deepfakes", "real", "FaceSwap")[i % 4]
            logits = None if i < missing else (random.normal(size=4) + label).round(1)
            parts.append(rows(f"{method}/{i:03d}", label, logits, method=method, group=f"p{i // 2}"))
        return pd.concat(parts, ignore_index=True)

    return build
