"""FaceForensics++: who is who in a name, splits by pair, what is passed over."""

import json
import shutil

import pytest

from dfdet.corpora import faceforensics
from dfdet.errors import UserError

REAL, FAKE = "original_sequences/youtube", "manipulated_sequences"
FILES = [
    f"{REAL}/c23/videos/071.mp4",
    f"{REAL}/c23/videos/054.mp4",
    f"{REAL}/c40/videos/071.mp4",
    f"{REAL}/c0/videos/071.mp4",
    f"{FAKE}/Deepfakes/c23/videos/071_054.mp4",
    f"{FAKE}/Deepfakes/c40/videos/071_054.mp4",
    f"{FAKE}/Deepfakes/c0/videos/071_054.mp4",
    f"{FAKE}/FaceSwap/c23/videos/720_672.mp4",
    f"{FAKE}/FaceSwap/c23/videos/054_672.mp4",
    f"{FAKE}/Deepfakes/masks/videos/071_054.mp4",
    f"{FAKE}/DeepFakeDetection/c23/videos/01_02__kitchen_pan__YVGY8LOK.mp4",
    "original_sequences/actors/c23/videos/01__kitchen_pan.mp4",
    "downloaded_videos/abc/abc.mp4",
    "unsorted/003_000.mp4",
    "holiday.mp4",
]
LISTS = {"train": [["071", "054"]], "val": [["672", "720"]], "test": [["000", "003"]]}


@pytest.fixture
def root(tmp_path):
    # "raw" and "mask" in the root's own name must not matter
    root = tmp_path / "raw_mask"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    write_lists(root / "splits", LISTS)
    return root


def write_lists(folder, lists):
    folder.mkdir(exist_ok=True)
    for split, pairs in lists.items():
        (folder / f"{split}.json").write_text(json.dumps(pairs))


def rows_of(reading):
    return {row["path"]: row for row in reading.table.to_dict("records")}


def test_a_fake_names_its_target_first_and_its_donor_second(root):
    row = rows_of(faceforensics.read(root))[f"{FAKE}/Deepfakes/c23/videos/071_054.mp4"]
    assert (row["identity"], row["source_identity"]) == ("ffpp:071", "ffpp:054")
    assert row["original"] == f"{REAL}/c23/videos/071"
    assert (row["content_id"], row["split"], row["group"]) == ("Deepfakes/071_054", "train", "ffpp:054")


def test_splits_go_by_the_pair_in_either_direction(root):
    reading = faceforensics.read(root)
    rows = rows_of(reading)
    assert rows[f"{FAKE}/FaceSwap/c23/videos/720_672.mp4"]["split"] == "val"
    assert rows[f"{FAKE}/FaceSwap/c23/videos/054_672.mp4"]["split"] is None
    assert any("1 video(s) are not in the lists" in note for note in reading.notes)


def test_other_files_are_passed_over_and_counted(root):
    reading = faceforensics.read(root)
    assert len(reading.table) == 5
    assert reading.skipped == {
        "DeepFakeDetection (name it in methods to have it)": 2,
        "masks, models and downloaded videos": 2,
        "neither video nor image": 3,
        "not a file of the release": 1,
        "other compressions": 4,
        "outside the official folders": 1,
    }
    assert any("unsorted/003_000.mp4" in note for note in reading.notes)
    assert "Nothing of Face2Face, FaceShifter, NeuralTextures at c23." in reading.notes


def test_all_compressions_share_content_and_original_stays_at_its_own(root):
    table = faceforensics.read(root, compression="all", methods=["Deepfakes"]).table
    fakes = table[table["content_id"] == "Deepfakes/071_054"].set_index("compression")
    assert sorted(fakes.index) == ["c23", "c40", "raw"]
    assert fakes["original"]["c40"] == f"{REAL}/c40/videos/071"
    assert fakes["original"]["raw"] == f"{REAL}/c0/videos/071"
    assert fakes["group"].nunique() == 1


@pytest.mark.parametrize("name", ["raw", "c0"])
def test_raw_and_c0_are_one_level(root, name):
    table = faceforensics.read(root, compression=name).table
    assert set(table["compression"]) == {"raw"}
    assert len(table) == 2


def test_deepfakedetection_comes_only_when_named_and_needs_no_lists(root):
    shutil.rmtree(root / "splits")
    reading = faceforensics.read(root, methods=["DeepFakeDetection"])
    assert set(reading.table["corpus"]) == {"dfd"}
    assert set(reading.table["scene"]) == {"kitchen_pan"}
    fake, real = reading.table.to_dict("records")
    assert fake["original"] == real["video_id"]
    assert (fake["identity"], fake["source_identity"], real["identity"]) == ("dfd:01", "dfd:02", "dfd:01")
    assert "DeepFakeDetection has no released split: its videos have none." in reading.notes


