"""From clips to videos: what is one video, which tracks count, how clips are put together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dfdet.errors import UserError
from dfdet.evaluation.levels import frame_level, video_level
from dfdet.evaluation.scores import as_scores


def of(*parts):
    return as_scores(pd.concat(parts, ignore_index=True))


def test_one_stem_under_four_methods_stays_four_videos(rows):
    methods = ["Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"]
    parts = [rows(f"{m}/c23/000_003", 1, [i, i + 1.0], method=m) for i, m in enumerate(methods)]
    videos = video_level(of(*parts))
    assert videos["method"].tolist() == methods
    assert videos["logit"].tolist() == [0.5, 1.5, 2.5, 3.5]


def test_one_name_in_two_corpora_is_two_videos(rows):
    videos = video_level(of(rows("000", 0, [1.0]), rows("000", 1, [3.0], corpus="dfdc")))
    assert videos[["corpus", "label", "logit"]].to_numpy().tolist() == [["dfdc", 1, 3.0], ["faceforensics", 0, 1.0]]


def test_a_video_is_the_highest_of_its_tracks_and_a_track_the_mean_of_its_clips(rows):
    scores = of(rows("a", 1, [0.0, 2.0], track=0), rows("a", 1, [4.0, -3.0, 1.0], track=1), rows("b", 0, [-1.0]))
    videos = video_level(scores)
    assert videos["logit"].tolist() == [1.0, -1.0]
    assert videos["num_clips"].tolist() == [5, 1]
    assert videos["num_tracks"].tolist() == [2, 1]
    assert video_level(scores, over_tracks="mean")["logit"][0] == pytest.approx((1 + 2 / 3) / 2)
    assert video_level(scores, over_clips="median")["logit"][0] == 1.0


def test_posters_count_only_where_there_is_nothing_else(rows):
    poster = {"static": True, "track": 1}
    scores = of(
        rows("a", 0, [-2.0], static=False), rows("a", 0, [9.0], **poster),
        rows("b", 0, [7.0], **poster),
        rows("c", 0, [5.0], **poster), rows("c", 0, None, track=0, static=False),
    )  # fmt: skip
    videos = video_level(scores)
    assert videos["logit"].tolist() == [-2.0, 7.0, 5.0]
    assert videos["num_tracks"].tolist() == [1, 1, 1]
    assert frame_level(scores)["logit"].dropna().tolist() == [-2.0, 7.0, 5.0]


def test_share_and_mean_probability_are_logits_of_shares_and_of_mean_probabilities(rows):
    logits = np.array([-3.0, 0.2, 1.0, 2.0])
    scores = of(rows("a", 1, logits), rows("b", 1, [50.0, 60.0]), rows("c", 0, [-1.0, -1.0]))
    share = video_level(scores, over_clips="share")["logit"]
    assert share[0] == pytest.approx(np.log(3.0))
    assert np.isfinite(share).all()
    assert share[1] == pytest.approx(-share[2])
    probability = (1 / (1 + np.exp(-logits))).mean()
    mean = video_level(scores, over_clips="mean_probability")["logit"]
    assert mean[0] == pytest.approx(np.log(probability / (1 - probability)), abs=1e-12)
    assert mean[1] == pytest.approx(50 + np.log(2), abs=1e-3)
    assert mean[2] == pytest.approx(-1.0)


def test_full_shares_tie_whatever_the_number_of_clips(rows):
    share = video_level(of(rows("a", 1, [1.0] * 3), rows("b", 1, [2.0] * 32)), over_clips="share")["logit"]
    assert share[0] == share[1]


def test_a_video_without_scores_keeps_its_row_and_its_reason(rows):
    videos = video_level(of(rows("a", 1, None), rows("b", 0, [1.0]), rows("c", 1, None, status="unreadable")))
    assert videos["logit"].isna().tolist() == [True, False, True]
    assert videos["status"].tolist() == ["no face", "ok", "unreadable"]
    assert videos["num_clips"].tolist() == [0, 1, 0]
    assert videos["label"].tolist() == [1, 0, 1]


def test_a_video_with_some_failed_clips_is_judged_by_the_others(rows):
    failed = rows("a", 1, None, clip=5, frame=80, track=0, status="decoding failed")
    videos = video_level(of(rows("a", 1, [1.0, 3.0]), failed))
    assert videos[["logit", "num_clips", "status"]].to_numpy().tolist() == [[2.0, 2, "ok"]]


def test_nothing_scored_at_all_still_gives_all_videos(rows):
    scores = of(rows("a", 1, None), rows("b", 0, None))
    assert video_level(scores)["logit"].isna().tolist() == [True, True]
    assert frame_level(scores)["rows"].tolist() == [1, 1]


def test_a_lost_video_stands_for_as_many_frames_as_the_median_video(rows):
    scores = of(rows("a", 1, [1.0] * 3), rows("b", 0, [1.0] * 5), rows("c", 0, [1.0] * 8), rows("d", 1, None))
    frames = frame_level(scores)
    assert len(frames) == 17
    assert frames.set_index("video_id").loc["d", "rows"] == 5
    assert frames["rows"].sum() == 16 + 5


def test_the_order_of_the_rows_changes_nothing(corpus):
    table = corpus(missing=3)
    shuffled = table.sample(frac=1, random_state=0)
    for level in (frame_level, video_level):
        pd.testing.assert_frame_equal(level(as_scores(table)), level(as_scores(shuffled)))


def test_an_unknown_rule_is_refused_with_the_nearest(rows):
    with pytest.raises(UserError, match="did you mean 'median'"):
        video_level(of(rows("a", 1, [1.0])), over_clips="medain")
    with pytest.raises(UserError, match="over_tracks has no 'share'"):
        video_level(of(rows("a", 1, [1.0])), over_tracks="share")
