"""`dfdet explain` on videos and pictures, by the real command line."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from dfdet.cli import main
from dfdet.manifest import read


@pytest.fixture(scope="module")
def material(tiny, tmp_path_factory):
    """A video with a face, one of the same name elsewhere, and one without a face."""
    import shutil

    folder = tmp_path_factory.mktemp("material")
    table = read(tiny / "tiny.parquet").table
    face = table[(table["split"] == "test") & (table["num_tracks"] == 1)].iloc[0]
    blind = table[table["video_id"].str.contains("no_head")].iloc[0]
    (folder / "again").mkdir()
    for row, name in ((face, "clip.mp4"), (face, "again/clip.mp4"), (blind, "blind.mp4")):
        shutil.copy(tiny / "corpus" / row["path"], folder / name)
    return folder


@pytest.fixture(scope="module")
def drawn(material, small_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("explained")
    words = ["explain", str(material), "--run", str(small_run), "--out", str(out), "--json", str(out / "t.json")]
    assert main(words) == 0
    return out


def test_every_file_has_a_row_and_those_with_a_face_have_pictures(drawn, material):
    ((table),) = json.loads((drawn / "t.json").read_text())
    rows = {row["path"].removeprefix(f"{material}/"): row for row in table["rows"]}
    assert set(rows) == {"clip.mp4", "again/clip.mp4", "blind.mp4"}
    assert rows["blind.mp4"]["pictures"] is None
    assert rows["blind.mp4"]["remark"] == "no face was found"
    assert {rows[n]["pictures"] for n in ("clip.mp4", "again/clip.mp4")} == {str(drawn / "clip"), str(drawn / "clip-2")}
    assert "Grad-CAM of network.conv2" in rows["clip.mp4"]["map"]


def test_there_are_a_sheet_overlays_whole_frames_residuals_and_a_film(drawn):
    names = sorted(p.stem.split("-")[0] + p.suffix for p in (drawn / "clip").iterdir())
    assert names.count("sheet.png") == 1
    assert names.count("film.mp4") == 1
    assert names.count("frame.png") == 4  # two clips of one frame, crop and whole
    assert names.count("residuals.png") == 2
    wholes = list((drawn / "clip").glob("frame-*-whole.png"))
    assert {cv2.imread(str(p)).shape for p in wholes} == {(192, 256, 3)}


def test_the_same_video_gives_the_same_pictures_under_another_name(drawn):
    for picture in (drawn / "clip").glob("frame-*.png"):
        np.testing.assert_array_equal(cv2.imread(str(picture)), cv2.imread(str(drawn / "clip-2" / picture.name)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["explain", "x.mp4"], "wants a run or weights"),
        (["explain", "--run", "RUN"], "wants files or folders"),
        (["explain", "nowhere.mp4", "--run", "RUN"], "nowhere.mp4 does not exist"),
        (["explain", "x.mp4", "--run", "RUN", "--layer", "cnv2"], "no layer 'cnv2'; did you mean 'conv2'"),
        (["explain", "x.mp4", "--run", "RUN", "--method", "attention"], "has no attention map; take --method gradcam"),
        (["explain", "x.mp4", "--run", "RUN", "--method", "cam_legacy"], "no trunk before an LSTM"),
        (["explain", "x.mp4", "--run", "RUN", "--method", "gradcm"], "did you mean 'gradcam'"),
    ],
)
def test_a_mistake_is_one_line(arguments, said, small_run, capsys):
    capsys.readouterr()
    assert main([str(small_run) if word == "RUN" else word for word in arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
