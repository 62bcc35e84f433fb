"""An estimator's way into a checkpoint and back: the same bytes, the same scores, and nothing that is not trusted."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import skops.io
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from dfdet.classical.block_dct import BlockDCTDetector
from dfdet.classical.dump import dumps, loads
from dfdet.classical.ela import ELADetector
from dfdet.classical.noise import NoiseGBMDetector
from dfdet.errors import UserError

MADE = {
    "noise_gbm": lambda: NoiseGBMDetector(iterations=5),
    "block_dct": lambda: BlockDCTDetector(passes=2),
    "block_dct_gbm": lambda: BlockDCTDetector("gbm", passes=5),
    **{f"ela_{c}": lambda c=c: ELADetector(c, components=5) for c in (
        "svm", "logistic", "random_forest", "gradient_boosting", "adaboost"
    )},
}  # fmt: skip


def table(columns=12):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, columns)).astype(np.float32)
    return features, (features[:, 0] + 0.5 * rng.normal(size=60) > 0).astype(np.int64)


def fitted(name, seed=0):
    features, label = table()
    return MADE[name]().make_estimator(60, seed).fit(features, label)


def answers(estimator):
    features, _ = table()
    return getattr(estimator, "predict_proba", getattr(estimator, "decision_function", None))(features)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", MADE)
def test_every_estimator_comes_back_and_is_the_same_bytes_each_time(name):
    first = dumps(fitted(name))
    back = loads(first, MADE[name]().make_estimator(2, 0), 12)
    # an array that was a view is laid out anew: sums of float32 may differ in their last bits
    assert np.allclose(answers(back), answers(fitted(name)), rtol=1e-5, atol=1e-6)
    assert first == dumps(fitted(name)) == dumps(back)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["noise_gbm", "ela_random_forest"])
def test_another_process_makes_the_same_bytes(name, monkeypatch):
    code = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1]); import test_estimator_dump as t;"
        "print(hashlib.sha256(t.dumps(t.fitted(sys.argv[2]))).hexdigest())"
    )
    from hashlib import sha256
    from pathlib import Path

    command = [sys.executable, "-c", code, str(Path(__file__).parent), name]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == sha256(dumps(fitted(name))).hexdigest()


def test_a_type_that_is_not_trusted_is_refused_and_never_made():
    evil = Pipeline([("scale", FunctionTransformer(subprocess.getoutput)), ("classify", StandardScaler())])
    data = skops.io.dumps(evil)
    with pytest.raises(UserError, match=r"the checkpoint's estimator is not loaded: .*subprocess.getoutput"):
        loads(data, evil, 12)


@pytest.mark.parametrize("data", [b"no zip", b"PK\x05\x06" + bytes(18)], ids=["text", "empty zip"])
def test_a_damaged_one_is_one_line(data):
    with pytest.raises(UserError, match="the checkpoint's estimator is damaged"):
        loads(data, fitted("noise_gbm"), 12)


def test_a_cut_one_is_one_line():
    whole = dumps(fitted("noise_gbm"))
    with pytest.raises(UserError, match="the checkpoint's estimator is damaged"):
        loads(whole[: len(whole) // 2], fitted("noise_gbm"), 12)


def test_another_classifier_or_another_table_is_refused_by_name():
    data = dumps(fitted("ela_svm"))
    with pytest.raises(UserError, match=r"holds PCA \+ SVC, not PCA \+ RandomForestClassifier"):
        loads(data, MADE["ela_random_forest"]().make_estimator(2, 0), 12)
    with pytest.raises(UserError, match="was fitted on 12 features, not 49152"):
        loads(data, MADE["ela_svm"]().make_estimator(2, 0), 49152)
    with pytest.raises(UserError, match=r"holds StandardScaler, not PCA \+ SVC"):
        loads(skops.io.dumps(StandardScaler()), MADE["ela_svm"]().make_estimator(2, 0), 12)
