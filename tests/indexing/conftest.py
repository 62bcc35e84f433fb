"""Small films and pictures made on the spot, and the command run on them as a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from sessions import members


def film(path: Path, frames: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 255, (72, 96, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        stream.options = {"crf": "30", "x264-params": "keyint=12:scenecut=0:threads=1"}
        for number in range(frames):
            picture = np.roll(start, number, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="session")
def films(tmp_path_factory) -> Path:
    """real/ and fake/ with seven films each, two pictures, a cut film, a text and an empty file: read only."""
    root = tmp_path_factory.mktemp("films")
    for label in ("real", "fake"):
        (root / label).mkdir()
        for number in range(7):
            film(root / label / f"{number}.mp4", 20 + 3 * number, number)
        cv2.imwrite(str(root / label / "still.jpg"), np.full((40, 30, 3), 90, np.uint8))
    whole = (root / "real" / "3.mp4").read_bytes()
    (root / "fake" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "fake" / "text.mp4").write_text("no film at all")
    (root / "fake" / "empty.mp4").touch()
    return root


@pytest.fixture(scope="session")
def file_count(films) -> int:
    """How many files lie in ``films``."""
    return sum(path.is_file() for path in films.rglob("*"))


@dataclass
class Running:
    """``dfdet index`` at work in a session of its own."""

    process: subprocess.Popen
    journal: Path

    def lines(self) -> int:
        """Finished files in the journal."""
        return max(self.journal.read_bytes().count(b"\n") - 1, 0) if self.journal.is_file() else 0

    def wait_for(self, condition) -> bool:
        """Whether it became true before the process ended."""
        limit = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < limit:
            if condition():
                return True
            time.sleep(0.002)
        return False

    def members(self) -> list[int]:
        """All processes of its session that are not dead."""
        return members(self.process.pid)

    def all_gone(self) -> bool:
        """Whether no process of it is left, at the latest in fifteen seconds."""
        limit = time.monotonic() + 15
        while self.members() and time.monotonic() < limit:
            time.sleep(0.02)
        return not self.members()

    def finish(self) -> tuple[int, str]:
        """Exit code and standard error."""
        _, err = self.process.communicate(timeout=120)
        return self.process.returncode, err


@pytest.fixture
def start_index(dfdet_command):
    """``start_index(root, out, *more)`` -> :class:`Running`; whatever is left of it ends with the test."""
    started = []

    def start(root: Path, out: Path, *more: str, **options) -> Running:
        command = [*dfdet_command, "index", "folder", str(root), "--cropped", "--out", str(out), *more]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
        )
        started.append(Running(process, out.with_name(f".{out.name}.journal")))
        return started[-1]

    yield start
    for running in started:
        for pid in running.members():
            os.kill(pid, 9)
        running.process.communicate()


@pytest.fixture(scope="session")
def undisturbed(films, tmp_path_factory, dfdet_command) -> Path:
    """The manifest of ``films``, indexed in one go by one worker."""
    out = tmp_path_factory.mktemp("undisturbed") / "m.parquet"
    command = [*dfdet_command, "index", "folder", str(films), "--cropped", "--out", str(out), "--workers", "1"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return out


@pytest.fixture
def same_tables(undisturbed):
    """Asserts that a manifest and its tracks equal the undisturbed ones byte for byte."""

    def check(out: Path) -> None:
        for suffix in (".parquet", ".faces.parquet"):
            assert out.with_suffix(suffix).read_bytes() == undisturbed.with_suffix(suffix).read_bytes()

    return check


@pytest.fixture
def copied(films, tmp_path) -> Path:
    """A folder of one's own with three films, to put something into."""
    root = tmp_path / "corpus"
    for label, name in (("real", "0.mp4"), ("real", "1.mp4"), ("fake", "0.mp4")):
        (root / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(films / label / name, root / label / name)
    return root
