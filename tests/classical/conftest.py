"""Batches made by hand, and fits of the classical detectors on the tiny corpus through the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dfdet.data.batch import ClipBatch

FEW = {
    "noise_gbm": [
        *("--model.frames", "4", "--data.clip.frames", "4", "--data.clip.stride", "2"),
        *("--model.size", "40", "--data.clips_per_visit", "4", "--model.iterations", "5"),
    ],
    "block_dct": ["--model.size", "64", "--model.passes", "5", "--data.crop.pad", "zero"],
    "ela": ["--model.size", "32", "--model.components", "8"],
}


@pytest.fixture(scope="session")
def batch_of() -> Callable[..., ClipBatch]:
    """A batch of given pixels, uint8 (B, T, 3, S, S); labels alternate."""

    def make(video: torch.Tensor, mask: torch.Tensor | None = None, first: int = 0) -> ClipBatch:
        count, frames = video.shape[:2]
        return ClipBatch(
            video=video,
            mask=torch.ones(count, frames, dtype=torch.bool) if mask is None else mask,
            label=torch.arange(count) % 2,
            weight=torch.ones(count),
            item=torch.arange(count) + first,
            track=torch.zeros(count, dtype=torch.int64),
            clip=torch.zeros(count, dtype=torch.int64),
            frames=torch.arange(frames).expand(count, frames),
            pad=torch.zeros(count),
            errors=[],
        )

    return make


@pytest.fixture(scope="session")
def few(tiny: Path) -> Callable[..., list[str]]:
    """Flags of a small fit on the tiny corpus: ``few("ela", runs, "--name", "x", config="ela")``."""

    def of(family: str, runs: Path, *more: str, config: str | None = None) -> list[str]:
        return [
            *("--config", f"detector/{config or family}.yaml", *FEW[family]),
            *("--data.train", str(tiny / "tiny.parquet"), "--data.batch_size", "8", "--data.eval_clips", "2"),
            *("--data.num_workers", "0", "--trainer.accelerator", "cpu", "--runs", str(runs), *more),
        ]

    return of


@pytest.fixture(scope="session")
def fitted(few: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a finished run of a family, made once. Read it, never write into it."""
    from dfdet.cli import main

    runs = tmp_path_factory.mktemp("classical")

    def of(family: str) -> Path:
        run = runs / "default" / family
        if not run.exists():
            assert main(["fit", *few(family, runs, "--name", family)]) == 0
        return run

    return of
