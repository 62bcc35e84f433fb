"""``dfdet bench index``: a folder of videos in; how fast they are indexed, and what takes the time, out."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dfdet import console, files
from dfdet.bench.report import Report
from dfdet.corpora.rows import VIDEO_EXTENSIONS
from dfdet.errors import UserError
from dfdet.faces.detector import DetectorSettings
from dfdet.indexing.examine import Task, examine, verdict
from dfdet.video import probe

PATIENCE = 600.0  # seconds for one file, all of its passes
HD = 720  # pixels of the shorter side


@dataclass(frozen=True)
class Measured:
    """One file.

    Attributes:
        wall: Seconds from its first byte to its verdict.
        cpu: The same in CPU time of all threads.
        decode: CPU seconds of one pass that decodes it and converts the sampled frames.
        proof: CPU seconds of the proof of readers.
        hashing: CPU seconds of its SHA-256.
        duration: Seconds that it plays.
        side: Its shorter side, pixels.
        status: As the index has it.
    """

    wall: float
    cpu: float
    decode: float
    proof: float
    hashing: float
    duration: float
    side: int
    status: str

    @property
    def detection(self) -> float:
        """What is left of the examination: detection and tracking."""
        return max(self.cpu - self.decode - self.proof - self.hashing, 0.0)


def run(folder: Path, detector: DetectorSettings, workers: int, most: int) -> Report:
    """Indexes a folder's videos, each in a process of its own kind, as ``dfdet index`` does.

    Args:
        folder: Videos, in folders of any kind.
        detector: The face detector.
        workers: Processes.
        most: Take so many files at most, spread over the folder.

    Raises:
        UserError: There is no video, or a file takes longer than ten minutes.
    """
    found = _videos(folder, most)
    tasks = [Task(path, path.relative_to(folder).as_posix(), detector) for path in found]
    measured, wall = _measure_all(tasks, workers)
    title = f"Index: {len(measured)} videos of {folder}, detector {detector.name}, {workers} processes"
    report = Report.titled(title)
    duration, cpu = sum(m.duration for m in measured), sum(m.cpu for m in measured)
    report.add("videos", len(measured) / wall, "videos/s", key="videos_per_second")
    report.add(
        "real time a core", duration / cpu, "x", key="x_real_time_per_core",
        beside=f"{duration:.0f} s of video in {cpu:.1f} s of CPU time",
    )  # fmt: skip
    hd = [m for m in measured if m.side == HD]
    pace = sum(m.duration for m in hd) / sum(m.cpu for m in hd) if hd else None
    report.add("real time a core, 720p", pace, "x", key="x_real_time_per_core_720p", beside=f"{len(hd)} videos")
    report.add("real time, by the clock", duration / wall, "x", key="x_real_time")
    parts = {
        "decoding": sum(m.decode for m in measured),
        "detection": sum(m.detection for m in measured),
        "proof of readers": sum(m.proof for m in measured),
        "the rest": sum(m.hashing for m in measured),
    }
    whole = sum(parts.values())
    for name, seconds in parts.items():
        report.add(
            f"share of {name}",
            seconds / whole,
            key=f"share_{name.split()[-1] if name == 'the rest' else name.split()[0]}",
        )
    failed = sum(m.status not in ("ok", "partial") for m in measured)
    if failed:
        report.note(f"{failed} files could not be read; their time counts")
    report.note("decoding is measured by a pass of its own, the rest of the examination counts as detection")
    report.keys |= {"videos": len(measured), "detector": detector.name, "workers": workers}
    return report.on_this_machine()


def _videos(folder: Path, most: int) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder", "give one that holds videos")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_EXTENSIONS and p.is_file())
    if not found:
        raise UserError(f"{folder} holds no video", f"looked for {' '.join(VIDEO_EXTENSIONS)}")
    places = np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int))
    return [found[place] for place in places.tolist()]


def _measure_all(tasks: Sequence[Task], workers: int) -> tuple[list[Measured], float]:
    """What each file took, and the wall-clock seconds of indexing alone, spread over the processes."""
    measured = []
    # spawned, as dfdet index does it; ended with the block, even one that hangs in a decoder
    with multiprocessing.get_context("spawn").Pool(workers) as pool, console.Progress("indexing", len(tasks)) as bar:
        results = [pool.apply_async(_measure, (task,)) for task in tasks]
        for task, result in zip(tasks, results, strict=True):
            try:
                measured.append(result.get(PATIENCE))
            except multiprocessing.TimeoutError:
                raise UserError(
                    f"{task.path} takes more than {PATIENCE:.0f} s", "dfdet index would end its process; move it away"
                ) from None
            bar.advance()
    return measured, sum(m.wall for m in measured) / workers


def _measure(task: Task) -> Measured:
    """The real thing first, then its parts again."""
    cv2.setNumThreads(1)
    assert task.detector is not None
    if task.detector not in _warm:
        _warm.append(task.detector)
        examine(task, _no_beat)  # loads the detector, and the file into memory
    wall, cpu = time.perf_counter(), time.process_time()
    record, media = examine(task, _no_beat)
    examined = time.process_time()
    verdict(task, media)
    proven, ended = time.process_time(), time.perf_counter()
    stride = task.detector.stride
    probe(task.path, wanted=lambda index: index % stride == 0, on_frame=lambda index, picture: None)
    decoded = time.process_time()
    files.sha256(task.path)
    hashed = time.process_time()
    duration = media.num_frames / media.fps if media.fps else 0.0
    side = min(media.width or 0, media.height or 0)
    return Measured(
        ended - wall, proven - cpu, decoded - proven, proven - examined, hashed - decoded, duration, side,
        str(record["row"]["status"]),
    )  # fmt: skip


_warm: list[DetectorSettings] = []


def _no_beat() -> None:
    """Nobody watches this process' heart."""
