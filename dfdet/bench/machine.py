"""Nothing in; the machine and the versions that a figure was measured with out."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("dfdet", "torch", "av", "decord", "torchcodec", "opencv-python-headless", "numpy")
Facts = dict[str, str | int | float | None]


def machine() -> Facts:
    """Processor, cores that this process may use, memory in GiB, GPU, and versions; flat, for the JSON."""
    facts: Facts = {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(_memory() / 2**30, 1) if _memory() else None,
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    return facts | {name: _version(name) for name in PACKAGES}


def line(facts: Facts) -> str:
    """The facts in one line, for a note below a table."""
    versions = ", ".join(f"{name} {facts[name]}" for name in ("python", *PACKAGES) if facts[name])
    memory = f", {facts['memory_gib']} GiB" if facts["memory_gib"] else ""
    return f"on {facts['cpu']}, {facts['cores']} cores{memory}, GPU: {facts['gpu'] or 'none'}; {versions}"


def _cpu() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        for text in listed.read_text().splitlines():
            if text.startswith("model name"):
                return " ".join(text.partition(":")[2].split())
    return platform.processor() or platform.machine()


def _memory() -> int:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return 0
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
