"""A folder and sizes in; a corpus of short videos of rendered heads, real and forged, with its labels out.

    folder/{train,val,test}/{real,fake}/NAME.mp4    folder/labels.csv    folder/demo.json (the settings)

The same settings give the same bytes in every file. What an interrupted run has left is completed.
"""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2

from dfdet import files
from dfdet.console import Progress
from dfdet.demo.film import produce
from dfdet.demo.plan import SPLITS, Footage, Settings, Video, plan
from dfdet.errors import UserError
from dfdet.processes import interrupts_held

COLUMNS = tuple(field.name for field in fields(Video))


@dataclass(frozen=True)
class DemoCorpus:
    """What was made: the folder, its labels.csv, one row a video, and how many files were written or were there."""

    folder: Path
    labels: Path
    videos: tuple[Video, ...]
    written: int
    kept: int


def make(
    folder: str | Path,
    identities: int = 40,
    frames: int = 50,
    strength: float = 0.85,
    seed: int = 0,
    workers: int | None = None,
    *,
    footages: int = 2,
    size: tuple[int, int] = (320, 240),
) -> DemoCorpus:
    """Makes the demo corpus, or completes it.

    Args:
        folder: Where to; made where it is absent. A folder with other things in it is refused.
        identities: How many people (even, from 6 on); from 40 on the test split has ten groups or more. Four further
            people act in the awkward cases (two heads, no head, a late head, a poster, a hard cut).
        frames: Frames a video, at 25 a second.
        strength: How plain the forgeries are, in (0, 1]; 1 is easy.
        seed: Another seed makes other people, rooms and motions.
        workers: Processes; None takes every core that this process may use, 1 stays in this process.
        footages: Real videos of each person; every one has a forgery, swaps and reenactments in turn.
        size: Width and height in pixels, even.

    Returns:
        The corpus.

    Raises:
        UserError: A setting cannot be, or the folder holds something else.
    """
    settings = Settings(identities, frames, strength, seed, footages, *size)
    footage = plan(settings)
    root = Path(folder)
    _claim(root, settings)
    written = _produce_all(root, footage, settings, workers or _cores())
    videos = tuple(video for entry in footage for video in entry.videos)
    labels = root / "labels.csv"
    text = _csv_text(videos)
    if not labels.exists() or labels.read_text(encoding="utf-8") != text:
        files.write_text(labels, text)
    return DemoCorpus(root, labels, videos, written, len(videos) - written)


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _claim(root: Path, settings: Settings) -> None:
    """Makes the folder this corpus' own, or refuses it; removes half-written files of a killed run."""
    record = root / "demo.json"
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file", "take another folder")
    if record.exists():
        _compare(record, settings)
    elif root.exists() and any(not entry.name.startswith(".") for entry in root.iterdir()):
        raise UserError(f"{root} is not empty and holds no demo corpus", "take another folder")
    else:
        files.write_json(record, asdict(settings))
    for split in SPLITS:
        for draft in (root / split).glob("*/.*.mp4.tmp-*"):
            draft.unlink(missing_ok=True)


def _compare(record: Path, settings: Settings) -> None:
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{record} cannot be read: {error}", "take another folder or delete this one") from None
    wanted = asdict(settings)
    if not isinstance(found, dict) or found != wanted:
        old = found if isinstance(found, dict) else {}
        changed = [f"{key} {old.get(key)}, not {value}" for key, value in wanted.items() if old.get(key) != value]
        detail = "; ".join(changed) or "unknown settings"
        what = f"{record.parent} holds a demo corpus with other settings ({detail})"
        raise UserError(what, "take another folder or delete this one")


def _produce_all(root: Path, footage: list[Footage], settings: Settings, workers: int) -> int:
    """Renders what is missing; returns how many videos were written."""
    missing = [entry for entry in footage if any(not (root / video.path).exists() for video in entry.videos)]
    if not missing:
        return 0
    run = _in_processes if workers > 1 and len(missing) > 1 else _in_this_process
    written = 0
    with Progress("demo videos", sum(len(entry.videos) for entry in missing)) as progress:
        for entry, count in run(root, missing, settings, min(workers, len(missing))):
            written += count
            progress.advance(len(entry.videos))
    return written


def _in_this_process(
    root: Path, footage: list[Footage], settings: Settings, _workers: int
) -> Iterator[tuple[Footage, int]]:
    for entry in footage:
        yield entry, len(produce(root, entry, settings))


def _in_processes(
    root: Path, footage: list[Footage], settings: Settings, workers: int
) -> Iterator[tuple[Footage, int]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        try:
            with interrupts_held():  # a child that it ended as it starts would take the others' half files with it
                waiting = {pool.submit(produce, root, entry, settings): entry for entry in footage}
            for future in as_completed(waiting):
                yield waiting[future], len(future.result())
        except BaseException:
            # What is under way (a second or so) is finished, so that no half-written file stays; the rest is dropped.
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _start_worker() -> None:
    """Ctrl-C is for the parent; one thread each, since the processes fill the cores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def _csv_text(videos: tuple[Video, ...]) -> str:
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(video) for video in videos)
    return sheet.getvalue()
