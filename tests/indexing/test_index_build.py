"""A row a file: what decodes, which reader is right, the whole picture as the box of a crop."""

import csv
import hashlib
import subprocess

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dfdet import manifest

STATUS = {"exact": {"ok"}, "partial": {"partial"}, "error": {"unreadable", "empty"}}


@pytest.mark.data
def test_the_codec_suite_is_indexed_to_the_frame(sample_media, tmp_path, dfdet_command):
    suite = sample_media / "codec_suite"
    expected = pd.read_csv(suite / "expected.csv").set_index("file")
    listed = pd.DataFrame({"path": expected.index, "video_id": expected.index, "label": 0})
    listed.to_csv(tmp_path / "labels.csv", index=False)
    source = ["index", "csv", str(tmp_path), "--relative_to", str(suite), "--cropped"]
    done = subprocess.run(
        [*dfdet_command, *source, "--out", str(tmp_path / "m.parquet")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    rows = manifest.read(tmp_path / "m.parquet").table.set_index("path")
    assert sorted(rows.index) == sorted(expected.index)
    for name, row in rows.iterrows():
        assert row["num_frames"] == expected.loc[name, "decodable_frames"], name
        assert row["status"] in STATUS[expected.loc[name, "expected"]], name
        assert pd.isna(row["reason"]) == (row["status"] == "ok"), name
        if row["reader"] == "decord":
            assert expected.loc[name, "decord060"] == "exact", name
    assert rows.loc["h264_444_x264core148.mp4", "reader"] == "decord0"
    assert rows.loc["h264_trim_hide200.mp4", "reader"] == "pyav"
    assert (rows["reader"] == "decord").sum() > 35


def test_every_file_is_a_row(undisturbed, films, file_count):
    found = manifest.read(undisturbed)
    rows = found.table.set_index("path")
    assert len(rows) == file_count == 19
    assert rows["status"].value_counts().to_dict() == {"ok": 16, "unreadable": 2, "empty": 1}
    assert rows.loc["real/6.mp4", "num_frames"] == 38
    assert rows.loc["fake/empty.mp4", "reason"] == "the file has no bytes"
    assert set(rows.loc[rows["status"] != "ok", "reader"]) == {"none"}
    for path, row in rows.iterrows():
        content = (films / path).read_bytes()
        assert (row["size"], row["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert found.meta["faces"] == {"name": "cropped"}
    assert found.root == films.resolve()


def test_one_worker_and_three_write_the_same_bytes(films, tmp_path, start_index, same_tables):
    running = start_index(films, tmp_path / "m.parquet", "--workers", "3")
    assert running.finish()[0] == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.faces.parquet", "m.parquet"]
    same_tables(tmp_path / "m.parquet")


def test_a_crop_is_its_own_box_the_way_up_that_it_is_meant(tmp_path, start_index):
    root = tmp_path / "crops"
    for label in ("real", "fake"):
        (root / label).mkdir(parents=True)
        cv2.imwrite(str(root / label / "face.png"), np.full((50, 40, 3), 120, np.uint8))
    turned = Image.new("RGB", (60, 30), (200, 10, 10))
    exif = turned.getexif()
    exif[0x0112] = 6  # a quarter turn
    turned.save(root / "real" / "turned.jpg", exif=exif)
    (root / "fake" / "none.jpg").write_text("no picture")
    cut = (root / "real" / "turned.jpg").read_bytes()[:-40]
    (root / "fake" / "cut.jpg").write_bytes(cut)
    out = tmp_path / "m.parquet"
    assert start_index(root, out).finish()[0] == 0
    found = manifest.read(out)
    rows = found.table.set_index("path")
    tracks = manifest.read_tracks(found)
    assert set(rows["kind"].drop("fake/none.jpg")) == {"image"}
    assert rows["status"].to_dict() == {
        "fake/cut.jpg": "unreadable",
        "fake/face.png": "ok",
        "fake/none.jpg": "unreadable",
        "real/face.png": "ok",
        "real/turned.jpg": "ok",
    }
    for name, (width, height) in {"real/face": (40, 50), "fake/face": (40, 50), "real/turned": (30, 60)}.items():
        row = rows.loc[rows["video_id"] == name].iloc[0]
        assert (row["width"], row["height"], row["num_frames"], row["reader"]) == (width, height, 1, "image")
        assert (row["face_status"], row["num_tracks"], row["main_track"]) == ("ok", 1, 0)
        boxes = tracks.of(name)
        assert [boxes[c].tolist() for c in ("frame", "x", "y", "w", "h")] == [[0], [0], [0], [width], [height]]
    assert len(tracks.of("fake/none")["frame"]) == 0


@pytest.mark.data
def test_faces_of_real_pictures_are_found_and_the_detector_is_recorded(sample_media, tmp_path, dfdet_command):
    source = sample_media / "celebdf_clips"
    clip = next((source / "real").glob("*.mp4"))
    (tmp_path / "labels.csv").write_text(f"path,label\n{clip},0\n")
    command = ["index", "csv", str(tmp_path), "--detector", "dlib", "--detector_size", "320", "--stride", "40"]
    done = subprocess.run(
        [*dfdet_command, *command, "--out", str(tmp_path / "m.parquet")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = manifest.read(tmp_path / "m.parquet")
    row = found.table.iloc[0]
    assert (row["status"], row["face_status"]) == ("ok", "ok")
    boxes = manifest.read_tracks(found).of(row["video_id"])
    assert ((boxes["x"] >= -50) & (boxes["x"] + boxes["w"] <= row["width"] + 50)).all()
    faces = found.meta["faces"]
    assert {"name", "version", "size", "stride", "score", "box", "interpolation"} <= set(faces)
    assert (faces["name"], faces["size"], faces["stride"]) == ("dlib", 320, 40)


def test_a_file_that_goes_while_indexing_and_a_folder_in_its_place_are_rows(copied, tmp_path, dfdet_command):
    (copied / "folder.mp4").mkdir()
    with (copied / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "label"], ["real/0.mp4", 0], ["gone.mp4", 1], ["folder.mp4", 1]])
    out = tmp_path / "m.parquet"
    subprocess.run([*dfdet_command, "index", "csv", str(copied), "--cropped", "--out", str(out)], check=True)
    rows = manifest.read(out).table.set_index("path")
    assert rows["status"].to_dict() == {"folder.mp4": "unreadable", "gone.mp4": "missing", "real/0.mp4": "ok"}
    assert "directory" in rows.loc["folder.mp4", "reason"]
