"""An export holds the very crops of the data module, each file whole, and goes on where it was ended."""

import csv
import errno
import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path, PurePosixPath

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dfdet.cli import main
from dfdet.data.clips import ClipSpec
from dfdet.data.module import CropOptions, VideoDataModule
from dfdet.errors import UserError
from dfdet.export import deepfakebench, export, writing
from dfdet.export.selection import Picked, names

FORK = multiprocessing.get_context("fork")
SMALL = {"frames": 4, "size": 32, "workers": 0}
FACELESS = "test/real/awkward_no_head"  # the one video of the tiny corpus without a face


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def good_rows(path):
    return [row for row in rows_of(path) if not row["reason"]]


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def read_png(path):
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def true_crops(manifest, clip, size):
    """video_id -> (frames, pixels) of its main track, by the loader that trains and tests."""
    found = {}
    for stage in ("train", "val", "test"):
        module = VideoDataModule(str(manifest), clip=clip, crop=CropOptions(size=size), eval_clips=1, num_workers=0)
        items = module.items(stage)
        for batch in module.eval_dataloader(stage):
            for item, track, frames, mask, video in zip(
                batch.item.tolist(), batch.track.tolist(), batch.frames, batch.mask, batch.video, strict=True
            ):
                if track == items.main_track[item]:
                    kept = video[mask].permute(0, 2, 3, 1).numpy()
                    found[items.row(item)["video_id"]] = (frames[mask].tolist(), kept.copy())
    return found


@pytest.fixture(scope="module")
def pictures(tiny, tmp_path_factory):
    """A PNG export of the tiny corpus."""
    out = tmp_path_factory.mktemp("export") / "png"
    export(tiny / "tiny.parquet", out, "png", **SMALL | {"workers": 2})
    return out


@pytest.fixture
def own_tiny(tiny, tmp_path):
    """A tiny corpus that may be damaged."""
    shutil.copytree(tiny, tmp_path / "own")
    manifest = tmp_path / "own" / "tiny.parquet"
    table = pq.read_table(manifest)
    told = json.loads(table.schema.metadata[b"dfdet"])
    told["root"] = str(tmp_path / "own" / "corpus")
    pq.write_table(table.replace_schema_metadata({"dfdet": json.dumps(told)}), manifest)
    return manifest


def test_pictures_are_the_crops_that_training_sees(tiny, pictures):
    true = true_crops(tiny / "tiny.parquet", ClipSpec(4, "uniform"), 32)
    by_video = {}
    for row in good_rows(pictures / "crops.csv"):
        by_video.setdefault(row["video_id"], []).append(row)
    assert by_video.keys() == true.keys()
    for video, (frames, crops) in true.items():
        rows = by_video[video]
        assert [int(r["frame"]) for r in rows] == frames
        assert all(np.array_equal(read_png(pictures / r["path"]), c) for r, c in zip(rows, crops, strict=True))


def test_the_table_names_every_picture_and_nothing_else(tiny, pictures):
    faceless = [row for row in rows_of(pictures / "crops.csv") if row["reason"]]
    assert [(r["video_id"], r["path"], r["reason"]) for r in faceless] == [(FACELESS, "", "no face was found")]
    rows = good_rows(pictures / "crops.csv")
    assert {r["path"] for r in rows} | {"crops.csv", "export.json"} == tree(pictures).keys()
    manifest = pq.read_table(tiny / "tiny.parquet").to_pandas().set_index("video_id")
    for row in rows:
        known = manifest.loc[row["video_id"]]
        assert (row["corpus"], row["method"], row["split"], row["group"]) == tuple(
            known[["corpus", "method", "split", "group"]]
        )
        assert int(row["label"]) == known["label"]
        split, label, _, picture = PurePosixPath(row["path"]).parts
        assert (split, label) == (known["split"], "fake" if known["label"] else "real")
        assert picture == f"{int(row['frame']):06d}.png"


def test_any_number_of_workers_gives_the_same_files(tiny, pictures, tmp_path):
    export(tiny / "tiny.parquet", tmp_path / "again", "png", **SMALL)
    assert tree(tmp_path / "again") == tree(pictures)


