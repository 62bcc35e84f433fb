"""Every command and notebook line of the README runs as printed, in its order, on files that stand for the user's.

What is changed: where the user's corpora lie (/data), and how long training lasts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest

README = Path(__file__).resolve().parents[1] / "README.md"
FIT = ["--trainer.max_epochs", "1", "--data.eval_clips", "2", "--data.batch_size", "8", "--data.num_workers", "0"]
SHORT = {
    "fit": FIT,
    "demo": ["--identities", "6", "--frames", "24"],
    "store build": FIT,
    "explain": ["--clips", "1"],
    "bench detectors": ["--detectors", "meso4_150", "--seconds", "2"],
    "bench convergence": ["--steps", "2", "--every", "1", "--size", "32", "--seeds", "1", "--batch_size", "4"],
    "bench model": ["--rounds", "1", "--seconds", "0.1"],
    "bench loader": ["--visits", "4", "--rounds", "1", "--clips", "32", "--clip_length", "4", "--size", "32"],
    "bench end_to_end": ["--clip_length", "2", "--size", "32"],
}


def commands() -> list[str]:
    """The indented lines of the README that call dfdet."""
    return re.findall(r"^    (dfdet .+)$", README.read_text(encoding="utf-8"), re.MULTILINE)


def python_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def first_frame(video: Path, out: Path) -> None:
    with av.open(str(video)) as container:
        next(container.decode(video=0)).to_image().save(out)


def users_files(home: Path, tiny: Path) -> None:
    """What the README takes for granted: released corpora, a clip, a photo, a folder."""
    videos = sorted((tiny / "corpus").glob("*/*/id*.mp4"))
    reals, fakes = [v for v in videos if "real" in v.parts], [v for v in videos if "fake" in v.parts]
    ff = home / "data" / "FaceForensics++"
    for number, (real, fake) in enumerate(zip(reals, fakes, strict=True)):
        other = number ^ 1
        original = ff / f"original_sequences/youtube/c23/videos/{number:03d}.mp4"
        forged = ff / f"manipulated_sequences/Deepfakes/c23/videos/{number:03d}_{other:03d}.mp4"
        for source, target in ((real, original), (fake, forged)):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    (home / "data" / "splits").mkdir()
    pairs = [[f"{i:03d}", f"{i + 1:03d}"] for i in range(0, len(reals), 2)]
    for name, part in (("train", pairs[:2]), ("val", pairs[2:4]), ("test", pairs[4:])):
        (home / "data" / "splits" / f"{name}.json").write_text(json.dumps(part))
    dfdc = home / "data" / "dfdc" / "dfdc_train_part_0"
    dfdc.mkdir(parents=True)
    shutil.copy(reals[0], dfdc / "aaaaaaaaaa.mp4")
    shutil.copy(fakes[0], dfdc / "bbbbbbbbbb.mp4")
    entry = {"label": "FAKE", "split": "train", "original": "aaaaaaaaaa.mp4"}
    real = {"label": "REAL", "split": "train"}
    (dfdc / "metadata.json").write_text(json.dumps({"aaaaaaaaaa.mp4": real, "bbbbbbbbbb.mp4": entry}))
    crops = home / "data" / "dfdc_faces"
    crops.mkdir()
    lines = ["path,label,split"]
    for kind, sources in (("real", reals), ("fake", fakes)):
        (home / "data" / "sdfvd" / kind).mkdir(parents=True)
        shutil.copy(sources[0], home / "data" / "sdfvd" / kind / "a.mp4")
        for number, (source, split) in enumerate(zip(sources, ["train"] * 4 + ["val", "test"], strict=False)):
            first_frame(source, crops / f"{kind}{number}.jpg")
            lines.append(f"{kind}{number}.jpg,{kind},{split}")
    (crops / "labels.csv").write_text("\n".join(lines) + "\n")
    shutil.copy(reals[1], home / "clip.mp4")
    first_frame(reals[1], home / "photo.jpg")
    (home / "folder").mkdir()
    shutil.copy(fakes[1], home / "folder" / "b.mp4")


def test_the_readme_names_only_commands_that_there_are():
    from dfdet.cli import COMMANDS

    named = {line.split()[1] for line in commands()}
    assert named - {"--help"} <= set(COMMANDS)
    assert {"index", "check", "fit", "test", "predict", "demo"} <= named


@pytest.mark.slow
def test_every_command_of_the_readme_runs_as_printed(tiny, tmp_path, request):
    users_files(tmp_path, tiny)
    environment = os.environ | {"DFDET_CACHE": str(tmp_path / "cache"), "WANDB_MODE": "offline"}
    with_model = "DFDET_TEST_DATA" in os.environ or (README.parent / "../shared/data").is_dir()
    if with_model:
        model = request.getfixturevalue("sample_media") / "models" / "face_detection_yunet_2023mar.onnx"
        (tmp_path / "cache").mkdir()
        shutil.copy(model, tmp_path / "cache")
        published = request.getfixturevalue("sample_media") / "weights" / "mesonet" / "Meso4_DF.h5"
        shutil.copy(published, tmp_path)
    (tmp_path / "my_lab.py").write_text(next(b for b in python_blocks() if "class Tiny" in b))
    for line in commands():
        words = line.replace(" /data/", f" {tmp_path}/data/").replace("'{T_max: 30}'", "{T_max: 30}").split(" ")
        if not with_model:
            words = ["dlib" if w == "yunet" else w for w in words]
        if "--resume" in words or "xception.deepfakebench" in words:
            continue  # an interrupted run, and what needs a network: tests/training and tests/weights
        if not with_model and {"Meso4_DF.h5", "meso4.df", "runs/meso4/tuned", "runs/ensemble/both"} & set(words):
            continue  # the authors' weights, and what is made of them
        words += SHORT.get(words[1], SHORT.get(" ".join(words[1:3]), []))
        done = subprocess.run(
            [sys.executable, "-m", "dfdet", *words[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    notebook = next(b for b in python_blocks() if "dfdet.load" in b) + "print(len(found.videos), len(found.people))"
    done = subprocess.run(
        [sys.executable, "-c", notebook], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split()[-2:] == ["1", "1"], done.stderr
