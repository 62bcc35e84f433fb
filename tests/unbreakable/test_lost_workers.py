"""A reader that hangs, crashes or runs out of memory in a loader worker costs its file; the epoch ends complete."""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pandas as pd
import pytest

from dfdet import manifest
from dfdet.data import visits
from dfdet.data.clips import ClipSpec
from dfdet.data.module import CropOptions
from dfdet.faces.tracking import whole_image_track
from dfdet.video import open_reader

HANGING = "h264_trim_hide200.mp4"
OTHERS = ["h264_high_gop250.mp4", "h264_444_x264core148.mp4", "h264_rot90.mp4", "h264_main_b2_gop25.mp4", "vp9.webm"]


@pytest.fixture(scope="module")
def forged(suite_index, tmp_path_factory):
    """An index that takes decord for right where it is known to spin for ever: 300 packets, of which 200 are hidden."""
    whole = manifest.read(suite_index)
    table = whole.table[whole.table["path"].isin([HANGING, *OTHERS])].reset_index(drop=True)
    row = table.index[table["path"] == HANGING][0]
    table.loc[row, ["reader", "reader_reason", "num_frames"]] = ["decord", "forged", 300]
    for column in ("probe_frames", "probe_crcs", "keyframes"):
        table.at[row, column] = []
    tracks = pd.read_parquet(manifest.tracks_path(suite_index))
    tracks = tracks[tracks["video_id"].isin([*OTHERS])]
    boxes, _ = whole_image_track(208, 144, 300)
    tracks = pd.concat([tracks.astype({"video_id": str}), boxes.assign(video_id=HANGING)], ignore_index=True)
    out = tmp_path_factory.mktemp("forged") / "m.parquet"
    meta = {k: v for k, v in whole.meta.items() if k not in ("schema", "version")}
    return manifest.write(out, table, tracks, meta).path


@pytest.fixture
def no_orphan():
    """Asserts afterwards that no loader worker is left."""
    before = set(multiprocessing.active_children())
    yield
    gc.collect()
    limit = time.monotonic() + 10
    while (left := set(multiprocessing.active_children()) - before) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not left


@pytest.mark.data
@pytest.mark.parametrize(("stage", "workers"), [("train", 2), ("val", 1)])
def test_decord_that_spins_for_ever_is_ended(forged, pictures, module, impatient, clips_of, no_orphan, stage, workers):
    data = module(
        forged, reader="decord", clip=ClipSpec(14, "strided", 20), num_workers=workers, clips_per_visit=1,
        eval_clips=1, batch_size=2,
    )  # fmt: skip
    started = time.monotonic()
    found = clips_of(data, stage, list(impatient(data, stage, 2.0)))
    assert time.monotonic() - started < 40
    lost = {name for (name, _, _), clip in found.items() if clip.reason}
    assert lost == {HANGING}
    assert len(found) == 1 + len(OTHERS)
    for (name, _, _), clip in found.items():
        if name == HANGING:
            assert f"{HANGING}: " in clip.reason
            assert "no answer for 2 s" in clip.reason
        else:
            assert clip.crcs[: len(clip.frames)] == [pictures[name][i] for i in clip.frames], name


PROGRAM = """
import sys
from dfdet.data.clips import ClipSpec
from dfdet.data.module import CropOptions, VideoDataModule
from dfdet.data.sources import Source

data = VideoDataModule(
    train=Source(sys.argv[1], split="all"), val=Source(sys.argv[1], split="all"), clip=ClipSpec(14, "strided", 20),
    crop=CropOptions(size=32), num_workers=2, reader="decord",
)
list(data.val_dataloader())
"""


@pytest.mark.data
def test_a_worker_that_spins_does_not_outlive_its_killed_parent(forged):
    def processes():
        found = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == parent.pid and fields[0] != "Z":
                found[int(stat.parent.name)] = int(fields[11]) / os.sysconf("SC_CLK_TCK")
        return found

    parent = subprocess.Popen([sys.executable, "-c", PROGRAM, str(forged)], start_new_session=True)
    try:
        limit = time.monotonic() + 60
        # it spins when it has used more processor time than all the files need
        while not any(used > 3 for pid, used in processes().items() if pid != parent.pid):
            assert time.monotonic() < limit
            assert parent.poll() is None
            time.sleep(0.1)
        parent.kill()
        parent.wait()
        limit = time.monotonic() + 15
        while (left := processes()) and time.monotonic() < limit:
            time.sleep(0.1)
        assert left == {}
    finally:
        for pid in processes():
            os.kill(pid, signal.SIGKILL)


class Doomed:
    """A reader that meets with a fate as it opens its file, as a decoder in C may."""

    def __init__(self, reader, fate):
        self.reader, self.fate = reader, fate

    def patches(self, *request):
        limits = resource.getrlimit(resource.RLIMIT_AS)
        try:
            self.fate()
            yield from self.reader.patches(*request)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.fixture
def doom(monkeypatch):
    """``doom(paths, fate)``: workers that start from now on meet with it at these files."""

    def set_fate(paths, fate):
        def opened(choice, media, path):
            reader = open_reader(choice, media, path)
            return Doomed(reader, fate) if str(path).endswith(tuple(paths)) else reader

        monkeypatch.setattr(visits, "open_reader", opened)

    return set_fate


def die_by(number):
    return lambda: os.kill(os.getpid(), number)


def be_stopped():
    time.sleep(0.3)  # what it has made before is on its way
    os.kill(os.getpid(), signal.SIGSTOP)


def wait_for_a_dead_disk():
    """Nothing but SIGKILL ends a process that does."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)


def run_out_of_memory():
    """What an allocation then says is numpy's, PyAV's, OpenCV's or C++'s affair."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used, resource.getrlimit(resource.RLIMIT_AS)[1]))


