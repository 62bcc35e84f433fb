"""The demo corpus: what it promises about its files, its split and its awkward cases."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import av
import pytest

from dfdet import files
from dfdet.demo.corpus import COLUMNS, DemoCorpus, make
from dfdet.demo.plan import AWKWARD, CRFS, SPLITS, Settings, pairs_of, plan
from dfdet.errors import UserError

SMALL = {"identities": 6, "frames": 10, "seed": 3, "size": (160, 120)}
DEFAULT = Settings(40, 50, 0.85, 0, 2, 320, 240)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> DemoCorpus:
    return make(tmp_path_factory.mktemp("demo") / "small", workers=2, **SMALL)


def hashes(corpus: DemoCorpus) -> dict[str, str]:
    return {video.path: files.sha256(corpus.folder / video.path) for video in corpus.videos}


def rows(corpus: DemoCorpus) -> list[dict[str, str]]:
    with corpus.labels.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_the_same_seed_makes_the_same_bytes_for_any_number_of_processes(small, tmp_path):
    again = make(tmp_path / "again", workers=1, **SMALL)
    assert hashes(again) == hashes(small)
    assert again.labels.read_bytes() == small.labels.read_bytes()


def test_another_seed_makes_other_bytes(small, tmp_path):
    other = make(tmp_path / "other", workers=2, **{**SMALL, "seed": 4})
    mine, theirs = hashes(small), hashes(other)
    assert mine.keys() == theirs.keys()
    assert not [path for path in mine if mine[path] == theirs[path]]


def test_labels_name_every_file_once_and_nothing_else(small):
    table = rows(small)
    assert tuple(table[0]) == COLUMNS == (
        "path", "label", "method", "split", "identity", "source_identity", "original", "group",
    )  # fmt: skip
    on_disk = {path.relative_to(small.folder).as_posix() for path in small.folder.rglob("*.mp4")}
    assert sorted(on_disk) == sorted(row["path"] for row in table)
    assert all(row["path"].startswith(f"{row['split']}/{row['label']}/") for row in table)


def test_every_fake_names_its_real_video_on_the_same_side(small):
    table = rows(small)
    reals = {row["path"].removesuffix(".mp4"): row for row in table if row["label"] == "real"}
    fakes = [row for row in table if row["label"] == "fake"]
    for fake in fakes:
        original = reals[fake["original"]]
        assert (original["split"], original["group"], original["identity"]) == (
            fake["split"], fake["group"], fake["identity"],
        )  # fmt: skip
    assert {fake["method"] for fake in fakes} == {"swap", "reenact"}


def test_videos_are_h264_yuv420p_of_the_asked_size_rate_and_length(small):
    for video in small.videos:
        with av.open(str(small.folder / video.path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
            assert (stream.width, stream.height, stream.average_rate) == (160, 120, 25)
            assert sum(1 for _ in container.decode(stream)) == 10


@pytest.mark.parametrize("identities", [6, 8, 24, 40, 100])
def test_no_identity_and_no_group_stands_on_two_sides(identities):
    sides: dict[str, set[str]] = defaultdict(set)
    for footage in plan(Settings(identities, 50, 0.85, 0, 2, 320, 240)):
        for video in footage.videos:
            for key in (video.identity, video.source_identity, f"group {video.group}", footage.donor, footage.target):
                sides[key or "nobody"].add(video.split)
    sides.pop("nobody")
    assert all(len(splits) == 1 for splits in sides.values())
    assert all(len(pairs_of(split, identities)) > 0 for split in SPLITS)


def test_the_default_has_ten_test_groups_with_reals_and_with_fakes():
    groups: dict[str, set[str]] = defaultdict(set)
    for footage in plan(DEFAULT):
        for video in footage.videos:
            if video.split == "test":
                groups[video.label].add(video.group)
    assert len(groups["real"]) >= 10
    assert len(groups["fake"]) >= 10


def test_compression_and_method_are_balanced_over_the_label():
    counts: dict[tuple[str, str, int], int] = defaultdict(int)
    for footage in plan(DEFAULT):
        if footage.case == "ordinary":
            assert footage.fake is not None
            for video in footage.videos:
                counts[video.split, video.method, footage.crf] += 1
    for split in SPLITS:
        for method in ("real", "swap", "reenact"):
            light, heavy = (counts[split, method, crf] for crf in CRFS)
            assert light == heavy > 0


def test_every_awkward_case_is_there_under_its_name(small):
    for split, cases in AWKWARD.items():
        for case in cases:
            assert (small.folder / split / "real" / f"awkward_{case}.mp4").exists()
            fake = small.folder / split / "fake" / f"awkward_{case}_swap.mp4"
            assert fake.exists() == (case != "no_head")
    assert set(AWKWARD["test"]) == {"two_heads", "no_head", "late_head", "poster", "hard_cut"}


def test_a_finished_corpus_is_kept_as_it_is(small):
    before = {path: path.stat().st_mtime_ns for path in small.folder.rglob("*.*")}
    again = make(small.folder, workers=1, **SMALL)
    assert (again.written, again.kept) == (0, len(small.videos))
    assert {path: path.stat().st_mtime_ns for path in small.folder.rglob("*.*")} == before


SCRIPT = """
import sys
from dfdet.demo.corpus import make
if __name__ == "__main__":
    make(sys.argv[1], identities=6, frames=10, seed=3, size=(160, 120), workers=2)
