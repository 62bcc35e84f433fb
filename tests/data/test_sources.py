"""What may be trained on and scored: splits, filters, several manifests, other roots."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dfdet import manifest
from dfdet.data.sources import Source, as_sources, load
from dfdet.errors import UserError


@pytest.fixture(scope="module")
def path(tiny):
    return str(tiny / "tiny.parquet")


@pytest.fixture(scope="module")
def table(path):
    return pd.read_parquet(path)


@pytest.fixture
def unsplit(tiny, tmp_path):
    """The corpus as if it had been released without splits."""
    whole = manifest.read(tiny / "tiny.parquet")
    rows = pd.read_parquet(tiny / "tiny.faces.parquet")
    meta = {k: v for k, v in whole.meta.items() if k not in ("schema", "version")}
    manifest.write(tmp_path / "unsplit.parquet", whole.table.assign(split=None), rows, meta)
    return str(tmp_path / "unsplit.parquet")


def ids(items):
    return items.table["video_id"].to_pylist()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_stage_holds_the_rows_of_its_split_with_their_labels(path, table, split):
    items = load([Source(path)], split, whole_if_unsplit=False)
    rows = table[table["split"] == split]
    assert ids(items) == rows["video_id"].tolist()
    assert items.label.tolist() == rows["label"].tolist()


def test_a_source_may_name_another_split_or_all(path, table):
    assert len(load([Source(path, split="all")], "train", False)) == len(table)
    assert all(name.startswith("val/") for name in ids(load([Source(path, split="val")], "train", False)))


def test_a_corpus_without_splits_stands_whole_in_evaluation_and_never_in_training(unsplit, table):
    assert len(load([Source(unsplit)], "test", whole_if_unsplit=True)) == len(table)
    assert len(load([Source(unsplit)], "train", whole_if_unsplit=False)) == 0


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ('method == "swap"', lambda t: t["method"] == "swap"),
        ('method in ["real", "reenact"] and num_frames > 3', lambda t: t["method"].isin(["real", "reenact"])),
        ('video_id.str.contains("c23")', lambda t: t["video_id"].str.contains("c23")),
        ("main_track >= 0", lambda t: t["main_track"].notna()),
        ("label == 0", lambda t: t["label"] == 0),
    ],
)
def test_a_filter_keeps_the_rows_that_it_is_true_for(path, table, where, kept):
    assert ids(load([Source(path, where=where, split="all")], "test", False)) == table[kept(table)]["video_id"].tolist()


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("metod == 1", "metod"),
        ("method ==", "cannot be read"),
        ("method == @os", "'@'"),
        ("label", "no yes or no"),
        ("label + 1", "no yes or no"),
        ("'real'", "no yes or no"),
    ],
)
def test_a_filter_that_cannot_be_is_refused_in_one_line(path, where, says):
    with pytest.raises(UserError, match=says) as error:
        load([Source(path, where=where)], "train", False)
    assert "\n" not in str(error.value)


def test_an_unknown_column_in_a_filter_is_answered_with_the_columns_that_there_are(path):
    with pytest.raises(UserError, match="compression"):
        load([Source(path, where="metod == 1")], "train", False)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(path, weight):
    with pytest.raises(UserError, match="weight"):
        as_sources(Source(path, weight=weight))


def test_a_path_a_source_or_a_list_of_either_is_understood(path):
    assert as_sources(None) == []
    assert as_sources(path) == as_sources([path]) == as_sources(Source(path)) == [Source(path)]
    assert as_sources([path, Source("b", 2.0)]) == [Source(path), Source("b", 2.0)]


def test_another_root_holds_for_its_source_alone(path, tiny, tmp_path):
    items = load([Source(path), Source(path, root=str(tmp_path))], "val", False)
    half = len(items) // 2
    assert items.path(0) == tiny / "corpus" / items.table["path"][0].as_py()
    assert items.path(half) == tmp_path / items.table["path"][0].as_py()
    assert items.source.tolist() == [0] * half + [1] * half


def test_only_what_is_labelled_readable_and_shows_a_face_can_be_trained_on(path, table):
    items = load([Source(path, split="all")], "train", False)
    without = table["main_track"].isna().to_numpy()
    assert without.any()
    assert items.trainable.tolist() == items.readable.tolist() == (~without).tolist()
    assert not np.isin("test/real/awkward_no_head", ids(items.take(items.trainable)))


def test_the_tracks_of_an_item_are_its_own(path, table):
    items = load([Source(path, split="all")], "test", False)
    for item in range(len(items)):
        assert len(items.tracks_of(item)) == table["num_tracks"][item]


def test_a_manifest_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.parquet does not exist"):
        load([Source(str(tmp_path / "gone.parquet"))], "train", False)
