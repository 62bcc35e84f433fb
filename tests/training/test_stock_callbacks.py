"""Lightning's own callbacks and switches work from the configuration: EMA, SWA, accumulated gradients."""

from __future__ import annotations

import pytest
import torch

from dfdet.training.workflow import evaluate, fit


@pytest.mark.parametrize(
    "more",
    [
        ["--trainer.callbacks+=EMAWeightAveraging"],
        ["--trainer.callbacks+=StochasticWeightAveraging", "--trainer.callbacks.swa_lrs=1e-3"],
        ["--trainer.accumulate_grad_batches=2"],
    ],
    ids=["ema", "swa", "accumulate"],
)
def test_it_trains_saves_and_is_judged_by_what_it_saved(flags, tmp_path, more):
    run = fit(flags(tmp_path, "--name", "x", *more)).run
    again = evaluate(str(run.path), "val")
    assert again.summaries
    saved = torch.load(run.checkpoints / "last.ckpt", weights_only=True)
    assert saved["global_step"] == (6 if "accumulate" in more[0] else 12)
    assert all(torch.isfinite(value).all() for value in saved["state_dict"].values())
