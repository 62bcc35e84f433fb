"""`kill -9` at random moments, of the whole group, of the main process, of its children: the same tables in the end."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest


def children_of(running):
    """The processes that read files; not the one that multiprocessing keeps for itself."""
    found = []
    for pid in running.members():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in command:
            found.append(pid)
    return found


def the_whole_group(running):
    os.killpg(running.process.pid, signal.SIGKILL)


def the_main_process(running):
    os.kill(running.process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def length(films, tmp_path_factory, dfdet_command):
    """How long an undisturbed run takes here and now, seconds."""
    began = time.monotonic()
    out = tmp_path_factory.mktemp("timed") / "m.parquet"
    command = [*dfdet_command, "index", "folder", str(films), "--cropped", "--out", str(out), "--workers", "2"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return time.monotonic() - began


def indexed_under_fire(start, films, folder, kill, kills, length):
    """Kills at random moments; goes on after each, and begins anew where an indexing was done before."""
    draw = random.Random(kills)
    fired, done, out = 0, [], folder / "0.parquet"
    while fired < kills or not out.exists():
        if out.exists():
            done.append(out)
            out = folder / f"{len(done)}.parquet"
        running = start(films, out, "--workers", "2")
        if fired == kills:
            assert running.finish()[0] == 0
            break
        moment = time.monotonic() + draw.uniform(0.0, length)
        while running.process.poll() is None and time.monotonic() < moment:
            time.sleep(0.005)
        if running.process.poll() is None:
            kill(running)
            fired += 1
        _, err = running.finish()
        # a child whose parent was killed while it started it: python itself says so, before any line of ours has run
        unborn = "in spawn_main" in err and err.rstrip().endswith("EOFError: Ran out of input")
        assert "Traceback" not in err or (unborn and err.count("Traceback") <= 2)
        assert running.all_gone()
    return [*done, out]


@pytest.mark.parametrize(
    ("kill", "kills"),
    [
        (the_whole_group, 3),
        pytest.param(the_whole_group, 12, marks=pytest.mark.slow),
        pytest.param(the_main_process, 12, marks=pytest.mark.slow),
    ],
)
def test_it_ends_with_the_same_tables_and_leaves_no_process(
    films, tmp_path, start_index, same_tables, length, kill, kills
):
    for out in indexed_under_fire(start_index, films, tmp_path, kill, kills, length):
        same_tables(out)


@pytest.mark.parametrize("kills", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_children_that_are_killed_cost_nothing(films, tmp_path, start_index, same_tables, length, kills):
    draw = random.Random(kills)
    fired = number = 0
    while fired < kills:
        out = tmp_path / f"{number}.parquet"
        running = start_index(films, out, "--workers", "2")
        while running.process.poll() is None:
            time.sleep(draw.uniform(0.1, 0.6) * length)
            for pid in draw.sample(children := children_of(running), min(1, len(children))):
                os.kill(pid, signal.SIGKILL)
                fired += 1
        code, err = running.finish()
        assert (code, "Traceback" in err) == (0, False), err
        assert running.all_gone()
        same_tables(out)
        number += 1
