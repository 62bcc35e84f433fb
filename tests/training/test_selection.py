"""What chooses the model: a validation split with both classes, of a corpus that is trained on."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from dfdet import manifest
from dfdet.cli import main
from dfdet.evaluation import read_scores


@pytest.fixture
def changed(tiny, tmp_path):
    """Writes a copy of the tiny manifest with its table changed."""

    def write(name: str, change) -> str:
        found = manifest.read(tiny / "tiny.parquet")
        tracks = pd.read_parquet(tiny / "tiny.faces.parquet")
        meta = {k: v for k, v in found.meta.items() if k not in ("schema", "version")} | {"root": str(found.root)}
        path = tmp_path / f"{name}.parquet"
        manifest.write(path, change(found.table.copy()), tracks, meta)
        return str(path)

    return write


def without_val(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"] != "val"]


def without_real_val(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["split"] != "val") | (table["label"] == 1)]


def without_fake_train(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["split"] != "train") | (table["label"] == 0)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_val, "the validation split is empty in"),
        (without_real_val, "the validation split holds only fake videos"),
        (without_fake_train, "the training split holds only real videos"),
    ],
)
def test_a_split_that_is_empty_or_has_one_class_is_refused(change, said, changed, flags, tmp_path, capsys):
    path = changed("less", change)
    assert main(["fit", *flags(tmp_path / "runs", "--data.train", path)]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def other(changed):
    """The same videos as another corpus."""
    return changed("other", lambda table: table.assign(corpus="other"))


def test_a_validation_corpus_that_is_not_trained_on_is_refused(other, flags, tmp_path, capsys):
    assert main(["fit", *flags(tmp_path / "runs", "--data.val", other)]) == 2
    error = capsys.readouterr().err
    assert "validation is on other, which is not trained on" in error
    assert "--allow_target_selection true" in error
    assert not (tmp_path / "runs").exists()


def test_allowed_it_goes_on_and_stamps_every_score(other, flags, tmp_path):
    more = ("--name", "x", "--data.val", other, "--allow_target_selection", "true", "--trainer.max_epochs", "1")
    assert main(["fit", *flags(tmp_path / "runs", *more)]) == 0
    run = tmp_path / "runs/default/x"
    assert main(["test", "--run", str(run)]) == 0
    stamp = ["target used for selection"]
    assert read_scores(run / "scores/other-val.parquet").stamps == stamp
    assert read_scores(run / "scores/demo-test.parquet").stamps == stamp
    assert json.loads((run / "thresholds.json").read_text())["stamps"] == stamp


def test_a_threshold_is_not_taken_from_a_foreign_corpus_in_silence(finished, other, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    before = (run / "thresholds.json").read_text()
    assert main(["validate", "--run", str(run), "--data.val", other]) == 2
    assert "which is not trained on" in capsys.readouterr().err
    assert main(["validate", "--run", str(run), "--data.val", other, "--allow_target_selection", "true"]) == 0
    assert read_scores(run / "scores/other-val.parquet").stamps == ["target used for selection"]
    assert (run / "thresholds.json").read_text() == before


def test_a_foreign_corpus_is_tested_with_the_threshold_of_validation_and_no_stamp(finished, other, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    assert main(["test", "--run", str(run), "--data.test", other]) == 0
    scores = read_scores(run / "scores/other-test.parquet")
    assert scores.stamps == []
    assert scores.thresholds == json.loads((run / "thresholds.json").read_text())["thresholds"]


def test_a_corpus_that_was_indexed_otherwise_is_scored_with_a_warning_and_a_stamp(
    finished, changed, tiny, tmp_path, capsys
):
    from dfdet.data import sources
    from dfdet.training.checks import index_stamps

    items = sources.load(sources.as_sources(str(tiny / "tiny.parquet")), "test", True)
    trained = json.loads((finished / "provenance.json").read_text())["faces"]
    assert index_stamps(trained, items) == []
    assert index_stamps([{**trained[0], "size": 512}], items) == ["indexed otherwise"]
    assert capsys.readouterr().err.count("size differ") == 1
