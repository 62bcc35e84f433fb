"""A run directory is never overwritten, is found again, and says what made it."""

import json
import subprocess

import pytest

from dfdet import runs
from dfdet.errors import UserError
from dfdet.files import write_json


@pytest.fixture
def run(tmp_path):
    made = runs.create(tmp_path, "swap", "srm")
    made.config.write_text("model: srm_cnn\n")
    return made


def test_a_run_is_never_overwritten(run, tmp_path):
    with pytest.raises(UserError, match=r"never overwritten; give another --name, or .* --resume"):
        runs.create(tmp_path, "swap", "srm")
    assert runs.free_name(tmp_path, "swap", "srm") == "srm-2"
    assert runs.create(tmp_path, "swap", "srm-2").path.name == "srm-2"
    assert runs.free_name(tmp_path, "swap", "srm") == "srm-3"
    assert runs.free_name(tmp_path, "other", "srm") == "srm"


def test_runs_are_found_by_their_configuration(run, tmp_path):
    runs.create(tmp_path, "swap", "empty")
    assert [r.path for r in runs.list_runs(tmp_path)] == [run.path]
    assert runs.open_run(run.path) == run
    with pytest.raises(UserError, match="is no run directory"):
        runs.open_run(tmp_path / "swap" / "empty")


def test_checkpoints_by_name_and_by_path(run, tmp_path):
    with pytest.raises(UserError, match="has saved none yet"):
        run.checkpoint("best")
    for path in (run.checkpoints / "last.ckpt", tmp_path / "mine.ckpt"):
        path.touch()
    assert run.checkpoint("last").name == "last.ckpt"
    assert run.checkpoint(str(tmp_path / "mine.ckpt")) == tmp_path / "mine.ckpt"
    with pytest.raises(UserError, match=r"best\.ckpt does not exist; there are: last\.ckpt"):
        run.checkpoint("best")


def test_thresholds_and_scores(run):
    assert run.thresholds() is None
    write_json(run.thresholds_file, {"thresholds": {"video": 0.25, "frame": float("nan")}})
    found = run.thresholds()
    assert found["video"] == 0.25
    assert found["frame"] != found["frame"]
    assert run.scores("dfdc", "test") == run.path / "scores" / "dfdc-test.parquet"


def test_provenance_names_versions_command_manifests_and_the_checkout(tmp_path, monkeypatch):
    (tmp_path / "m.parquet").write_bytes(b"abc")
    monkeypatch.chdir(tmp_path)
    made = runs.provenance(["m.parquet", "m.parquet"])
    assert made["manifests"] == {"m.parquet": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    assert made["git"] is None
    assert made["packages"]["torch"]
    assert json.loads(json.dumps(made)) == made
    (tmp_path / "file").write_text("one\n")
    identity = ["-c", "user.name=n", "-c", "user.email=e@e"]
    for words in (["init", "-q"], ["add", "file"], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], check=True)
    (tmp_path / "file").write_text("two\n")
    state = runs.provenance([])["git"]
    assert len(state["commit"]) == 40
    assert "+two" in state["diff"]
