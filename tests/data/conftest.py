"""What the data tests share: a data module on the tiny corpus, and how batches are compared."""

from __future__ import annotations

import pytest

from dfdet.data.module import CropOptions, VideoDataModule


@pytest.fixture(scope="session")
def module_of(tiny):
    """Makes a data module on the tiny corpus with small defaults; any option can be given."""

    def make(**options):
        given = {
            "train": str(tiny / "tiny.parquet"),
            "crop": CropOptions(size=32),
            "batch_size": 8,
            "num_workers": 0,
            **options,
        }
        return VideoDataModule(**given)

    return make


@pytest.fixture(scope="session")
def content():
    """Everything of a batch as plain bytes and lists, so that == compares it bit for bit."""

    def of(batch):
        tensors = {name: value for name, value in vars(batch).items() if name != "errors"}
        return {name: (str(t.dtype), tuple(t.shape), t.numpy().tobytes()) for name, t in tensors.items()}

    return of
