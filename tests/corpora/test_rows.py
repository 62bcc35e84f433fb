"""Walking a folder, filling rows, groups."""

import json
import os
from pathlib import Path

import pytest

from dfdet.corpora.rows import finish, kind_of, walk, without_extension
from dfdet.errors import UserError


def table_of(*rows):
    return finish([{"label": 0, **row} for row in rows], "x", Path("/r")).table.set_index("path")


def test_walk_lists_media_sorted_and_counts_the_rest(tmp_path):
    for name in ("b/z.MP4", "a.jpg", "b/.hidden.mp4", "notes.txt", ".git/x.mp4", "b.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found, skipped = walk(tmp_path)
    assert found == ["a.jpg", "b.mp4", "b/z.MP4"]
    assert skipped == {"hidden": 1, "neither video nor image": 1}


def test_walk_follows_links_once_and_passes_over_names_that_no_table_can_hold(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.mp4").touch()
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "real" / os.fsdecode(b"\xff.mp4")).touch()
    found, skipped = walk(tmp_path)
    assert found == ["real/a.mp4"]
    assert skipped == {"name is not UTF-8": 1}


def test_walk_of_a_file_is_refused(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UserError, match="not a folder"):
        walk(tmp_path / "a.mp4")


def test_kinds_and_names():
    assert [kind_of(p) for p in ("a.mkv", "a.PNG", "a.txt", "a")] == ["video", "image", None, None]
    assert without_extension("a.b/c.d.mp4") == "a.b/c.d"


def test_what_a_reader_leaves_open_is_filled():
    row = table_of({"path": "a/b.mp4", "label": 1}).loc["a/b.mp4"]
    told = {k: row[k] for k in ("corpus", "video_id", "content_id", "kind", "method", "group")}
    assert told == {
        "corpus": "x",
        "video_id": "a/b",
        "content_id": "a/b",
        "kind": "video",
        "method": "fake",
        "group": "a/b",
    }


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"path": "a.mp4"}, {"path": "a.mp4"}], "path 'a.mp4' stands twice"),
        ([{"path": "a.mp4"}, {"path": "a.avi"}], "video_id 'a' stands twice: a.avi and a.mp4"),
        ([{"path": "a.mp4", "label": 2}], "a.mp4 has label 2"),
        ([{"path": "a.mp4", "split": "dev"}], "a.mp4 has split 'dev'"),
        ([{"path": None}], "a row without a path"),
    ],
)
def test_rows_that_cannot_be_are_refused(rows, says):
    with pytest.raises(UserError) as error:
        table_of(*rows)
    assert says in str(error.value)


def test_an_absent_original_joins_its_fakes():
    group = table_of(
        {"path": "f1.mp4", "original": "zzz"}, {"path": "f2.mp4", "original": "zzz"}, {"path": "r.mp4"}
    ).group
    assert group.tolist() == ["zzz", "zzz", "r"]


def test_people_originals_and_uploads_chain():
    rows = [
        {"path": "a.mp4", "identity": "p:1"},
        {"path": "b.mp4", "original": "a", "source_identity": "p:2"},
        {"path": "c.mp4", "identity": "p:2", "origin": "upload"},
        {"path": "d.mp4", "origin": "upload"},
        {"path": "e.mp4", "identity": "p:9"},
    ]
    assert table_of(*rows).group.tolist() == ["p:1", "p:1", "p:1", "p:1", "p:9"]


def test_one_content_at_two_compressions_is_one_group():
    group = table_of({"path": "c23/a.mp4", "content_id": "a"}, {"path": "c40/a.mp4", "content_id": "a"}).group
    assert group.tolist() == ["a", "a"]


def test_a_given_group_stays_and_draws_others():
    rows = [
        {"path": "a.mp4", "group": "g"},
        {"path": "b.mp4", "original": "a"},
        {"path": "c.mp4", "original": "a", "group": "h"},
    ]
    assert table_of(*rows).group.tolist() == ["g", "g", "h"]


def test_names_of_one_corpus_mean_nothing_in_another_unless_said():
    rows = [
        {"path": "x/a.mp4", "corpus": "x", "video_id": "a"},
        {"path": "y/a.mp4", "corpus": "y", "video_id": "a"},
        {"path": "z/f.mp4", "corpus": "z", "original": "x:a"},
    ]
    table = table_of(*rows)
    assert table.group.tolist() == ["a", "a", "a"]  # names; the corpus tells the first two apart
    joined = finish(
        [{"label": 0, **row} for row in [*rows, {"path": "z/g.mp4", "corpus": "z", "original": "x:a"}]], "z", Path()
    )
    assert joined.table.groupby(["corpus", "group"]).size().to_dict() == {("x", "a"): 1, ("y", "a"): 1, ("z", "a"): 2}


def test_columns_of_mixed_types_become_text():
    table = table_of({"path": "a.mp4", "x_a": [1, 2], "x_b": 1}, {"path": "b.mp4", "x_a": "t", "x_b": None})
    assert table["x_a"].tolist() == ["[1, 2]", "t"]
    assert str(table["x_b"].dtype) == "Int64"


@pytest.mark.data
def test_groups_agree_with_the_worked_examples(sample_media):
    cases = json.loads((sample_media / "lists" / "leak_examples.json").read_text())
    tried = 0
    for name, case in cases.items():
        rows = case["rows"]
        # hubs, hashes and rows outside any split are the business of who splits, not of the readers
        if case.get("hubs") or any("sha1" in row or row.get("split") is None or "corpus" in row for row in rows):
            continue
        tried += 1
        rows = [
            {k: v for k, v in row.items() if k != "content_id"} | {"path": f"{i}.mp4"} for i, row in enumerate(rows)
        ]
        contents = [row.get("content_id", row["video_id"]) for row in case["rows"]]
        table = table_of(*({**row, "content_id": content} for row, content in zip(rows, contents, strict=True)))
        assert table.group.nunique() == case["expect"]["n_groups"], name
    assert tried >= 8
