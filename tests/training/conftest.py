"""One finished run that most tests of training read, and the flags that made it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

Flags = Callable[..., list[str]]


@pytest.fixture(scope="session")
def flags(tiny: Path) -> Flags:
    """Flags of a fit of two epochs of six batches: ``flags(runs, "--name", "x", model="meso4")``."""

    def of(runs: Path, *more: str, model: str = "srm_cnn") -> list[str]:
        head = ["--model.head", "gap"] if model == "srm_cnn" else []
        return [
            *("--model", model, *head, "--model.size", "32", "--data.crop.mode", "native"),
            *("--data.train", str(tiny / "tiny.parquet"), "--data.batch_size", "8", "--data.eval_clips", "2"),
            *("--data.num_workers", "0", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"),
            *("--runs", str(runs), *more),
        ]

    return of


@pytest.fixture(scope="session")
def finished(flags: Flags, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run of two epochs. Read it, never write into it."""
    from dfdet.training.workflow import fit

    return fit(flags(tmp_path_factory.mktemp("runs"), "--name", "finished")).run.path


@pytest.fixture(scope="session")
def weights() -> Callable[[Path, str], dict[str, torch.Tensor]]:
    """The weights in a run's checkpoint, loaded as tensors only."""

    def of(run: Path, which: str = "last") -> dict[str, torch.Tensor]:
        return torch.load(run / "checkpoints" / f"{which}.ckpt", weights_only=True)["state_dict"]

    return of
