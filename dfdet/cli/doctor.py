"""``dfdet doctor``: what this machine can do, and what to do about what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "dfdet", "torch", "torchvision", "lightning", "timm", "torchmetrics", "av", "decord", "opencv-python-headless",
    "albumentations", "dlib-bin", "numpy", "pandas", "pyarrow", "scikit-learn", "wandb", "submitit",
)  # fmt: skip
Line = tuple[str, str, str]


def doctor(json: Path | None = None) -> None:
    """Prints versions, readers, face models, GPU, W&B, Slurm and caches, and what to do about what is missing.

    Args:
        json: Write the printed table to this file too.
    """
    from dfdet import console

    table = console.Table("This machine", ["what", "found", "what to do"])
    sections: tuple[Callable[[], list[Line]], ...] = (
        _python, _packages, _readers, _faces, _gpu, _tracking, _slurm, _places,
    )  # fmt: skip
    for section in sections:
        for line in section():
            table.add(*line)
    console.show(table, json_file=json)


def _python() -> list[Line]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        ("python", sys.version.split()[0], ""),
        ("machine", f"{platform.system()} {platform.machine()}, {cores} processors", ""),
    ]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _packages() -> list[Line]:
    lines: list[Line] = []
    for name in PACKAGES:
        found = _version(name)
        optional = "PyAV reads everything instead" if name == "decord" else f"pip install {name}"
        lines.append((name, found or "not installed", "" if found else optional))
    wheels = [n for n in ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless") if _version(n)]
    if wheels:
        lines.append(("OpenCV", f"also {', '.join(wheels)}", f"pip uninstall {' '.join(wheels)}: one wheel only"))
    return lines


def _readers() -> list[Line]:
    try:
        import av

        pyav = f"av {av.__version__}, FFmpeg libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"
    except ImportError as error:
        return [("reader pyav", str(error), "pip install av")]
    try:
        import decord

        other = ("reader decord", f"decord {decord.__version__}", "")
    except (ImportError, OSError):
        other = ("reader decord", "not there", "PyAV reads everything, exactly; decord has no wheel for this machine")
    return [("reader pyav", pyav, ""), other]


def _faces() -> list[Line]:
    from dfdet.faces import model

    found = model.cached()
    yunet: Line = ("face detector yunet", str(found), "")
    if found is None:
        yunet = ("face detector yunet", f"no model in {model.cache()}", "--detector yunet fetches it once (0.2 MB)")
    there = importlib.util.find_spec("dlib") is not None
    dlib: Line = ("face detector dlib", "ready" if there else "not installed", "" if there else "pip install dlib-bin")
    return [yunet, dlib]


def _gpu() -> list[Line]:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return [("GPU", ", ".join(names), "")]
    if torch.backends.mps.is_available():
        return [("GPU", "Apple MPS", "")]
    return [("GPU", "none that torch can use", "everything runs on the processor, slower")]


def _tracking() -> list[Line]:
    mode = os.environ.get("WANDB_MODE", "online")
    key = "WANDB_API_KEY" in os.environ or (Path.home() / ".netrc").is_file()
    logged_in = mode != "online" or key
    todo = "" if logged_in else "wandb login, or WANDB_MODE=offline; only needed with --wandb.project"
    return [("W&B", f"mode {mode}, {'an API key is set' if key else 'no API key'}", todo)]


def _slurm() -> list[Line]:
    if shutil.which("sbatch") is None:
        return [("Slurm", "no sbatch here", "only needed on a cluster")]
    job = os.environ.get("SLURM_JOB_ID")
    return [("Slurm", f"sbatch {shutil.which('sbatch')}" + (f", inside job {job}" if job else ""), "")]


def _places() -> list[Line]:
    from dfdet.faces import model

    return [_place("cache", model.cache(), "DFDET_CACHE"), _place("working directory", Path.cwd(), "")]


def _place(name: str, path: Path, variable: str) -> Line:
    near = path
    while not near.exists():
        near = near.parent
    free = shutil.disk_usage(near).free / 2**30
    writable = os.access(near, os.W_OK)
    todo = "" if writable else f"not writable{f': set {variable} to a directory that is' if variable else ''}"
    return (name, f"{path}, {free:.0f} GiB free", todo)


def main(arguments: Sequence[str]) -> None:
    """Parses and prints."""
    from dfdet.cli.command import parse

    doctor(**parse("dfdet doctor", doctor, arguments, "dfdet doctor").as_dict())
