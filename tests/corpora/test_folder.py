"""A folder of real and fake files."""

import pytest

from dfdet.corpora import folder
from dfdet.errors import UserError


@pytest.fixture
def plant(tmp_path):
    def files(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return files


def test_class_and_split_come_from_the_folders_in_any_case(plant):
    root = plant("train/Real/a.mp4", "train/FAKE/deep/b.MOV", "VAL/1_fake/c.png", "test/originals/d.mkv", "real/e.mp4")
    table = folder.read(root).table.set_index("path")
    assert table["label"].to_dict() == {
        "VAL/1_fake/c.png": 1,
        "real/e.mp4": 0,
        "test/originals/d.mkv": 0,
        "train/FAKE/deep/b.MOV": 1,
        "train/Real/a.mp4": 0,
    }
    assert table["split"].tolist() == ["val", None, "test", "train", "train"]
    assert table["kind"].tolist() == ["image", "video", "video", "video", "video"]


def test_further_names(plant):
    root = plant("videos_real/v1.mp4", "Videos_Fake/vs1.mp4", "other/x.mp4", "x.mp4")
    reading = folder.read(root, real=["videos_real"], fake=["videos_fake"])
    assert reading.table["label"].tolist() == [1, 0]
    assert reading.skipped == {"not below a folder of real or fake files": 2}


def test_groups_by_regular_expression_or_none(plant):
    root = plant("real/v1.mp4", "fake/vs1.mp4", "fake/vs10.mp4", "fake/other.mp4")
    reading = folder.read(root, group_regex=r"vs?(\d+)")
    assert reading.table.set_index("path")["group"].to_dict() == {
        "real/v1.mp4": "1",
        "fake/vs1.mp4": "1",
        "fake/vs10.mp4": "10",
        "fake/other.mp4": "fake/other",
    }
    assert any("1 file(s) do not match group_regex" in note for note in reading.notes)
    alone = folder.read(root)
    assert alone.table["group"].nunique() == 4
    assert any("cannot be checked" in note for note in alone.notes)


def test_the_regular_expression_sees_folders_but_not_the_class(plant):
    root = plant("real/anna/1.mp4", "fake/anna/1.mp4", "fake/bert/1.mp4")
    assert folder.read(root, group_regex=r"^[^/]+").table["group"].tolist() == ["anna", "bert", "anna"]


def test_what_a_user_may_not_expect_is_said(plant):
    root = plant("real/train/a.mp4", "train/real/b.mp4", "labels.csv")
    notes = " ".join(folder.read(root).notes)
    assert "labels.csv in this folder was not read; the corpus csv reads it." in notes
    assert "There are only real files." in notes
    assert "1 file(s) lie outside the folders of the splits." in notes
    assert "1 file(s) lie in a split below real or fake" in notes


@pytest.mark.parametrize(
    ("names", "options", "says"),
    [
        (["a.mp4"], {}, "has no folders of real and fake files; expected real/ and fake/"),
        (["real/notes.txt", "fake/notes.txt"], {}, "below fake, real"),
        (["train/real/notes.txt"], {}, "below train/real"),
        (["real/a.mp4"], {"fake": ["Real"]}, "stands for real and for fake"),
        (["real/a.mp4"], {"group_regex": "("}, "is no regular expression"),
        (["real/a.mp4", "real/a.avi"], {}, "video_id 'real/a' stands twice"),
    ],
)
def test_mistakes_are_said(plant, names, options, says):
    with pytest.raises(UserError) as error:
        folder.read(plant(*names), **options)
    assert says in str(error.value)