def raise_memory_error():
    raise MemoryError("Unable to allocate 2.97 GiB")


FATES = {
    "SIGKILL": die_by(signal.SIGKILL),
    "SIGSEGV": die_by(signal.SIGSEGV),
    "SIGABRT": die_by(signal.SIGABRT),
    "stopped": be_stopped,
    "a dead disk": wait_for_a_dead_disk,
    "no memory": run_out_of_memory,
    "MemoryError": raise_memory_error,
}


@pytest.fixture(scope="module")
def data(tiny, module):
    return module(tiny / "tiny.parquet", crop=CropOptions(size=32), batch_size=8, clip=ClipSpec(4))


@pytest.fixture(scope="module")
def undisturbed(data, clips_of):
    loaders = {"train": data.train_dataloader(), "val": data.val_dataloader()}
    return {stage: clips_of(data, stage, list(loader)) for stage, loader in loaders.items()}


def same_but(found, whole, lost):
    """Whether exactly the clips of ``lost`` are missing and all others are as they were, bit for bit."""
    assert list(found) == list(whole)
    assert {name for (name, _, _), clip in found.items() if clip.reason} == set(lost)
    for key, clip in found.items():
        if key[0] in lost:
            assert clip.reason.startswith("/")
            assert f"{key[0]}: " in clip.reason
            assert "\n" not in clip.reason
        else:
            assert clip == whole[key]


@pytest.mark.parametrize(
    ("fate", "stage"), [*((fate, "train") for fate in FATES), ("SIGSEGV", "val"), ("MemoryError", "val")]
)
def test_a_visit_that_ends_its_worker_or_finds_no_memory_is_marked(
    data, undisturbed, impatient, clips_of, doom, no_orphan, fate, stage
):
    victim = data.describe(stage).table["path"].to_pylist()[5]
    doom([victim], FATES[fate])
    found = clips_of(data, stage, list(impatient(data, stage, 2.0)))
    # what memory a process has set aside may last for a small file
    lost = [victim] if fate != "no memory" or any(clip.reason for clip in found.values()) else []
    same_but(found, undisturbed[stage], lost)


@pytest.mark.parametrize("fate", ["SIGKILL", "a dead disk"])
def test_so_are_several_at_once_and_the_next_epoch_goes_on(
    data, undisturbed, impatient, clips_of, doom, no_orphan, fate
):
    victims = data.describe("train").table["path"].to_pylist()[2:6:2]
    doom(victims, FATES[fate])
    loader = impatient(data, "train", 2.0)
    for _ in range(2):
        same_but(clips_of(data, "train", list(loader.batches(0))), undisturbed["train"], victims)


def test_workers_that_are_stopped_between_two_epochs_are_replaced(data, undisturbed, impatient, clips_of, no_orphan):
    before = set(multiprocessing.active_children())
    loader = impatient(data, "train", 2.0)
    assert clips_of(data, "train", list(loader.batches(0))) == undisturbed["train"]
    for child in set(multiprocessing.active_children()) - before:
        os.kill(child.pid, signal.SIGSTOP)
    for _ in range(2):
        assert clips_of(data, "train", list(loader.batches(0))) == undisturbed["train"]


def test_one_that_is_stopped_with_its_answer_under_way_costs_nothing(
    data, undisturbed, impatient, clips_of, no_orphan, monkeypatch, tmp_path
):
    send, once = Connection.send_bytes, tmp_path / "stopped"

    def stopped(self, *what):
        if multiprocessing.parent_process() is not None and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        send(self, *what)

    monkeypatch.setattr(Connection, "send_bytes", stopped)
    started = time.monotonic()
    assert clips_of(data, "train", list(impatient(data, "train", 2.0))) == undisturbed["train"]
    assert once.exists()
    assert time.monotonic() - started < 60


def test_one_that_dies_with_half_an_answer_sent_costs_nothing_but_its_visit(
    data, undisturbed, impatient, clips_of, no_orphan, monkeypatch, tmp_path
):
    send, once = Connection.send_bytes, tmp_path / "died"

    def half(self, answer):
        if multiprocessing.parent_process() is not None and not once.exists():
            once.touch()
            os.write(self.fileno(), struct.pack("!i", len(answer)) + answer[: len(answer) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        send(self, answer)

    monkeypatch.setattr(Connection, "send_bytes", half)
    started = time.monotonic()
    assert clips_of(data, "train", list(impatient(data, "train", None))) == undisturbed["train"]
    assert once.exists()
    assert time.monotonic() - started < 60


def test_workers_killed_from_outside_at_any_moment_cost_at_most_their_visit(
    data, undisturbed, impatient, clips_of, no_orphan
):
    before = set(multiprocessing.active_children())
    loader = impatient(data, "train", None)
    kills, over = [], threading.Event()

    def reaper():
        while not over.wait(0.15) and len(kills) < 4:
            for child in sorted(set(multiprocessing.active_children()) - before, key=lambda c: c.pid or 0)[:1]:
                kills.append(child.pid)
                os.kill(child.pid, signal.SIGKILL)

    thread = threading.Thread(target=reaper)
    thread.start()
    try:
        rounds = [clips_of(data, "train", list(loader.batches(0))) for _ in range(3)]
    finally:
        over.set()
        thread.join()
    assert len(kills) > 1
    lost = 0
    for found in rounds:
        assert list(found) == list(undisturbed["train"])
        for key, clip in found.items():
            assert clip == undisturbed["train"][key] or "died" in clip.reason
        lost += len({name for (name, _, _), clip in found.items() if clip.reason})
    assert lost <= len(kills)
