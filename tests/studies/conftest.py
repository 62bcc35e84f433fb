"""Batches by hand, and one small run on the tiny corpus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dfdet.data.batch import ClipBatch


@pytest.fixture(scope="session")
def batch_of() -> Callable[[torch.Tensor], ClipBatch]:
    """Clips uint8 (B, T, 3, S, S) as a batch."""

    def of(video: torch.Tensor, mask: torch.Tensor | None = None) -> ClipBatch:
        count, frames = video.shape[:2]
        numbers = torch.arange(count)
        return ClipBatch(
            video=video, mask=torch.ones(count, frames, dtype=torch.bool) if mask is None else mask,
            label=numbers % 2, weight=torch.ones(count), item=numbers, track=torch.zeros_like(numbers),
            clip=torch.zeros_like(numbers), frames=torch.arange(frames).repeat(count, 1), pad=torch.zeros(count),
            errors=[],
        )  # fmt: skip

    return of


@pytest.fixture(scope="session")
def small_run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch: srm_cnn at 32 pixels. Read it, never write into it."""
    from dfdet.training.workflow import fit

    words = ["--model", "srm_cnn", "--model.head", "gap", "--model.size", "32", "--data.crop.mode", "native"]
    words += ["--data.train", str(tiny / "tiny.parquet"), "--data.batch_size", "8", "--data.eval_clips", "2"]
    words += ["--data.num_workers", "0", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
    return fit([*words, "--runs", str(tmp_path_factory.mktemp("runs")), "--name", "small"]).run.path
