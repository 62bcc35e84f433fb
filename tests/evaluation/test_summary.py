"""The summary of a score file: all numbers with interval and coverage, and words where there is no number."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from dfdet import console, files
from dfdet.errors import UserError
from dfdet.evaluation import metrics
from dfdet.evaluation.levels import frame_level, video_level
from dfdet.evaluation.scores import as_scores
from dfdet.evaluation.summary import summarise, thresholds_from


def test_the_numbers_of_both_levels_are_those_of_scikit_learn(corpus):
    scores = as_scores(corpus(60))
    summary = summarise(scores, {"frame": 0.5, "video": 0.4}, draws=100)
    for name, table, threshold in (("frame", frame_level(scores), 0.5), ("video", video_level(scores), 0.4)):
        labels, logits = table["label"].to_numpy(int), table["logit"].to_numpy()
        numbers, called = summary.levels[name], logits > threshold
        assert numbers.auroc == pytest.approx(reference.roc_auc_score(labels, logits), abs=1e-12)
        assert numbers.average_precision == pytest.approx(reference.average_precision_score(labels, logits), abs=1e-12)
        assert numbers.accuracy == pytest.approx(reference.accuracy_score(labels, called), abs=1e-12)
        assert numbers.balanced_accuracy == pytest.approx(reference.balanced_accuracy_score(labels, called), abs=1e-12)
        assert numbers.log_loss == pytest.approx(reference.log_loss(labels, 1 / (1 + np.exp(-logits))), abs=1e-12)
        assert numbers.interval.low < numbers.auroc < numbers.interval.high
        assert (numbers.reals, numbers.fakes) == ((labels == 0).sum(), (labels == 1).sum())
        assert (numbers.coverage_real, numbers.coverage_fake) == (1.0, 1.0)
        assert numbers.notes == ()
    assert summary.levels["frame"].reals == 4 * summary.levels["video"].reals


def test_missing_videos_count_as_chance_or_not_at_all_and_are_told(corpus):
    scores = as_scores(corpus(40, missing=8))
    chance, exclude = (summarise(scores, {"video": 0.0}, missing=rule, draws=50) for rule in ("as_chance", "exclude"))
    table = video_level(scores)
    labels, logits = table["label"].to_numpy(int), table["logit"].to_numpy()
    reals, fakes = logits[labels == 0], logits[labels == 1]
    wins = [0.5 if np.isnan(r + f) or r == f else float(f > r) for r in reals for f in fakes]
    assert chance.levels["video"].auroc == pytest.approx(np.mean(wins), abs=1e-12)
    seen = ~np.isnan(logits)
    assert exclude.levels["video"].auroc == metrics.auroc(labels[seen], logits[seen])
    assert chance.levels["video"].average_precision == exclude.levels["video"].average_precision
    assert chance.levels["video"].equal_error_rate == exclude.levels["video"].equal_error_rate
    for summary in (chance, exclude):
        assert (summary.levels["video"].reals, summary.levels["video"].coverage_real) == (20, 0.8)
        assert summary.levels["frame"].coverage_real == 0.8
        assert "8 of 40 videos could not be scored (8 no face)" in summary.notes[0]
    assert "count as a guess" in chance.notes[0]
    assert "left out" in exclude.notes[0]


def test_as_chance_and_excluded_rows_both_get_intervals_around_their_number(corpus):
    scores = as_scores(corpus(80, missing=20))
    for rule in ("as_chance", "exclude"):
        numbers = summarise(scores, missing=rule, draws=200).levels["video"]
        assert numbers.interval.low <= numbers.auroc <= numbers.interval.high


def test_each_method_is_judged_against_all_reals(corpus):
    scores = as_scores(corpus(80))
    summary = summarise(scores, draws=20)
    videos = video_level(scores)
    assert list(summary.methods) == ["Deepfakes", "FaceSwap"]
    for name, numbers in summary.methods.items():
        rows = videos[videos["method"].isin(["real", name])]
        assert numbers.auroc == metrics.auroc(rows["label"], rows["logit"])
        assert (numbers.reals, numbers.fakes) == (40, 20)
    assert [row[0] for row in summary.by_method("by method").rows] == ["Deepfakes", "FaceSwap"]
    assert summarise(as_scores(corpus(80).assign(method=None)), draws=0).by_method("none") is None


def test_one_class_prints_a_dash_and_the_reason(corpus, capsys):
    table = corpus(40)
    summary = summarise(as_scores(table[table["label"] == 1]), {"video": 0.0, "frame": 0.0})
    numbers = summary.levels["video"]
    assert math.isnan(numbers.auroc)
    assert math.isnan(numbers.equal_error_rate)
    assert math.isnan(numbers.balanced_accuracy)
    assert math.isnan(numbers.coverage_real)
    assert 0 < numbers.accuracy < 1
    console.show(summary.table("fakes only"))
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.strip().startswith("video"))
    assert line.split()[1:5] == ["-", "-", "-", "-"]
    assert "frame, video: there are no reals, so what compares both classes is undefined" in printed


def test_a_class_that_was_never_scored_is_undefined_under_both_rules(rows):
    table = pd.concat([rows(f"r{i}", 0, [0.0]) for i in range(3)] + [rows(f"f{i}", 1, None) for i in range(3)])
    for rule in ("as_chance", "exclude"):
        numbers = summarise(as_scores(table), missing=rule).levels["video"]
        assert math.isnan(numbers.auroc)
        assert numbers.coverage_fake == 0
        assert "none of the fakes was scored" in numbers.notes[0]


def test_without_a_validation_threshold_there_are_no_accuracies_but_a_note(corpus):
    scores = as_scores(corpus())
    numbers = summarise(scores, draws=0).levels["video"]
    assert math.isnan(numbers.accuracy)
    assert math.isnan(numbers.balanced_accuracy)
    assert "no threshold from validation, so the accuracies are undefined" in numbers.notes
    stored = as_scores(corpus(), {"thresholds": {"video": 0.25}})
    assert summarise(stored, draws=0).levels["video"].threshold == 0.25
    assert summarise(stored, {"video": 1.0}, draws=0).levels["video"].threshold == 1.0


def test_few_groups_give_no_interval_and_the_reason(corpus):
    summary = summarise(as_scores(corpus(12)))
    assert not summary.levels["video"].interval
    assert "no interval: 6 groups with scored reals, at least 10 are needed" in summary.levels["video"].notes
    assert summary.table("few").rows[1][2] is None


def test_thresholds_from_validation_are_the_best_of_each_level(corpus, rows):
    scores = as_scores(corpus(60, missing=4))
    found = thresholds_from(scores)
    assert set(found) == {"frame", "video"}
    for name, table in (("frame", frame_level(scores)), ("video", video_level(scores))):
        seen = table[table["logit"].notna()]
        assert found[name] == metrics.best_threshold(seen["label"], seen["logit"])
    assert thresholds_from(as_scores(rows("a", 1, [1.0, 2.0]))) == {}


def test_stamps_unlabelled_videos_and_videos_without_a_group_are_told(corpus, rows):
    table = pd.concat([corpus(40).assign(group=None), rows("z", 1, [1.0]).assign(label=None)])
    summary = summarise(as_scores(table, {"stamps": ["target used for selection"]}), draws=20)
    notes = summary.table("told").notes
    assert "stamp: target used for selection" in notes
    assert "1 videos have no label and are left out" in notes
    assert any("40 videos have no group" in note for note in notes)
    assert summary.levels["video"].fakes == 20


def test_failed_clips_of_scored_videos_are_told(corpus, rows):
    failed = rows("real/000", 0, None, clip=9, track=0, method="real", group="p0", status="decoding failed")
    summary = summarise(as_scores(pd.concat([corpus(40), failed])), draws=0)
    assert any("1 videos are judged by a part of their clips; 1 clips could not be scored" in n for n in summary.notes)


def test_the_summary_is_plain_data_that_json_can_hold(tmp_path, corpus):
    summary = summarise(as_scores(corpus(12)), draws=20)
    files.write_json(tmp_path / "s.json", summary.as_dict())
    read = json.loads((tmp_path / "s.json").read_text())
    assert read["levels"]["video"]["auroc"] == summary.levels["video"].auroc
    assert read["levels"]["video"]["interval"]["low"] is None
    assert set(read["by_method"]) == {"Deepfakes", "FaceSwap"}


def test_equal_seeds_give_equal_summaries(corpus):
    scores = as_scores(corpus(60))
    assert summarise(scores, {"video": 0.0, "frame": 0.0}, draws=50) == summarise(
        as_scores(corpus(60).sample(frac=1, random_state=3)), {"video": 0.0, "frame": 0.0}, draws=50
    )


def test_an_unknown_rule_for_missing_videos_is_refused(corpus):
    with pytest.raises(UserError, match="did you mean 'as_chance'"):
        summarise(as_scores(corpus()), missing="chance")