def test_one_method_alone_will_do(root):
    shutil.rmtree(root / REAL)
    reading = faceforensics.read(root, methods=["FaceSwap"])
    assert set(reading.table["method"]) == {"FaceSwap"}
    assert "No original at c23: there are fakes only." in reading.notes


def test_splits_may_be_a_csv_of_paths(root, tmp_path):
    lines = ["path,split,note", f"{FILES[0]},dev,x", f"{FILES[1]},extra,", f"{FILES[4]},test,"]
    file = tmp_path / "mine.csv"
    file.write_text("\n".join(lines) + "\n")
    rows = rows_of(faceforensics.read(root, methods=["Deepfakes"], splits=file))
    assert [rows[FILES[i]]["split"] for i in (0, 1, 4)] == ["val", None, "test"]


def test_uploads_used_twice_join_groups_where_their_list_is_there(root):
    uploads = {"071": "same 0", "672": "same 1", "054": "other 0"}
    (root / "splits" / "conversion_dict.json").write_text(json.dumps(uploads))
    table = faceforensics.read(root, methods=["Deepfakes", "FaceSwap"]).table
    assert table["group"].nunique() == 1
    assert table.set_index("path")["origin"][FILES[0]] == "same"


@pytest.mark.data
def test_the_released_lists_give_478_groups_of_which_7_straddle(sample_media, tmp_path):
    lists = sample_media / "lists" / "ffpp"
    pairs = [pair for split in ("train", "val", "test") for pair in json.loads((lists / f"{split}.json").read_text())]
    real, fake = (tmp_path / REAL / "c23/videos", tmp_path / FAKE / "Deepfakes/c23/videos")
    for folder in (real, fake):
        folder.mkdir(parents=True)
    for a, b in pairs:
        for file in (real / f"{a}.mp4", real / f"{b}.mp4", fake / f"{a}_{b}.mp4", fake / f"{b}_{a}.mp4"):
            file.touch()
    table = faceforensics.read(tmp_path, methods=["Deepfakes"], splits=lists).table
    assert table.groupby(["split", "label"]).size().to_dict() == {
        ("test", 0): 140,
        ("test", 1): 140,
        ("train", 0): 720,
        ("train", 1): 720,
        ("val", 0): 140,
        ("val", 1): 140,
    }
    splits = table.groupby("group")["split"].nunique()
    assert (len(splits), int((splits > 1).sum())) == (478, 7)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"compression": "c32"}, "compression 'c32' is not known; known: raw, c23, c40, all"),
        ({"methods": ["Deepfake"]}, "method 'Deepfake' is not in FaceForensics++; did you mean 'Deepfakes'?"),
        (
            {"methods": ["DeepFakeDetection"], "compression": "c40"},
            "there is DeepFakeDetection at c23, Deepfakes at c23",
        ),
    ],
)
def test_wrong_options_are_said(root, options, says):
    with pytest.raises(UserError) as error:
        faceforensics.read(root, **options)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("val.json", None, "github.com/ondyari/FaceForensics, dataset/splits, and name their folder by splits"),
        ("val.json", "[", "cannot be read as JSON"),
        ("val.json", "{}", "holds no list"),
        ("val.json", '[["071"]]', "no pair of ids"),
        ("val.json", '[["071", "672"]]', "071 stands in train too"),
    ],
)
def test_lists_that_are_absent_or_wrong_are_said(root, name, text, says):
    file = root / "splits" / name
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(UserError) as error:
        faceforensics.read(root)
    assert says in str(error.value)
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,part\n", "lacks the column 'split'"),
        (f"path,split\n{FILES[0]},training-ish\n", "split 'training-ish' is not known"),
        (f"path,split\n{FILES[0]}\n", "row 1 has not as many fields"),
    ],
)
def test_a_csv_of_splits_that_is_wrong_is_said(root, tmp_path, text, says):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(UserError) as error:
        faceforensics.read(root, splits=tmp_path / "s.csv")
    assert says in str(error.value)


def test_the_folder_above_the_root_leads_to_the_root(root):
    with pytest.raises(UserError) as error:
        faceforensics.read(root.parent)
    assert f"give {root}" in str(error.value)


def test_a_folder_of_something_else_names_the_expected_tree(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UserError, match="expected original_sequences/youtube/c23/videos"):
        faceforensics.read(tmp_path)
