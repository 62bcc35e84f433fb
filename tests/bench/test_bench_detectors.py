"""`dfdet bench detectors` and `convergence`: rows that follow from runs, which stay and are not made twice."""

from __future__ import annotations

import json

import pytest
import torch

from dfdet.bench.convergence import Curve, Look
from dfdet.bench.detectors import Settings, run, table_of
from dfdet.cli import main
from dfdet.errors import UserError
from dfdet.evaluation import read_scores, summarise


@pytest.fixture(scope="module")
def compared(tiny, tmp_path_factory):
    """Meso4_150 for two seconds and the noise boosting, in one folder of runs."""
    out = tmp_path_factory.mktemp("runs") / "compared"
    settings = Settings(tiny / "tiny.parquet", None, out, ["meso4_150", "noise_gbm"], 2, 0)
    return settings, run(settings)


def test_rows_are_those_of_the_score_files(compared):
    settings, rows = compared
    assert [row["note"] for row in rows] == [None, None]
    for row in rows:
        (path,) = (settings.out / row["detector"] / "run" / "scores").glob("*-test.parquet")
        assert row["test_auroc"] == summarise(read_scores(path)).levels["video"].auroc
        assert row["steps"] > 0
        assert row["seconds"] > 0
    cells = {row[0]: row for row in table_of(rows, settings).rows}
    assert cells["meso4_150"][1] == 17_993
    assert cells["noise_gbm"][1] is None


def test_what_is_finished_is_not_done_again_and_other_settings_are_refused(compared):
    settings, rows = compared
    before = {path: path.stat().st_mtime_ns for path in settings.out.rglob("*") if path.is_file()}
    assert run(settings) == rows
    assert {path: path.stat().st_mtime_ns for path in settings.out.rglob("*") if path.is_file()} == before
    with pytest.raises(UserError, match="other settings"):
        run(Settings(settings.manifest, None, settings.out, ["meso4_150"], 3, 0))


def test_an_unknown_detector_is_named(tiny, capsys):
    assert main(["bench", "detectors", "--manifest", str(tiny / "tiny.parquet"), "--detectors", "meso5"]) == 2
    assert "did you mean 'meso4'?" in capsys.readouterr().err


def test_the_first_look_at_which_a_level_was_reached_counts():
    curve = Curve(60.0)
    values = [(10, 0.5, 0.86), (20, 0.85, 0.8), (30, 0.84, 0.95)]
    curve.looks = [Look(step, step / 10, step / 20, val, train) for step, val, train in values]
    assert [look and look.step for look in map(curve.reached, (0.85, 0.90))] == [20, None]
    assert [curve.reached(level, training=True).step for level in (0.85, 0.90)] == [10, 30]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--steps", "4"], "--steps 4 ends before the first look"),
        (["--seeds", "0"], "--seeds is 0"),
    ],
)
def test_a_convergence_that_would_show_nothing_is_refused(tiny, more, said, capsys):
    assert main(["bench", "convergence", "--manifest", str(tiny / "tiny.parquet"), *more]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_convergence_counts_steps_and_the_share_that_is_right(tiny, tmp_path, capsys):
    torch.manual_seed(0)
    words = ["--manifest", str(tiny / "tiny.parquet"), "--size", "32", "--steps", "12", "--every", "4"]
    found = tmp_path / "rows.json"
    assert main(["bench", "convergence", *words, "--batch_size", "4", "--seeds", "1", "--json", str(found)]) == 0
    assert "srm_cnn, residuals" in capsys.readouterr().out
    rows = json.loads(found.read_text())["rows"]
    assert {row["subject"] for row in rows} >= {"srm_cnn, RGB", "meso4"}
    for row in rows:
        assert [look["step"] for look in row["looks"]] == [4, 8, 12]
        assert all(0 <= look[part] <= 1 for look in row["looks"] for part in ("val", "train"))
        assert row["seconds"] >= row["compute_seconds"] > 0
        assert row["best_val"] == max(look["val"] for look in row["looks"])
