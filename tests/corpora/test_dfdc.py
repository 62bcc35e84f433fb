"""DFDC: labels from the parts' lists, groups by original, what is not there."""

import json

import pytest

from dfdet.corpora import dfdc
from dfdet.errors import UserError

FAKE, REAL = {"label": "FAKE", "split": "train", "original": "aaaaaaaaaa.mp4"}, {"label": "REAL", "split": "train"}


def part(root, name, entries, absent=()):
    folder = root / name
    folder.mkdir()
    (folder / "metadata.json").write_text(json.dumps(entries))
    for video in set(entries) - set(absent):
        (folder / video).touch()


@pytest.fixture
def root(tmp_path):
    part(
        tmp_path,
        "dfdc_train_part_0",
        {"aaaaaaaaaa.mp4": REAL, "bbbbbbbbbb.mp4": FAKE, "cccccccccc.mp4": FAKE},
        ["cccccccccc.mp4"],
    )
    part(tmp_path, "dfdc_train_part_37", {"dddddddddd.mp4": REAL})
    part(tmp_path, "dfdc_train_part_40", {"eeeeeeeeee.mp4": {**FAKE, "original": "zzzzzzzzzz.mp4"}})
    part(tmp_path, "train_sample_videos", {"bbbbbbbbbb.mp4": FAKE, "ffffffffff.mp4": {**REAL, "original": None}})
    (tmp_path / "dfdc_train_part_40" / "unlisted.mp4").touch()
    (tmp_path / "dfdc_train_part_41").mkdir()
    (tmp_path / "dfdc_train_part_41" / "gggggggggg.mp4").touch()
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "labels.csv").write_text("filename,label\nhhhhhhhhhh.mp4,0\niiiiiiiiii.mp4,1\n")
    for name in ("hhhhhhhhhh", "iiiiiiiiii"):
        (tmp_path / "test" / f"{name}.mp4").touch()
    (tmp_path / "test_videos").mkdir()
    (tmp_path / "test_videos" / "jjjjjjjjjj.mp4").touch()
    return tmp_path


def test_rows_as_released(root):
    reading = dfdc.read(root)
    table = reading.table.set_index("path")
    assert len(table) == 8
    assert table["label"].to_dict()["dfdc_train_part_0/bbbbbbbbbb.mp4"] == 1
    assert set(table["split"][table.index.str.startswith("test/")]) == {"test"}
    assert set(table["split"][~table.index.str.startswith("test/")]) == {"train"}
    assert table["part"]["dfdc_train_part_37/dddddddddd.mp4"] == 37
    assert table["original"]["dfdc_train_part_40/eeeeeeeeee.mp4"] == "dfdc_train_part_40/zzzzzzzzzz"
    assert table["original"]["train_sample_videos/ffffffffff.mp4"] is None
    assert reading.missing == 1
    assert any("expect_all" in note for note in reading.notes)


def test_what_has_no_label_is_passed_over_and_counted(root):
    reading = dfdc.read(root)
    assert reading.skipped["in no list, so without a label"] == 2
    assert reading.skipped["outside the released folders"] == 1
    assert any("dfdc_train_part_41 has no metadata.json" in note for note in reading.notes)


def test_a_group_is_an_original_with_its_fakes_in_the_parts_and_in_the_sample(root):
    table = dfdc.read(root).table
    groups = table.groupby("group")["path"].apply(list).to_dict()
    assert groups["aaaaaaaaaa"] == [
        "dfdc_train_part_0/aaaaaaaaaa.mp4",
        "dfdc_train_part_0/bbbbbbbbbb.mp4",
        "train_sample_videos/bbbbbbbbbb.mp4",
    ]
    assert groups["zzzzzzzzzz"] == ["dfdc_train_part_40/eeeeeeeeee.mp4"]
    assert any("1 video(s) lie in a training part and in train_sample_videos" in note for note in dfdc.read(root).notes)


@pytest.mark.parametrize(
    ("number", "split"), [(0, "train"), (34, "train"), (35, "val"), (39, "val"), (40, "test"), (49, "test")]
)
def test_the_rule_of_parts(tmp_path, number, split):
    part(tmp_path, f"dfdc_train_part_{number}", {"aaaaaaaaaa.mp4": REAL})
    assert dfdc.read(tmp_path, split_rule="parts").table["split"].tolist() == [split]
    assert dfdc.read(tmp_path).table["split"].tolist() == ["train"]


def test_samples_and_the_test_set_have_no_split_under_the_rule_of_parts(root):
    reading = dfdc.read(root, split_rule="parts")
    outside = reading.table[reading.table["part"].isna()]
    assert outside["split"].tolist() == [None] * 4
    assert any("no split under this rule" in note for note in reading.notes)


def test_all_of_a_list_may_be_expected(root):
    reading = dfdc.read(root, expect_all=True)
    missing = reading.table[reading.table["status"] == "missing"]
    assert missing["path"].tolist() == ["dfdc_train_part_0/cccccccccc.mp4"]
    assert missing["reason"].notna().all()
    assert reading.missing == 1


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("dfdc_train_part_0/metadata.json", "{", "cannot be read as JSON"),
        ("dfdc_train_part_0/metadata.json", "[]", "holds no object"),
        ("dfdc_train_part_0/metadata.json", '{"a.mp4": {"label": "MAYBE"}}', "'a.mp4' has the entry"),
        ("dfdc_train_part_0/metadata.json", '{"../a.mp4": {"label": "FAKE"}}', "'../a.mp4' has the entry"),
        ("test/labels.csv", "name,label\n", "lacks the column 'filename'"),
        ("test/labels.csv", "filename,label\na.mp4,2\n", "'a.mp4' has the entry"),
    ],
)
def test_a_broken_list_is_said(root, name, text, says):
    (root / name).write_text(text)
    with pytest.raises(UserError) as error:
        dfdc.read(root)
    assert says in str(error.value)
    assert str(root / name) in str(error.value)


def test_wrong_rule_and_wrong_folders_are_said(root, tmp_path_factory):
    with pytest.raises(UserError, match="did you mean 'parts'"):
        dfdc.read(root, split_rule="part")
    with pytest.raises(UserError, match=f"give the folder above it: {root}"):
        dfdc.read(root / "dfdc_train_part_0")
    lists_only = tmp_path_factory.mktemp("lists")
    part(lists_only, "dfdc_train_part_1", {"aaaaaaaaaa.mp4": REAL}, ["aaaaaaaaaa.mp4"])
    with pytest.raises(UserError, match="none of the 1 videos"):
        dfdc.read(lists_only)
    assert len(dfdc.read(lists_only, expect_all=True).table) == 1
    (lists_only / "dfdc_train_part_1" / "metadata.json").unlink()
    with pytest.raises(UserError, match="holds no labelled video"):
        dfdc.read(lists_only)