def test_a_split_alone_and_a_preset(tiny, tmp_path):
    done = export(tiny / "tiny.parquet", tmp_path / "out", "png", split="test", crop="tight", **SMALL)
    assert {r["split"] for r in rows_of(done.table)} == {"test"}
    settings = json.loads((tmp_path / "out" / "export.json").read_text())
    assert settings["crop"]["scale"] == 0.83


# Going on ----------------------------------------------------------------------------------------------------------


def test_what_is_finished_is_not_made_again(tiny, pictures, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(pictures, out)
    gone = sorted(p.parent for p in out.rglob("*.png"))[0]
    shutil.rmtree(gone)
    others = {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
    done = export(tiny / "tiny.parquet", out, "png", **SMALL)
    assert done.made == 1
    assert done.there == len({p.parent for p in others})
    assert {p: p.stat().st_mtime_ns for p in others} == others
    assert tree(out) == tree(pictures)


def test_a_kill_leaves_whole_videos_and_the_next_run_the_rest(tiny, pictures, tmp_path):
    out = tmp_path / "out"

    def killed():
        real, calls = writing.png, [0]

        def dying(picture):
            calls[0] += 1
            if calls[0] == 4 * 3 + 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(picture)

        writing.png = dying
        export(tiny / "tiny.parquet", out, "png", **SMALL)

    process = FORK.Process(target=killed)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    finished = [len(list(folder.iterdir())) for folder in out.glob("*/*/*") if ".unfinished" not in folder.parts]
    assert finished == [4, 4, 4]
    assert list((out / ".unfinished").rglob("*.png"))
    assert export(tiny / "tiny.parquet", out, "png", **SMALL).there == 3
    assert tree(out) == tree(pictures)


def test_ctrl_c_says_how_to_go_on(tiny, tmp_path, monkeypatch, capsys):
    real, calls = writing.png, [0]

    def interrupted(picture):
        calls[0] += 1
        if calls[0] == 6:
            raise KeyboardInterrupt
        return real(picture)

    monkeypatch.setattr(writing, "png", interrupted)
    command = ["store", "export", str(tiny / "tiny.parquet"), str(tmp_path / "out")]
    command += ["--frames", "4", "--size", "32", "--workers", "0"]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 130
    assert "run the same command again" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(command) == 0
    assert "1 videos were finished before" in capsys.readouterr().out


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_is_one_line_and_what_was_finished_stays(tiny, tmp_path, monkeypatch, capsys, workers):
    real, calls = Path.write_bytes, [0]

    def full(path, content):
        calls[0] += 1
        if calls[0] > 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, content)

    monkeypatch.setattr(writing.Path, "write_bytes", full)
    out = tmp_path / "out"
    command = ["store", "export", str(tiny / "tiny.parquet"), str(out), "--frames", "4", "--size", "32"]
    assert main([*command, "--workers", str(workers)]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == f"dfdet: error: {out}: No space left on device"
    assert "what was finished stays" in told[-2]
    monkeypatch.undo()
    assert len(list(out.glob("*/*/*/*.png"))) == 4
    assert main([*command, "--workers", "0"]) == 0
    assert "1 videos were finished before" in capsys.readouterr().out


# What does not fit -------------------------------------------------------------------------------------------------


def test_other_settings_are_refused_and_overwritten_on_request(tiny, pictures, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(pictures, out)
    before = tree(out)
    with pytest.raises(UserError, match="another crop, frames; give another folder, or --overwrite"):
        export(tiny / "tiny.parquet", out, "png", frames=2, size=16, workers=0)
    assert tree(out) == before
    (out / "notes.txt").write_text("mine")
    export(tiny / "tiny.parquet", out, "png", frames=2, size=16, workers=0, overwrite=True)
    assert {read_png(p).shape for p in out.rglob("*.png")} == {(16, 16, 3)}
    assert (out / "notes.txt").read_text() == "mine"


def test_a_folder_with_other_files_is_left_alone(tiny, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds no export"):
            export(tiny / "tiny.parquet", tmp_path, "png", overwrite=overwrite, **SMALL)
    assert list(tree(tmp_path)) == ["thesis.tex"]


@pytest.mark.parametrize(
    ("form", "wrong", "says"),
    [
        ("png", {"frames": 0}, "give 1 or more"),
        ("mp4", {"size": 33}, "give 34"),
        ("png", {"crop": "tigth"}, "did you mean 'tight'"),
        ("png", {"crop": "mesonet"}, "needs landmarks"),
        ("png", {"workers": -1}, "give 0 or more"),
    ],
)
def test_what_cannot_be_made_is_refused_before_the_work(tiny, tmp_path, form, wrong, says):
    with pytest.raises(UserError, match=says):
        export(tiny / "tiny.parquet", tmp_path / "out", form, **SMALL | wrong)
    assert not (tmp_path / "out").exists()


def test_a_video_that_fails_is_a_row_with_its_reason(own_tiny, tmp_path):
    table = pq.read_table(own_tiny)
    broken, unreadable = table["video_id"][0].as_py(), table["video_id"][1].as_py()
    status = ["unreadable" if v == unreadable else "ok" for v in table["video_id"].to_pylist()]
    reason = ["it is cut off" if v == unreadable else None for v in table["video_id"].to_pylist()]
    for name, values in (("status", status), ("reason", reason)):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
    pq.write_table(table, own_tiny)
    os.truncate(own_tiny.parent / "corpus" / table["path"][0].as_py(), 1000)
    done = export(own_tiny, tmp_path / "out", "png", **SMALL)
    rows = {r["video_id"]: r for r in rows_of(done.table) if r["reason"]}
    assert rows.keys() == {broken, unreadable, FACELESS}
    assert rows[broken]["reason"].startswith("it has changed since it was indexed")
    assert rows[unreadable]["reason"] == "it is cut off"
    assert all((r["path"], r["frame"]) == ("", "") for r in rows.values())
    assert done.made == len(table) - 3
    assert len(done.failed) == 1
    told = done.tables[0]
    assert sum(row[4] for row in told.rows) == 3


def test_names_never_meet():
    def video(name, corpus="a"):
        return Picked(0, {"video_id": name, "corpus": corpus}, 0, 0)

    picked = [video(n) for n in ("a/b", "a__b", "A/B", "../x", "x" * 300, "x" * 299 + "y", "é ü")] + [video("a/b", "c")]
    for short in (True, False):
        chosen = names(picked, lambda p: "", short=short)
        assert len({name.casefold() for name in chosen}) == len(picked)
        assert all(len(name.encode()) < 200 and "/" not in name and not name.startswith(".") for name in chosen)
    assert names([video("x/000"), video("y/001")], lambda p: "", short=True) == ["000", "001"]
    assert names([video("x/000"), video("y/000")], lambda p: "", short=True) == ["x__000", "y__000"]


# Videos ------------------------------------------------------------------------------------------------------------


def test_a_video_of_crops_shows_every_frame_of_the_track_by_one_square(tiny, tmp_path):
    out = tmp_path / "out"
    export(tiny / "tiny.parquet", out, "mp4", split="test", workers=1)
    true = true_crops(tiny / "tiny.parquet", ClipSpec(24, "consecutive"), 112)
    rows = good_rows(out / "videos.csv")
    assert rows
    for row in rows:
        with av.open(str(out / row["path"])) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.average_rate) == ("h264", 30)
            pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        frames, crops = true[row["video_id"]]
        assert len(pictures) == int(row["frames"]) == len(frames)
        assert (int(row["first_frame"]), int(row["last_frame"])) == (frames[0], frames[-1])
        assert pictures[0].shape == (112, 112, 3)
        assert np.abs(np.stack(pictures).astype(int) - crops).mean() < 4


def test_two_exports_of_videos_are_equal_byte_for_byte(tiny, tmp_path):
    for name, workers in (("a", 0), ("b", 2)):
        export(tiny / "tiny.parquet", tmp_path / name, "mp4", split="val", frames=9, size=64, workers=workers)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert {int(r["frames"]) for r in good_rows(tmp_path / "a" / "videos.csv")} == {9}


# DeepfakeBench -----------------------------------------------------------------------------------------------------


def bench_reads(root, dataset, mode, label_dict, compression="c23"):
    """What DeepfakeBench's loader makes of a dataset: (file, label, name of the video) of every frame.

    Written from the facts in dfdet.export.deepfakebench's docstring.
    """
    layered = {"FF-DF", "FF-F2F", "FF-FS", "FF-NT", "FaceForensics++", "DeepFakeDetection", "FaceShifter"}
    found = []
    document = json.loads((root / "preprocessing" / "dataset_json" / f"{dataset}.json").read_text())
    for splits in document[dataset].values():
        videos = splits[mode][compression] if dataset in layered else splits[mode]
        for video in videos.values():
            label = label_dict[video["label"]]
            for path in sorted(video["frames"], key=lambda p: int(p.split("/")[-1].split(".")[0])):
                assert path[0] == "."
                assert (root / path).is_file()
                found.append((path, label, path.split("/")[-2]))
    return found


def test_deepfakebench_finds_every_frame_with_its_label(tiny, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["store", "export", str(tiny / "tiny.parquet"), str(out), "--format", "deepfakebench"]
    assert main([*command, "--frames", "4", "--size", "32", "--workers", "0"]) == 0
    assert "add to its label_dict: demo_Fake: 1, demo_Real: 0" in capsys.readouterr().out.replace("\n", " ")
    rows = good_rows(out / "crops.csv")
    seen = []
    for mode in ("train", "val", "test"):
        read = bench_reads(out, "demo", mode, {"demo_Real": 0, "demo_Fake": 1})
        mine = [r for r in rows if r["split"] == mode]
        assert {(f"./{r['path']}", int(r["label"])) for r in mine} == {(path, label) for path, label, _ in read}
        assert len({name for *_, name in read}) == len({r["video_id"] for r in mine})
        seen += read
    assert len(seen) == len(rows) == len(good_rows(pictures / "crops.csv"))


def released(path, label, method, split, level="c23", corpus="faceforensics"):
    row = {"video_id": path, "corpus": corpus, "method": method, "compression": level, "split": split}
    return Picked(0, row, label, 0)


def test_faceforensics_lies_as_released_and_each_method_has_its_file(tmp_path):
    picked = [
        released("original_sequences/youtube/c23/videos/071", 0, "real", "train"),
        released("manipulated_sequences/Deepfakes/c23/videos/071_054", 1, "Deepfakes", "train"),
        released("manipulated_sequences/NeuralTextures/c23/videos/071_054", 1, "NeuralTextures", "train"),
        released("manipulated_sequences/FaceShifter/c23/videos/000_003", 1, "FaceShifter", "test"),
        released("original_sequences/youtube/c40/videos/000", 0, "real", "test", "c40"),
        released("original_sequences/actors/c23/videos/01__talking", 0, "real", None, corpus="dfd"),
    ]
    chosen = names(picked, deepfakebench.family, short=True)
    assert chosen[:3] == ["071", "071_054", "071_054"]
    folders = [deepfakebench.folder(p, n) for p, n in zip(picked, chosen, strict=True)]
    rgb = "datasets/rgb/FaceForensics++"
    assert folders[0].as_posix() == f"{rgb}/original_sequences/youtube/c23/frames/071"
    assert folders[1].as_posix() == f"{rgb}/manipulated_sequences/Deepfakes/c23/frames/071_054"
    assert folders[5].as_posix() == f"{rgb}/original_sequences/actors/c23/frames/01__talking"
    done = [(p, n, [f / "000001.png"]) for p, n, f in zip(picked, chosen, folders, strict=True)]
    for name, document in deepfakebench.documents(done).items():
        path = tmp_path / "preprocessing" / "dataset_json" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "000001.png").touch()
    words = {"FF-real": 0, "FF-DF": 1, "FF-NT": 1, "FF-FH": 1, "DFD_real": 0}

    def read(dataset, mode, level="c23"):
        return [(name, label) for _, label, name in bench_reads(tmp_path, dataset, mode, words, level)]

    assert read("FF-DF", "train") == [("071", 0), ("071_054", 1)]
    assert read("FaceForensics++", "train") == [("071", 0), ("071_054", 1), ("071_054", 1)]
    assert read("FaceShifter", "test") == [("000_003", 1)]
    assert read("FF-NT", "test", "c40") == [("000", 0)]
    assert read("DeepFakeDetection", "train") == []
    assert read("DeepFakeDetection", "test") == [("01__talking", 0)]
    assert {deepfakebench.word_of(p) for p in picked} <= deepfakebench.KNOWN_LABELS