"""


def start(tmp_path: Path, folder: Path) -> subprocess.Popen[bytes]:
    script = tmp_path / "run.py"
    script.write_text(SCRIPT, encoding="utf-8")
    return subprocess.Popen([sys.executable, str(script), str(folder)], start_new_session=True, stderr=subprocess.PIPE)


def wait_for_videos(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 40
    while len(list(folder.rglob("[!.]*.mp4"))) < count:
        assert time.monotonic() < deadline, "no videos came"
        time.sleep(0.01)


def test_a_killed_run_is_completed_to_the_same_bytes(small, tmp_path):
    folder = tmp_path / "killed"
    process = start(tmp_path, folder)
    wait_for_videos(folder, 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    leftover = folder / "train" / "real" / ".id000_0_c23.mp4.tmp-1"
    leftover.write_bytes(b"half")
    assert not (folder / "labels.csv").exists()
    done = make(folder, workers=1, **SMALL)
    assert done.kept >= 3
    assert done.written > 0
    assert hashes(done) == hashes(small)
    assert not leftover.exists()


def test_an_interrupt_leaves_whole_files_only(small, tmp_path):
    folder = tmp_path / "interrupted"
    process = start(tmp_path, folder)
    wait_for_videos(folder, 1)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not list(folder.rglob(".*tmp*"))
    expected = hashes(small)
    there = list(folder.rglob("*.mp4"))
    assert 0 < len(there) < len(expected)
    assert all(files.sha256(path) == expected[path.relative_to(folder).as_posix()] for path in there)


def test_other_settings_in_the_same_folder_are_refused_in_one_line(small):
    with pytest.raises(UserError) as refused:
        make(small.folder, **{**SMALL, "frames": 11})
    assert "frames 10, not 11" in str(refused.value)
    assert "take another folder or delete this one" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        make(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("text", ["", "[1]", '{"seed": 1}'])
def test_a_record_that_does_not_fit_is_refused(tmp_path, text):
    (tmp_path / "demo.json").write_text(text)
    with pytest.raises(UserError):
        make(tmp_path, **SMALL)


@pytest.mark.parametrize(
    "wrong",
    [{"identities": 7}, {"identities": 4}, {"frames": 2}, {"strength": 0}, {"strength": 1.5}, {"size": (161, 120)}],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(UserError):
        make(tmp_path / "none", **{**SMALL, **wrong})
    assert not (tmp_path / "none").exists()


def test_the_settings_are_recorded(small):
    record = json.loads((small.folder / "demo.json").read_text())
    assert {"identities": 6, "frames": 10, "seed": 3, "width": 160, "height": 120}.items() <= record.items()
