"""A list of one's own: CSV, JSON lines, Parquet."""

import json

import pandas as pd
import pytest

from dfdet.corpora import listing
from dfdet.errors import UserError

ROWS = [
    {
        "path": "a.mp4",
        "label": "REAL",
        "split": "train",
        "group": "g",
        "part": 3,
        "size": 10,
        "name": "007",
        "gap": 0.5,
    },
    {"path": "b/c.mov", "label": "fake", "split": "dev", "original": "a", "size": None, "name": "008", "gap": 1.0},
    {"path": "d.jpg", "label": 1, "split": "extra", "original": "far:away", "size": -3, "name": "x"},
]


@pytest.fixture
def folder(tmp_path):
    for row in ROWS:
        (tmp_path / row["path"]).parent.mkdir(exist_ok=True)
        (tmp_path / row["path"]).touch()
    return tmp_path


def write(file, rows):
    if file.suffix == ".csv":
        pd.DataFrame(rows).astype({"size": "Int64", "part": "Int64"}, errors="ignore").to_csv(file, index=False)
    elif file.suffix == ".jsonl":
        file.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        pd.DataFrame([{**row, "label": str(row["label"])} for row in rows]).astype({"size": "Int64"}).to_parquet(file)
    return file


def text(folder, content):
    (folder / "labels.csv").write_text(content)
    return folder


def test_the_three_formats_give_one_table(folder):
    tables = [listing.read(write(folder / name, ROWS)).table for name in ("l.csv", "l.jsonl", "l.parquet")]
    for other in tables[1:]:
        pd.testing.assert_frame_equal(tables[0], other, check_like=True)
    table = tables[0].set_index("path")
    assert table["label"].tolist() == [0, 1, 1]
    assert table["split"].tolist() == ["train", "val", None]
    assert table["kind"].tolist() == ["video", "video", "image"]
    assert table["original"].tolist() == [None, "a", "far:away"]
    assert table["group"].tolist() == ["g", "g", "away"]
    assert table["x_name"].tolist() == ["007", "008", "x"]
    assert table["x_gap"].tolist()[:2] == [0.5, 1.0]
    assert (str(table["x_size"].dtype), str(table["part"].dtype)) == ("Int64", "Int16")


def test_what_was_read_can_be_written_as_a_list_and_read_again(folder):
    table = listing.read(write(folder / "l.csv", ROWS)).table.drop(columns=["status", "reason"])
    table.to_parquet(folder / "again.parquet")
    table.to_csv(folder / "again.csv", index=False)
    for name in ("again.parquet", "again.csv"):
        again = listing.read(folder / name).table.drop(columns=["status", "reason"])
        pd.testing.assert_frame_equal(table, again, check_like=True)


@pytest.mark.parametrize(
    ("word", "label"),
    [("0", 0), ("1", 1), ("real", 0), ("Fake", 1), ("REAL", 0), ("true", 1), ("False", 0), ("", None)],
)
def test_words_for_labels(folder, word, label):
    reading = listing.read(text(folder, f"path,label\na.mp4,{word}\n"))
    value = reading.table["label"][0]
    assert (None if pd.isna(value) else value) == label
    assert any("no label" in note for note in reading.notes) == (label is None)


def test_a_bare_name_means_the_one_real_row_that_bears_it(folder):
    lines = [
        "path,label,original",
        "real/x.jpg,REAL,",
        "fake/x.jpg,FAKE,x",
        "fake/y.jpg,FAKE,x.jpg",
        "fake/z.jpg,FAKE,q",
    ]
    lines += ["other/w.jpg,REAL,", "real/w.jpg,REAL,", "fake/v.jpg,FAKE,w", "fake/u.jpg,FAKE,real/w.jpg"]
    table = listing.read(text(folder, "\n".join(lines))).table.set_index("path")
    originals = table["original"].dropna().to_dict()
    assert originals == {
        "fake/x.jpg": "real/x",
        "fake/y.jpg": "real/x",
        "fake/z.jpg": "q",
        "fake/v.jpg": "w",
        "fake/u.jpg": "real/w",
    }
    assert table["group"]["fake/y.jpg"] == table["group"]["real/x.jpg"]


def test_files_that_are_not_there_are_rows_and_counted(folder):
    reading = listing.read(text(folder, "path,label\na.mp4,0\nabsent.mp4,1\n"))
    assert reading.missing == 1
    assert reading.table["status"].tolist() == [None, "missing"]
    assert any("1 of 2 file(s)" in note for note in reading.notes)


def test_the_list_says_what_paths_are_relative_to(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("lists")
    content = f"path,label\na.mp4,0\n{folder / 'b' / 'c.mov'},1\n"
    reading = listing.read(text(elsewhere, content), relative_to=folder)
    assert reading.table["path"].tolist() == ["a.mp4", "b/c.mov"]
    assert (reading.root, reading.missing) == (folder, 0)
    inside = listing.read(text(elsewhere, content))
    assert inside.root == elsewhere
    assert inside.table["path"].tolist()[0] == str(folder / "b" / "c.mov")
    assert any("moving the folder" in note for note in inside.notes)


def test_names_of_corpus_and_columns(folder):
    root = text(folder, "file,label,path,video,x_y\na.mp4,0,old,v,1\n")
    table = listing.read(root, name="mine", columns=["path=file", "identity=video"]).table
    row = table.iloc[0]
    assert (row["corpus"], row["path"], row["identity"], row["x_path"], row["x_y"]) == ("mine", "a.mp4", "v", "old", 1)


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        ("path,kind\na.mp4,video\n", {}, "lacks the column 'label' (it has path, kind)"),
        ("file,label\na.mp4,0\n", {}, "lacks the column 'path'"),
        ("path,label\n", {}, "holds no rows"),
        ("path,label\na.mp4,0\nd.jpg,perhaps\n", {}, "row 2 (d.jpg): label 'perhaps' is not known"),
        ("path,label,split\na.mp4,0,holdout\n", {}, "row 1 (a.mp4): split 'holdout' is not known"),
        ("path,label,part\na.mp4,0,x\n", {}, "row 1 (a.mp4): part 'x' is no whole number"),
        ("path,label\n,0\n", {}, "has no path"),
        ("path,label\na.mp4,0,0\n", {}, "row 1 has not as many fields"),
        ("path,label\na.mp4,0\n./a.mp4,0\n", {}, "path 'a.mp4' stands twice"),
        ("path,label,video_id\na.mp4,0,v\nd.jpg,0,v\n", {}, "video_id 'v' stands twice"),
        ("path,label\na.mp4,0\n", {"columns": ["file=path"]}, "does not begin with a column of ours"),
        ("path,label\na.mp4,0\n", {"columns": ["group=labl"]}, "has no column 'labl'; did you mean 'label'?"),
    ],
)
def test_mistakes_name_row_and_value(folder, content, options, says):
    with pytest.raises(UserError) as error:
        listing.read(text(folder, content), **options)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("l.xlsx", b"x", "known: .csv, .jsonl, .parquet"),
        ("l.parquet", b"x", "cannot be read"),
        ("l.jsonl", b'{"path": 1', "cannot be read"),
        ("l.jsonl", b"[1]", "row 1 is no object"),
        ("l.csv", b"path,label\n\xff,0\n", "cannot be read as CSV"),
    ],
)
def test_files_that_are_no_list_are_said(folder, name, content, says):
    (folder / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        listing.read(folder / name)
    assert says in str(error.value)


def test_a_folder_without_a_list_is_said(folder):
    with pytest.raises(UserError, match=r"call it labels\.csv or labels\.jsonl or labels\.parquet"):
        listing.read(folder)
