"""A file on which the decoder hangs or dies costs itself only, and nothing outlives the parent."""

import multiprocessing as mp
import os
import signal
import threading
import time

import pytest

from dfdet.errors import UserError
from dfdet.faces.detector import DetectorSettings
from dfdet.indexing import pool
from dfdet.indexing.examine import Task


@pytest.fixture(autouse=True)
def _alone():
    """What other tests have left of their processes is none of these tests' business."""
    for child in mp.active_children():
        child.kill()
        child.join()


@pytest.fixture
def tasks(copied):
    """A named pipe, which blocks whoever opens it as a dead network disk does, and two films behind it."""
    os.mkfifo(copied / "real" / "blocks.mp4")
    return [Task(copied / key, key, None) for key in ("real/blocks.mp4", "real/0.mp4", "fake/0.mp4")]


def rows(tasks, workers):
    return {task.key: record["row"] for task, record in pool.run(tasks, workers)}


def test_a_hang_is_a_row(tasks, monkeypatch):
    monkeypatch.setattr(pool, "SILENCE", 8.0)
    found = rows(tasks, 2)
    assert [found[t.key]["status"] for t in tasks] == ["unreadable", "ok", "ok"]
    hung = found["real/blocks.mp4"]
    assert (hung["reason"], hung["reader"], hung["num_frames"], hung["size"]) == ("decoding hung", "none", 0, 0)
    assert mp.active_children() == []


class Killer(threading.Thread):
    """Kills the children of this process, one every ``pause`` seconds, ``times`` in all."""

    def __init__(self, pause, times):
        super().__init__()
        self.pause, self.times = pause, times

    def run(self):
        while self.times > 0:
            time.sleep(self.pause)
            for child in mp.active_children()[:1]:
                child.kill()
                child.join()
                self.times -= 1


@pytest.fixture
def in_children(tmp_path, monkeypatch):
    """``in_children(code)``: every child of this process runs it as it starts."""

    def run(code):
        (tmp_path / "sitecustomize.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return run


@pytest.fixture
def at_the_first(tasks, in_children):
    """``at_the_first(code)``: children run it when they come to the first film."""

    def run(code):
        in_children(
            f"""
import os, signal, time
import dfdet.indexing.examine as examine
plain = examine.probe
def probe(path, *args, **kwargs):
    if str(path) == {str(tasks[1].path)!r}:
        {code}
    return plain(path, *args, **kwargs)
examine.probe = probe
"""
        )

    return run


def test_a_file_that_kills_the_child_each_time_is_a_row(tasks, at_the_first):
    at_the_first("os.kill(os.getpid(), signal.SIGSEGV)")
    found = rows(tasks[1:], 2)
    assert found["real/0.mp4"]["reason"] == "decoding ended the process that read it (exit code -11)"
    assert (found["real/0.mp4"]["status"], found["fake/0.mp4"]["status"]) == ("unreadable", "ok")


def test_a_file_that_needs_more_memory_than_there_is_is_a_row(tasks, at_the_first):
    at_the_first("raise MemoryError")
    found = rows(tasks[1:], 1)
    assert found["real/0.mp4"]["reason"] == "decoding ran out of memory"
    assert (found["real/0.mp4"]["status"], found["fake/0.mp4"]["status"]) == ("unreadable", "ok")


def test_a_child_that_is_killed_from_outside_costs_nothing(tasks, at_the_first):
    """Out of memory strikes whom it will."""
    at_the_first("time.sleep(2)")
    killer = Killer(1.0, 2)
    killer.start()
    found = rows(tasks[1:], 1)
    killer.join()
    assert [found[t.key]["status"] for t in tasks[1:]] == ["ok", "ok"]


def test_children_that_cannot_start_end_the_run_with_one_line(tasks, in_children):
    in_children("import os; os._exit(9)")
    with pytest.raises(UserError, match="die with exit code 9 before they begin"):
        rows(tasks[1:], 1)
    assert mp.active_children() == []


def test_a_child_that_dies_between_two_files_costs_none(tasks):
    finished = pool.run(tasks[1:], 1)
    first, record = next(finished)
    (child,) = mp.active_children()
    child.kill()
    child.join()
    (second, other), *rest = finished
    assert (first.key, second.key, rest) == ("real/0.mp4", "fake/0.mp4", [])
    assert record["row"]["status"] == other["row"]["status"] == "ok"


def test_where_decord_hangs_pyav_is_the_reader(tasks, monkeypatch):
    monkeypatch.setattr(pool, "VERDICT_FLOOR", 0.0)
    monkeypatch.setattr(pool, "VERDICT_FACTOR", 0.0)
    found = rows(tasks[1:2], 1)["real/0.mp4"]
    assert (found["status"], found["num_frames"]) == ("ok", 20)
    assert (found["reader"], found["reader_reason"]) == ("pyav", "decord hung")


HANGING_JUDGE = """
import numpy
import dfdet.indexing.examine as examine
plain = examine.judge
def judge(path, media):
    if path.name == "h264_trim_hide200.mp4":
        import decord
        decord.VideoReader(str(path), num_threads=1).get_batch(numpy.linspace(0, 299, 13).astype(int))
    return plain(path, media)
examine.judge = judge
"""


@pytest.mark.data
def test_a_decord_that_really_spins_for_ever_is_ended(sample_media, in_children, monkeypatch):
    """The file on which decord is known to hang, and which is refused before decord is tried, is given to it."""
    monkeypatch.setattr(pool, "VERDICT_FLOOR", 3.0)
    in_children(HANGING_JUDGE)
    suite = sample_media / "codec_suite"
    found = rows([Task(suite / n, n, None) for n in ("h264_trim_hide200.mp4", "h264_main_b2_gop25.mp4")], 1)
    hung = found["h264_trim_hide200.mp4"]
    assert (hung["status"], hung["num_frames"], hung["reader"]) == ("ok", 100, "pyav")
    assert hung["reader_reason"] == "decord hung"
    assert found["h264_main_b2_gop25.mp4"]["reader"] == "decord"
    assert mp.active_children() == []


def test_a_face_model_that_cannot_be_loaded_ends_the_run_and_blames_no_file(tasks, tmp_path):
    model = tmp_path / "face.onnx"
    model.write_bytes(b"no model")
    asked = [Task(t.path, t.key, DetectorSettings("yunet", model=str(model))) for t in tasks[1:]]
    with pytest.raises(UserError, match=r"face\.onnx"):
        rows(asked, 1)
    assert mp.active_children() == []


def test_a_child_inside_a_hang_does_not_outlive_its_killed_parent(tasks, tmp_path, start_index):
    running = start_index(tasks[0].path.parents[1], tmp_path / "m.parquet", "--workers", "1")
    # the films are finished; only the pipe is left
    assert running.wait_for(lambda: running.lines() == 3)
    time.sleep(0.3)
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    assert running.all_gone()
