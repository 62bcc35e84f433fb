"""The classical detectors behind fit, validate, test and predict, and what is refused in one line."""

from __future__ import annotations

import os
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import dfdet
from dfdet.classical import base
from dfdet.classical.fitting import fit_on
from dfdet.classical.noise import NoiseGBMDetector
from dfdet.cli import main
from dfdet.data.batch import ClipSample, collate
from dfdet.training.parser import config_home

FAMILIES = ["noise_gbm", "block_dct", "ela"]
CONFIGS = sorted(p.stem for f in ("noise_gbm*", "block_dct*", "ela") for p in config_home().glob(f"detector/{f}.yaml"))


def checkpoint(run, which="last"):
    return torch.load(run / "checkpoints" / f"{which}.ckpt", weights_only=True)


def scores(run, split="val"):
    return pd.read_parquet(run / f"scores/demo-{split}.parquet")


def one_error(capsys):
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dfdet: error: ")]
    assert len(errors) == 1
    return errors[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_goes_the_whole_way_through_fit_test_and_predict(family, fitted, tiny, tmp_path):
    shutil.copytree(fitted(family), run := tmp_path / family)
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    found = scores(run)
    assert np.isfinite(found.loc[found["status"] == "ok", "logit"]).all()
    assert found["logit"].nunique() > 2
    assert main(["test", "--run", str(run)]) == 0
    assert np.isfinite(scores(run, "test").loc[scores(run, "test")["status"] == "ok", "logit"]).all()
    video = next(iter((tiny / "corpus").rglob("*swap*.mp4")))
    prediction = dfdet.load(str(run)).predict(video)
    assert np.isfinite(prediction.videos["logit"]).all()
    assert prediction.threshold == prediction.threshold


@pytest.mark.parametrize("family", FAMILIES)
def test_one_epoch_is_one_model_for_any_number_of_workers(family, fitted, few, tmp_path):
    assert main(["fit", *few(family, tmp_path, "--name", "two", "--data.num_workers", "2")]) == 0
    one, two = (checkpoint(run)["state_dict"] for run in (fitted(family), tmp_path / "default/two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert scores(fitted(family)).equals(scores(tmp_path / "default/two"))


def test_the_checkpoint_holds_the_estimator_as_bytes_and_no_table(fitted):
    found = checkpoint(fitted("noise_gbm"))
    dump = found["state_dict"]["_extra_state"]
    assert dump.dtype == torch.uint8
    assert bytes(dump[:2].tolist()) == b"PK"
    assert "classical" not in found
    assert found["dfdet"]["model"] == "noise_gbm"


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_every_configuration_runs(config, few, tmp_path):
    family = next(f for f in FAMILIES if config.startswith(f))
    assert main(["fit", *few(family, tmp_path, "--name", "x", config=config)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("classifier", ["logistic", "random_forest", "gradient_boosting", "adaboost"])
def test_every_classifier_of_ela_runs(classifier, few, tmp_path):
    assert main(["fit", *few("ela", tmp_path, "--name", "x", "--model.classifier", classifier)]) == 0
    assert np.isfinite(scores(tmp_path / "default/x")["logit"].dropna()).all()


def test_a_finished_run_is_gone_on_with_without_a_change(fitted, tmp_path):
    shutil.copytree(fitted("noise_gbm"), run := tmp_path / "again")
    before, was = checkpoint(run)["state_dict"], scores(run)
    assert main(["fit", "--resume", str(run)]) == 0
    assert all(torch.equal(value, before[key]) for key, value in checkpoint(run)["state_dict"].items())
    assert scores(run).equals(was)


def test_an_interrupted_epoch_is_gone_on_with_to_the_same_model(fitted, few, tmp_path, monkeypatch):
    from dfdet.training.callbacks import Interrupt

    def second_batch(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 1:
            self.pressed = True
        return unchanged(self, trainer, pl_module, outputs, batch, batch_idx)

    unchanged = Interrupt.on_train_batch_end
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "on_train_batch_end", second_batch)
        with pytest.raises(SystemExit, match="130"):
            main(["fit", *few("noise_gbm", tmp_path, "--name", "x")])
    run = tmp_path / "default/x"
    assert len(checkpoint(run)["classical"]["features"]) == 16
    assert main(["fit", "--resume", str(run)]) == 0
    assert torch.equal(*(checkpoint(r)["state_dict"]["_extra_state"] for r in (run, fitted("noise_gbm"))))


def test_an_estimator_that_holds_an_untrusted_type_is_refused(fitted, tmp_path, capsys):
    shutil.copytree(fitted("noise_gbm"), run := tmp_path / "evil")
    found = checkpoint(run, "best")
    evil = Pipeline([("scale", FunctionTransformer(subprocess.getoutput)), ("classify", StandardScaler())])
    found["state_dict"]["_extra_state"] = torch.frombuffer(bytearray(skops.io.dumps(evil)), dtype=torch.uint8)
    torch.save(found, run / "checkpoints/best.ckpt")
    assert main(["test", "--run", str(run)]) == 2
    assert "the checkpoint's estimator is not loaded" in (said := one_error(capsys))
    assert "subprocess.getoutput" in said


def test_a_run_whose_estimator_is_of_other_settings_is_refused(fitted, capsys):
    assert main(["test", "--run", str(fitted("ela")), "--model.classifier", "logistic"]) == 2
    assert "the checkpoint holds PCA + SVC, not PCA + LogisticRegression" in one_error(capsys)


REFUSED = [
    (["--trainer.max_epochs", "2"], "the training clips once, trainer.max_epochs is 2; set --trainer.max_epochs 1"),
    (["--trainer.val_check_interval", "1"], "fitted at the end of its epoch, but validation is to come before it"),
    (["--data.clip.frames", "5"], "noise_gbm wants clips of 4 frames, these have 5; set --data.clip.frames 4"),
    (["--model.max_clips", "1"], "a table of 1 features is nothing to learn from"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "said"), REFUSED, ids=[r[0][0] for r in REFUSED])
def test_what_cannot_work_is_one_line_and_leaves_no_run(more, said, few, tmp_path, capsys):
    assert main(["fit", *few("noise_gbm", tmp_path, "--name", "x", *more)]) == 2
    assert said in one_error(capsys)
    assert not (tmp_path / "default/x").exists()


def nothing(self, batch, training):
    return np.empty((0, self.columns), np.float32), np.empty(0, np.int64)


def undefined(self, batch, training):
    features = np.zeros((len(batch), self.columns), np.float32)
    features[batch.label.numpy() == 1, 2] = np.nan
    return features, np.arange(len(batch))


def one_class(self, batch, training):
    real = np.flatnonzero(batch.label.numpy() == 0)
    return np.zeros((len(real), self.columns), np.float32), real


@pytest.mark.parametrize(
    ("extract", "said"),
    [
        (nothing, "the table of features is empty: no training clip gave any"),
        (undefined, "rows of features are not finite, in 1 of 56 columns (first: column 2)"),
        (one_class, "the table of features holds only real clips; both are needed"),
    ],
)
def test_a_table_that_nothing_can_be_learnt_from_is_one_line(extract, said, few, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(NoiseGBMDetector, "extract", extract)
    assert main(["fit", *few("noise_gbm", tmp_path, "--name", "x")]) == 2
    assert said in one_error(capsys)
    assert not (tmp_path / "default/x").exists()


def test_a_detector_that_was_never_fitted_says_so(batch_of):
    from dfdet.errors import UserError

    with pytest.raises(UserError, match="the detector was never fitted; train it to the end"):
        NoiseGBMDetector(frames=2, size=24).predict_step(batch_of(torch.zeros(1, 2, 3, 24, 24, dtype=torch.uint8)), 0)


def test_the_table_is_announced_and_bounded(few, tmp_path, capsys, monkeypatch):
    lengths = []
    monkeypatch.setattr(base, "fit_on", lambda table, make: lengths.append(len(table)) or fit_on(table, make))
    assert main(["fit", *few("block_dct", tmp_path, "--name", "x", "--model.max_blocks", "30")]) == 0
    said = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("features of"))
    assert "at most 30 rows of 1280 numbers, drawn by seed from at most" in said
    assert lengths == [30]


def batch_with(video):
    return collate([
        ClipSample(clip.permute(0, 2, 3, 1).numpy(), np.ones(len(clip), bool), np.arange(len(clip)), 0, 0, number, 0)
        for number, clip in enumerate(video)
    ])  # fmt: skip


def test_the_map_of_blocks_averages_to_the_score(fitted):
    detector = dfdet.load(str(fitted("block_dct"))).model
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[1, :, 40:] = 0
    scores = detector.block_scores(images)
    assert scores.shape == (2, 2, 2)
    assert scores[1].isnan().tolist() == [[False, False], [True, True]]
    whole = batch_with(images[:, None])
    logit = detector.predict_step(whole, 0)["logit"]
    assert torch.allclose(torch.sigmoid(logit), torch.sigmoid(scores).nanmean((1, 2)), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_clip_s_score_is_its_own(family, fitted):
    detector = dfdet.load(str(fitted(family))).model
    frames, size = getattr(detector, "frames", 1), detector.input_size
    draw = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (3, frames, 3, size, size), dtype=torch.uint8, generator=draw)
    whole = batch_with(video)
    logit = detector.predict_step(whole, 0)["logit"]
    for place in range(3):
        alone = detector.predict_step(whole.select(torch.arange(3) == place), 0)["logit"]
        assert torch.allclose(alone, logit[place : place + 1], atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(detector.predict_step(whole, 0)["logit"], logit, atol=1e-4)


@pytest.mark.slow
def test_two_processes_fit_the_model_of_the_rows_of_both(few, fitted, tmp_path, dfdet_command):
    more = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "4", "--name", "two")
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "DFDET_RUN")}
    command = [*dfdet_command, "fit", *few("noise_gbm", tmp_path, *more)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "default/two"
    # the same visits in other batches: the same rows, sorted, the same model
    assert torch.equal(*(checkpoint(r)["state_dict"]["_extra_state"] for r in (run, fitted("noise_gbm"))))
