"""The score file: what goes in comes out, equal inputs give equal bytes, and anything else is refused in one line."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfdet.errors import UserError
from dfdet.evaluation.scores import COLUMNS, as_scores, read_scores, write_scores

META = {
    "run": "runs/demo/srm",
    "checkpoint": "best",
    "thresholds": {"frame": 0.25, "video": -1.5},
    "manifest": "ab12",
    "stamps": ["indexed otherwise"],
}


def test_a_score_file_gives_back_what_was_written(tmp_path, corpus):
    table = corpus(missing=2).assign(blur=0.5)
    written = write_scores(tmp_path / "s.parquet", table, META)
    scores = read_scores(tmp_path / "s.parquet")
    pd.testing.assert_frame_equal(scores.table, written.table)
    assert scores.meta == META == written.meta
    assert scores.thresholds == {"frame": 0.25, "video": -1.5}
    assert scores.stamps == ["indexed otherwise"]
    assert list(scores.table.columns) == [*COLUMNS, "blur"]
    assert scores.table["logit"].dtype == np.float64
    assert scores.table["track"].dtype == pd.Int16Dtype()
    both = scores.table.merge(table, on=["corpus", "video_id", "clip"], suffixes=("", "_given"))
    assert len(both) == len(table)
    np.testing.assert_array_equal(both["logit"], both["logit_given"])


def test_two_writes_are_equal_byte_for_byte_whatever_the_order_of_the_rows(tmp_path, corpus):
    table = corpus(missing=2)
    write_scores(tmp_path / "a.parquet", table, META)
    shuffled = table.sample(frac=1, random_state=1)[list(table.columns)[::-1]]
    write_scores(tmp_path / "b.parquet", shuffled, dict(reversed(META.items())))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]


def test_rows_are_sorted_by_corpus_video_track_and_clip(rows):
    table = pd.concat([rows("b", 1, [1.0, 2.0]), rows("a", 0, [3.0], track=1), rows("a", 0, [4.0], track=0)])
    found = as_scores(table.iloc[::-1]).table
    assert found[["video_id", "track", "clip"]].to_numpy().tolist() == [
        ["a", 0, 0],
        ["a", 1, 0],
        ["b", 0, 0],
        ["b", 0, 1],
    ]


def test_a_table_with_only_the_needed_columns_is_enough(tmp_path):
    table = pd.DataFrame({"video_id": ["a"], "corpus": ["c"], "label": [1], "logit": [2.0], "status": ["ok"]})
    scores = write_scores(tmp_path / "s.parquet", table, {})
    assert scores.table["group"].isna().all()
    assert read_scores(tmp_path / "s.parquet").thresholds == {}
    with pytest.raises(UserError, match="lacks the column 'status'"):
        as_scores(table.drop(columns="status"))


def test_an_empty_score_file_can_be_written_and_read(tmp_path, rows):
    write_scores(tmp_path / "s.parquet", rows("a", 0, [1.0]).iloc[:0], META)
    assert len(read_scores(tmp_path / "s.parquet").table) == 0


def test_another_version_is_refused_and_named(tmp_path, corpus):
    path = tmp_path / "s.parquet"
    write_scores(path, corpus(), META)
    for document, words in (
        ({"schema": "dfdet.scores", "version": 2}, "version 2"),
        ({"schema": "x"}, "not a dfdet.scores"),
    ):
        pq.write_table(pq.read_table(path).replace_schema_metadata({"dfdet": json.dumps(document)}), path)
        with pytest.raises(UserError, match=words):
            read_scores(path)


@pytest.mark.parametrize("document", ["[1]", "{torn", None])
def test_a_parquet_file_of_someone_else_is_refused(tmp_path, document):
    path = tmp_path / "s.parquet"
    table = pa.table({"a": [1]})
    pq.write_table(table.replace_schema_metadata({"dfdet": document}) if document else table, path)
    with pytest.raises(UserError, match=r"is not a dfdet\.scores table"):
        read_scores(path)


def test_torn_altered_and_absent_files_are_refused_in_one_line(tmp_path, corpus):
    path = tmp_path / "s.parquet"
    write_scores(path, corpus(), META)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    logits = pq.ParquetFile(path).metadata.row_group(0).column(list(COLUMNS).index("logit"))
    flipped[logits.data_page_offset + logits.total_compressed_size // 2] ^= 0x10
    for broken in (whole[: len(whole) // 2], whole[:-3], b"", b"video_id,label\n", bytes(flipped)):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="no Parquet file or is damaged") as caught:
            read_scores(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="does not exist"):
        read_scores(tmp_path / "absent.parquet")


def test_a_refused_table_leaves_the_file_that_was_there(tmp_path, rows):
    path = tmp_path / "s.parquet"
    write_scores(path, rows("a", 0, [1.0]), META)
    before = path.read_bytes()
    with pytest.raises(UserError):
        write_scores(path, pd.concat([rows("a", 0, [1.0]), rows("a", 1, [1.0], clip=7)]), META)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("column", ["label", "method", "compression", "split", "group"])
def test_a_video_with_two_labels_or_methods_is_refused_by_name(rows, column):
    other = {"label": 0, "method": "FaceSwap", "compression": "c40", "split": "train", "group": "elsewhere"}[column]
    second = rows("000_003", 1, [2.0], clip=9).assign(**{column: other})
    with pytest.raises(UserError, match=f"video 000_003 has more than one {column}"):
        as_scores(pd.concat([rows("000_003", 1, [1.0]), second]))
    assert len(as_scores(pd.concat([rows("000_003", 1, [1.0]), second.assign(corpus="dfdc")])).table) == 2


def test_a_row_that_stands_there_twice_is_refused_by_name(rows):
    with pytest.raises(UserError, match="v7 has a row that stands there twice"):
        as_scores(pd.concat([rows("v7", 1, [1.0]), rows("v7", 1, [1.0])]))


def test_values_that_are_not_ours_are_refused_by_name(rows):
    good = rows("v7", 1, [1.0])
    for change, words in (
        ({"label": 2}, "neither 0 nor 1"),
        ({"status": "no face"}, "a status that is not ok"),
        ({"status": None}, "'status' is empty"),
        ({"track": "left"}, "'track' .* does not hold int16"),
    ):
        with pytest.raises(UserError, match=words):
            as_scores(good.assign(**change))


@pytest.mark.parametrize("kind", [np.float16, np.float32, "Float32", object, "Int64"])
def test_logits_of_any_type_become_float64(rows, kind):
    table = pd.concat([rows("v7", 1, [1.0, 3.0]), rows("v8", 0, None)], ignore_index=True)
    found = as_scores(table.astype({"logit": kind})).table["logit"]
    assert found.dtype == np.float64
    assert found.tolist()[:2] == [1.0, 3.0]
    assert found.isna().tolist() == [False, False, True]


def test_columns_that_hold_no_one_type_are_refused(rows):
    for column, values in (("logit", ["1.0", "high"]), ("note", [1, "two"])):
        with pytest.raises(UserError, match=f"column '{column}' of the scores does not hold"):
            as_scores(rows("v7", 1, [1.0, 2.0]).assign(**{column: values}))


def test_a_score_that_is_not_finite_costs_itself_only_and_is_named(rows, capsys):
    table = pd.concat([rows("v7", 1, [1.0, np.inf, np.nan]), rows("v8", 0, [0.0])])
    found = as_scores(table).table
    assert found["status"].tolist() == ["ok", "not finite", "not finite", "ok"]
    assert found["logit"].isna().tolist() == [False, True, True, False]
    assert "2 scores of 1 videos are not finite (first: v7)" in capsys.readouterr().err
