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


def test_a_child_that_is_killed_costs_one_file(tasks):
    def kill_the_first():
        while not (children := mp.active_children()):
            time.sleep(0.05)
        time.sleep(1)
        children[0].kill()

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    found = rows(tasks, 1)
    killer.join()
    assert found["real/blocks.mp4"]["reason"] == "decoding ended the process that read it (exit code -9)"
    assert [found[t.key]["status"] for t in tasks[1:]] == ["ok", "ok"]


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
