"""What `check` counts, and what it finds wrong."""

from pathlib import Path

import pandas as pd
import pytest

from dfdet import corpora, manifest
from dfdet.indexing.check import check, findings

GOOD = [
    {"path": f"{split}/{label}{i}.mp4", "label": label, "split": split, "group": f"{split}{i}"}
    for split in ("train", "val", "test")
    for label in (0, 1)
    for i in range(2)
]


def made(tmp_path, rows, **columns):
    full = [
        {
            "corpus": "c",
            "video_id": row["path"][:-4],
            "kind": "video",
            "method": ["real", "swap"][row["label"]] if row.get("label") is not None else None,
            "status": "ok",
            "reader": "decord",
            "face_status": "ok",
            "coverage": 1.0,
            "sha256": row["path"],
            **row,
        }
        for row in rows
    ]
    return manifest.write(tmp_path / "m.parquet", pd.DataFrame(full).assign(**columns), None, {"root": str(tmp_path)})


def changed(**changes):
    """GOOD with the row at train/10.mp4 (a fake) changed."""
    return [{**row, **changes} if row["path"] == "train/10.mp4" else row for row in GOOD]


def test_counts(tmp_path):
    rows = changed(
        status="unreadable", reason="packet 17 of 20 is broken", reader="none", face_status=None, coverage=None
    )
    rows[-1] = {**rows[-1], "status": "unreadable", "reason": "packet 3 of 9 is broken", "reader": "pyav"}
    rows[-1]["reader_reason"] = "seek to 12 differs"
    tables = {table.title: table for table in check(made(tmp_path, rows))}
    assert tables["Videos by split"].rows == [
        ["c", "train", 2, 2, 0, 3, 2],
        ["c", "val", 2, 2, 0, 4, 2],
        ["c", "test", 2, 2, 0, 3, 2],
    ]
    assert tables["Videos by method"].rows == [["c", "real", 2, 2, 2, 0, 6], ["c", "swap", 2, 2, 2, 0, 6]]
    assert tables["Files by status"].rows == [["ok", "", 10], ["unreadable", "packet N of N is broken", 2]]
    assert tables["Files by reader"].rows == [["decord", "", 10], ["none", "", 1], ["pyav", "seek to 12 differs", 1]]
    assert tables["Faces by label"].rows == [["c", "fake", 5, 1.0, 0.0, 0.0], ["c", "real", 6, 1.0, 0.0, 0.0]]


def test_a_good_manifest_has_no_findings(tmp_path):
    made_well = made(tmp_path, GOOD)
    assert findings(made_well) == []
    assert check(made_well)[-1].notes == ["Nothing looks wrong."]


@pytest.mark.parametrize(
    ("rows", "says", "videos"),
    [
        ([r for r in GOOD if r["split"] != "test" or r["label"]], "c, split test: only fake videos", 2),
        ([r for r in GOOD if r["split"] != "val"], "a train split and no val", 4),
        (changed(status="unreadable", reason="no stream"), "Files cannot be read.", 1),
        (changed(status="missing"), "Files are not there.", 1),
        (changed(status="partial"), "Files decode in part", 1),
        (changed(status="empty"), "Files are empty.", 1),
        (changed(status="conflict"), "Files contradict", 1),
        (changed(sha256="train/00.mp4"), "The same file stands under both labels (1 such).", 2),
        (changed(sha256="val/10.mp4"), "The same file stands in two splits (1 such).", 2),
        (changed(group="test0"), "stands in two splits (1 such).", 3),
        (changed(original="nowhere"), "made from is not here (1 such).", 1),
        (changed(face_status="none", coverage=None), "(real 100.0 %, fake 83.3 %)", 1),
        (changed(face_status="none", coverage=0.0), "No face was found.", 1),
        ([{**r, "status": "missing"} for r in GOOD], "No file can be used.", 12),
        ([{**r, "split": None} for r in GOOD if not r["label"]], "c, without a split: only real videos", 6),
    ],
)
def test_findings(tmp_path, rows, says, videos):
    found = [finding for finding in findings(made(tmp_path, rows)) if says in finding.sentence]
    assert [finding.videos for finding in found] == [videos]
    assert found[0].example.endswith(".mp4")


def test_what_is_right_is_not_found(tmp_path):
    for rows in (
        changed(face_status="few", coverage=0.95),  # a gap of 0.8 points
        changed(original="train/00"),
        changed(original="c:train/00"),
        changed(split=None, group="test0"),  # outside the splits a group may be anything's
        [{**r, "split": None} for r in GOOD],  # evaluated as a whole
        changed(label=None),
    ):
        assert [f.sentence for f in findings(made(tmp_path, rows))] == []


def test_groups_are_names_within_their_corpus(tmp_path):
    other = [
        {**r, "corpus": "d", "group": f"train{i}", "sha256": f"d{i}"} for i, r in enumerate(GOOD) if r["split"] == "val"
    ]
    sentences = [
        f.sentence for f in findings(made(tmp_path, [*GOOD, *({**r, "path": f"d/{r['path']}"} for r in other)]))
    ]
    assert sentences == []


def test_a_manifest_without_media_and_faces_is_counted_as_it_is(tmp_path):
    bare = pd.DataFrame(GOOD).assign(corpus="c", video_id=[r["path"] for r in GOOD], kind="video", status="ok")
    titles = [t.title for t in check(manifest.Manifest(bare, {}, None, Path()))]
    assert titles == ["Videos by split", "Videos by method", "Files by status", "What looks wrong"]


@pytest.mark.data
def test_real_corpus_before_indexing(sample_media, tmp_path):
    table = corpora.read("csv", sample_media / "dfdc_faces").table.assign(status="ok")
    tables = check(manifest.write(tmp_path / "m.parquet", table, None, {"root": "."}))
    assert [row[2:] for row in tables[0].rows] == [
        [1350, 1350, 0, 2700, 94],
        [272, 272, 0, 544, 46],
        [533, 533, 0, 1066, 64],
    ]
    assert tables[-1].rows == []
