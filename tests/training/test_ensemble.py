"""An ensemble answers with the mean of its members, each of which sees its own input."""

from __future__ import annotations

import shutil
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

import dfdet
from dfdet.cli import main
from dfdet.errors import UserError
from dfdet.evaluation import read_scores, video_level
from dfdet.manifest import read
from dfdet.training.ensemble import Recipe, join
from dfdet.training.workflow import fit


@pytest.fixture(scope="module")
def other(flags, tmp_path_factory):
    """Meso4 of 48 pixels, resized: another network, size, crop and normalisation."""
    words = flags(tmp_path_factory.mktemp("runs"), "--name", "other", model="meso4")
    words[words.index("--model.size") + 1] = "48"
    words[words.index("--data.crop.mode") + 1] = "resize"
    return fit([*words, "--trainer.max_epochs", "1"]).run.path


@pytest.fixture(scope="module")
def both(finished, other, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "ensemble" / "both"
    assert main(["ensemble", str(finished), str(other), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def tested(both, finished, other, tmp_path_factory):
    """The test scores of the ensemble, and of its members by themselves."""
    assert main(["test", "--run", str(both)]) == 0
    found = [read_scores(both / "scores/demo-test.parquet")]
    for run in (finished, other):
        copy = shutil.copytree(run, tmp_path_factory.mktemp("alone") / "run")
        assert main(["test", "--run", str(copy)]) == 0
        found.append(read_scores(copy / "scores/demo-test.parquet"))
    return found


def test_each_clip_has_the_mean_of_what_the_members_say_alone(tested):
    mean, first, second = (s.table.set_index(["video_id", "track", "clip"])["logit"] for s in tested)
    np.testing.assert_allclose(mean, (first + second) / 2, atol=1e-9)
    assert mean.notna().sum() > 4
    assert not np.allclose(first.dropna(), second.dropna())
    assert tested[0].meta["ensemble"]["averaged"] == "clip"


def test_its_threshold_comes_from_its_own_validation(both, tested):
    from dfdet.evaluation import thresholds_from

    validated = read_scores(both / "scores/demo-val.parquet")
    assert tested[0].thresholds == thresholds_from(validated) == validated.thresholds


def test_a_video_without_a_face_keeps_its_reason(tested):
    rows = tested[0].table[tested[0].table["video_id"].str.contains("no_head")]
    assert list(rows["status"]) == ["no face was found"]
    assert rows["logit"].isna().all()


def test_it_outlives_the_runs_that_it_was_made_of(both, tested, finished, tiny, tmp_path):
    table = read(tiny / "tiny.parquet").table
    row = table[(table["split"] == "test") & (table["num_tracks"] == 1)].iloc[0]
    clip = shutil.copy(tiny / "corpus" / row["path"], tmp_path / "clip.mp4")
    moved = shutil.copytree(both, tmp_path / "moved")
    predicted = dfdet.load(str(moved)).predict(clip)
    videos = video_level(tested[0]).set_index("video_id")
    assert predicted.videos["logit"][0] == pytest.approx(videos["logit"][row["video_id"]], abs=1e-4)
    assert predicted.threshold == tested[0].thresholds["video"]
    assert predicted.videos["verdict"][0] in ("fake", "real")
    members = [torch.load(p, weights_only=True) for p in sorted(moved.glob("members/*/checkpoints/best.ckpt"))]
    assert len(members) == 2


def test_predict_by_the_command_line_takes_an_ensemble(both, tiny, capsys):
    video = next((tiny / "corpus").glob("*/*/id*.mp4"))
    assert main(["predict", str(video), "--run", str(both)]) == 0
    assert "called fake above logit" in capsys.readouterr().out


def test_validation_is_scored_anew_only_where_its_scores_are_of_another_checkpoint(finished, other, tmp_path, capsys):
    out = tmp_path / "runs" / "e" / "kept"
    assert main(["ensemble", str(finished), str(other), "--weights", "3,1", "--out", str(out)]) == 0
    assert "scoring" not in capsys.readouterr().err
    first, second, mean = (
        read_scores(run / "scores/demo-val.parquet").table["logit"] for run in (finished, other, out)
    )
    np.testing.assert_allclose(mean, 0.75 * first + 0.25 * second, atol=1e-9)

    changed = shutil.copytree(other, tmp_path / "changed")
    state = torch.load(changed / "checkpoints/best.ckpt", weights_only=True)
    state["state_dict"]["network.output.bias"] += 8.0
    torch.save(state, changed / "checkpoints/best.ckpt")
    out = tmp_path / "runs" / "e" / "anew"
    assert main(["ensemble", str(finished), str(changed), "--out", str(out)]) == 0
    assert "scoring changed" in capsys.readouterr().err
    anew = read_scores(out / "scores/demo-val.parquet").table["logit"]
    np.testing.assert_allclose(anew, (first + second + 8.0) / 2, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["RUN"], "at least two runs"),
        (["RUN", "BOTH"], "is an ensemble; name its members"),
        (["RUN", "nowhere"], "nowhere is no run directory"),
        (["RUN", "RUN", "--weights", "1,2,3"], "3 weights are given for 2 runs"),
        (["RUN", "RUN", "--weights", "1,0"], "not all above 0"),
        (["RUN", "RUN", "--combine", "votes"], "--combine does not take 'votes'"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(words, said, finished, both, tmp_path, capsys):
    names = {"RUN": str(finished), "BOTH": str(both)}
    capsys.readouterr()
    out = tmp_path / "runs" / "e" / "new"
    assert main(["ensemble", *(names.get(w, w) for w in words), "--out", str(out)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not out.exists()


def test_an_ensemble_is_never_overwritten_and_has_no_last_checkpoint(both, finished, capsys):
    assert main(["ensemble", str(finished), str(finished), "--out", str(both)]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert main(["test", "--run", str(both), "--checkpoint", "last"]) == 2
    assert "no checkpoint 'last'" in capsys.readouterr().err


# The join by itself -------------------------------------------------------------------------------------------------


def scores(rows):
    """Rows of (video, track, clip, frame, logit)."""
    table = pd.DataFrame(rows, columns=["video_id", "track", "clip", "frame", "logit"])
    table["status"] = np.where(table["logit"].notna(), "ok", "torn")
    return table.assign(corpus="c", label=1, num_frames=1, static=False)


def alike(*members, combine="logits", weights=None):
    share = weights or [1 / len(members)] * len(members)
    return join(members, Recipe([f"m{i}" for i in range(len(members))], share, combine))


def test_weights_count_and_probabilities_are_averaged_as_probabilities():
    one, other = scores([("a", 0, 0, 5, 2.0)]), scores([("a", 0, 0, 5, -4.0)])
    assert alike(one, other, weights=[0.75, 0.25])[0]["logit"][0] == pytest.approx(0.5)
    p = 0.75 / (1 + np.exp(-2)) + 0.25 / (1 + np.exp(4))
    table, level = alike(one, other, combine="probabilities", weights=[0.75, 0.25])
    assert table["logit"][0] == pytest.approx(np.log(p / (1 - p)))
    assert level == "clip"
    sure = alike(scores([("a", 0, 0, 5, 900.0)]), scores([("a", 0, 0, 5, 800.0)]), combine="probabilities")
    assert np.isfinite(sure[0]["logit"][0])


def test_members_that_see_other_frames_meet_at_the_track():
    frames = scores([("a", 0, c, c, float(c)) for c in range(4)] + [("a", 1, 0, 3, 8.0)])
    clips = scores([("a", 0, 0, 0, 10.0), ("a", 1, 0, 0, 2.0)])
    table, level = alike(frames, clips)
    assert level == "track"
    assert table.set_index("track")["logit"].to_dict() == {0: 5.75, 1: 5.0}


def test_members_with_other_face_detectors_meet_at_the_video():
    one, other = scores([("a", 0, 0, 0, 1.0), ("a", 1, 0, 0, 4.0)]), scores([("a", 7, 0, 0, 2.0)])
    table, level = join([one, other], Recipe(["m", "n"], [0.5, 0.5], "logits"), same_faces=False)
    assert level == "video"
    assert list(table["logit"]) == [3.0]  # the highest track of each, as everywhere


def test_what_one_member_could_not_score_has_no_logit_and_says_why():
    one = scores([("a", 0, 0, 0, 1.0), ("a", 0, 1, 9, 3.0), ("b", None, None, None, None)])
    other = scores([("a", 0, 0, 0, 1.0), ("a", 0, 1, 0, None), ("b", None, None, None, None)])
    table, level = alike(one, other)
    assert level == "clip"
    assert table["status"].tolist() == ["ok", "torn", "torn"]
    assert table["logit"].isna().tolist() == [False, True, True]


def test_different_videos_are_refused_by_name():
    with pytest.raises(UserError, match=r"m0 and m1 scored different videos \(1, as c/b\)"):
        alike(scores([("a", 0, 0, 0, 1.0)]), scores([("a", 0, 0, 0, 1.0), ("b", 0, 0, 0, 1.0)]))


def test_the_order_of_members_and_rows_changes_nothing():
    rows = [("a", 0, c, c, float(c)) for c in range(5)]
    tables = [alike(*pair)[0].sort_values("clip")["logit"].tolist() for pair in (
        (scores(rows), scores(rows[::-1])), (scores(rows[::-1]), scores(rows)),
    )]  # fmt: skip
    assert all(a == b for a, b in pairwise(tables))
