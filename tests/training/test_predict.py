"""`dfdet test`, `validate` and `predict`: every video is there, and the same numbers by every way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import av
import cv2
import numpy as np
import pandas as pd
import pytest
import torch

import dfdet
from dfdet.cli import main
from dfdet.errors import UserError
from dfdet.evaluation import read_scores, video_level
from dfdet.manifest import read
from dfdet.training.workflow import evaluate


@pytest.fixture(scope="module")
def run(finished, tmp_path_factory):
    """A copy of the finished run that has been tested."""
    copy = shutil.copytree(finished, tmp_path_factory.mktemp("tested") / "run")
    assert main(["test", "--run", str(copy)]) == 0
    return copy


@pytest.fixture(scope="module")
def tested(run):
    return read_scores(run / "scores/demo-test.parquet")


@pytest.fixture(scope="module")
def predictor(run):
    return dfdet.load(str(run))


def test_every_video_of_the_split_is_in_the_score_file(tested, tiny):
    table = read(tiny / "tiny.parquet").table
    wanted = table[table["split"] == "test"]
    assert set(tested.table["video_id"]) == set(wanted["video_id"])
    labels = tested.table.groupby("video_id")["label"].first()
    assert all(labels[row.video_id] == row.label for row in wanted.itertuples())


def test_a_video_without_a_face_has_a_row_with_a_reason_and_no_logit(tested):
    rows = tested.table[tested.table["video_id"].str.contains("no_head")]
    assert len(rows) == 1
    assert rows["logit"].isna().all()
    assert list(rows["status"]) == ["no face was found"]


def test_the_threshold_of_a_test_comes_from_validation(tested, run):
    record = json.loads((run / "thresholds.json").read_text())
    assert tested.thresholds == record["thresholds"]
    assert tested.meta["checkpoint"] == "best.ckpt"
    assert tested.stamps == []


def test_validating_again_gives_the_scores_that_fit_wrote(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "run")
    (copy / "scores/demo-val.parquet").unlink()
    (copy / "thresholds.json").unlink()
    assert main(["validate", "--run", str(copy)]) == 0
    again, before = (pd.read_parquet(r / "scores/demo-val.parquet") for r in (copy, finished))
    pd.testing.assert_frame_equal(again, before)


def test_a_test_takes_the_threshold_anew_where_the_run_has_none(run, tested, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    before = json.loads((copy / "thresholds.json").read_text())
    (copy / "thresholds.json").unlink()
    evaluate(str(copy), "test")
    assert json.loads((copy / "thresholds.json").read_text())["thresholds"] == pytest.approx(before["thresholds"])
    assert read_scores(copy / "scores/demo-test.parquet").table.equals(tested.table)


def test_the_threshold_of_the_best_checkpoint_survives_a_test_of_the_last(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    before = (copy / "thresholds.json").read_text()
    _raise_logits(copy / "checkpoints/last.ckpt", by=5.0)  # the last epoch may be the best one, too
    evaluate(str(copy), "test", checkpoint="last")
    assert (copy / "thresholds.json").read_text() == before
    last = read_scores(copy / "scores/demo-test.parquet")
    assert last.meta["checkpoint"] == "last.ckpt"
    for level, threshold in json.loads(before)["thresholds"].items():
        assert last.thresholds[level] > threshold + 1
    assert np.isnan(dfdet.load(str(copy), "last").threshold)


def _raise_logits(checkpoint, by):
    state = torch.load(checkpoint, weights_only=True)
    biases = [name for name, value in state["state_dict"].items() if value.shape == (1,)]
    state["state_dict"][biases[-1]] += by
    torch.save(state, checkpoint)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_number_of_loader_workers_changes_no_score(workers, run, tested, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    evaluate(str(copy), "test", ["--data.num_workers", workers])
    assert read_scores(copy / "scores/demo-test.parquet").table.equals(tested.table)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["test", "--checkpoint", "last"], "wants a run"),
        (["test", "--run", "nowhere"], "nowhere is no run directory"),
        (["test", "--run", "RUN", "--checkpoint", "nowhere.ckpt"], "nowhere.ckpt does not exist; there are: best.ckpt"),
        (["test", "--run", "RUN", "--model.lrr", "3"], "unknown key 'model.lrr'; did you mean 'model.lr'?"),
        (["test", "--run", "RUN", "--model.front", "rgb"], "is a checkpoint of srm_cnn"),
        (["validate", "--run", "RUN", "--data.val", "nowhere.parquet"], "nowhere.parquet does not exist"),
        (["predict", "x.mp4"], "wants a run"),
        (["predict", "--run", "RUN"], "wants files"),
        (["predict", "nowhere.mp4", "--run", "RUN"], "nowhere.mp4 does not exist"),
        (["predict", "nowhere.mp4", "--run", "RUN", "--out", "x.txt"], "neither .csv nor .json"),
    ],
)
def test_a_mistake_is_one_line(arguments, said, run, capsys):
    capsys.readouterr()
    assert main([str(run) if word == "RUN" else word for word in arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


# predict ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def material(tiny, tmp_path_factory):
    """A folder with two videos of the test split, a frame of one as PNG, a text called .mp4 and a note."""
    folder = tmp_path_factory.mktemp("material")
    table = read(tiny / "tiny.parquet").table
    rows = table[(table["split"] == "test") & (table["num_tracks"] == 1)]
    for number, row in enumerate(rows.iloc[:2].itertuples()):
        shutil.copy(tiny / "corpus" / row.path, folder / f"video{number}.mp4")
    with av.open(str(folder / "video0.mp4")) as container:
        frames = [f.to_ndarray(format="bgr24") for f in container.decode(video=0)]
    cv2.imwrite(str(folder / "photo.png"), frames[len(frames) // 2])
    (folder / "text.mp4").write_text("this is no video")
    (folder / "note.txt").write_text("nor is this")
    return folder, list(rows["video_id"].iloc[:2])


@pytest.fixture(scope="module")
def predicted(predictor, material):
    return predictor.predict(material[0])


def test_every_file_of_a_folder_has_a_row_with_a_verdict_or_a_reason(predicted, material):
    rows = predicted.videos.set_index(predicted.videos["path"].str.split("/").str[-1])
    assert sorted(rows.index) == ["photo.png", "text.mp4", "video0.mp4", "video1.mp4"]
    for name in ("video0.mp4", "video1.mp4", "photo.png"):
        assert rows["verdict"][name] == ("fake" if rows["logit"][name] > predicted.threshold else "real")
        assert rows["probability"][name] == pytest.approx(1 / (1 + np.exp(-rows["logit"][name])))
        assert rows["people"][name] == 1
    assert rows["verdict"]["text.mp4"] == ""
    assert np.isnan(rows["logit"]["text.mp4"])
    assert "unreadable" in rows["status"]["text.mp4"]


def test_a_predicted_video_has_the_logit_of_the_test(predicted, tested, material):
    judged = video_level(tested).set_index("video_id")["logit"]
    rows = predicted.videos.set_index("path")["logit"]
    for number, name in enumerate(material[1]):
        assert rows[str(material[0] / f"video{number}.mp4")] == pytest.approx(judged[name], abs=1e-4)


def test_one_row_a_person(predicted, material):
    people = predicted.people.set_index("path")
    photo, video = people.loc[str(material[0] / "photo.png")], people.loc[str(material[0] / "video0.mp4")]
    assert (photo["first frame"], photo["last frame"], photo["clips"]) == (0, 0, 1)
    assert video["clips"] == 2
    assert 0 <= video["first frame"] < video["last frame"] < 24


def test_a_file_named_twice_is_scored_once(predictor, material):
    found = predictor.predict([material[0] / "photo.png", material[0] / "photo.png"])
    assert len(found.videos) == len(found.people) == 1


def test_nothing_but_unreadable_files_is_still_a_table(predictor, material):
    found = predictor.predict(material[0] / "text.mp4")
    assert len(found.videos) == 1
    assert len(found.people) == 0


def test_a_missing_path_and_an_empty_folder_are_one_line(predictor, tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.mp4 does not exist"):
        predictor.predict("nowhere.mp4")
    with pytest.raises(UserError, match="holds no video and no image"):
        predictor.predict(tmp_path)


def test_crops_are_scored_as_they_are(predictor, material):
    found = predictor.predict(material[0] / "photo.png", cropped=True)
    assert found.videos["people"].tolist() == [1]
    assert np.isfinite(found.videos["logit"]).all()


def test_out_writes_csv_and_json_that_hold_the_printed_numbers(run, material, tmp_path, capsys):
    photo, video = str(material[0] / "photo.png"), str(material[0] / "video0.mp4")
    assert main(["predict", photo, video, "--run", str(run), "--out", str(tmp_path / "x.csv")]) == 0
    assert main(["predict", photo, "--run", str(run), video, "--out", str(tmp_path / "x.json")]) == 0
    assert "photo.png" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "x.csv")
    told = json.loads((tmp_path / "x.json").read_text())
    assert list(table["path"]) == [row["path"] for row in told["videos"]] == [photo, video]
    assert np.allclose(table["logit"], [row["logit"] for row in told["videos"]])
    assert len(told["people"]) == 2


def test_a_notebook_loads_a_run_in_a_fresh_process(run, material, predicted, tmp_path):
    photo = material[0] / "photo.png"
    program = f"import dfdet; print(dfdet.load({str(run)!r}).predict({str(photo)!r}).videos['logit'][0])"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(predicted.videos.set_index("path")["logit"][str(photo)], abs=1e-6)
    assert list(tmp_path.iterdir()) == []


def test_loading_another_architecture_or_garbage_is_one_line(run, tmp_path):
    torch.save({"state_dict": {"network.x": torch.zeros(1)}}, tmp_path / "other.ckpt")
    (tmp_path / "garbage.ckpt").write_bytes(b"garbage")
    with pytest.raises(UserError, match="not of SRMCNNDetector"):
        dfdet.load(str(run), str(tmp_path / "other.ckpt"))
    with pytest.raises(UserError, match="damaged"):
        dfdet.load(str(run), str(tmp_path / "garbage.ckpt"))


@pytest.mark.parametrize(
    ("more", "said"),
    [(["--clips", "0"], "--clips is 0; it must be at least 1"), ([], "none of the 1 files could be scored")],
)
def test_the_command_says_when_it_has_no_score(more, said, run, material, capsys):
    assert main(["predict", str(material[0] / "text.mp4"), "--run", str(run), *more]) == 2
    assert said in capsys.readouterr().err
