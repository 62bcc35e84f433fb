"""A run directory: everything of one training, never overwritten. Layout: DESIGN's "Files that outlive a process".

``runs/<experiment>/<name>/``: config.yaml, provenance.json, checkpoints/{best,last}.ckpt, metrics.csv,
thresholds.json, scores/<corpus>-<split>.parquet, log.txt, wandb/.
"""

from __future__ import annotations

import json
import platform
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dfdet import files
from dfdet.errors import UserError

PACKAGES = ("dfdet", "torch", "torchvision", "lightning", "numpy", "av", "decord", "opencv-python-headless", "dlib-bin")


@dataclass(frozen=True)
class Run:
    """One run directory."""

    path: Path

    @property
    def config(self) -> Path:
        """The complete configuration."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """Where best.ckpt and last.ckpt lie."""
        return self.path / "checkpoints"

    @property
    def thresholds_file(self) -> Path:
        """Decision thresholds by level, taken from validation."""
        return self.path / "thresholds.json"

    def scores(self, corpus: str, split: str) -> Path:
        """The score file of a corpus' split."""
        return self.path / "scores" / f"{corpus}-{split}.parquet"

    def checkpoint(self, which: str) -> Path:
        """``best``, ``last`` or the path of a file.

        Raises:
            UserError: If it does not exist.
        """
        path = self.checkpoints / f"{which}.ckpt" if which in ("best", "last") else Path(which)
        if not path.is_file():
            there = sorted(p.name for p in self.checkpoints.glob("*.ckpt")) if self.checkpoints.is_dir() else []
            hint = f"there are: {', '.join(there)}" if there else "the run has saved none yet"
            raise UserError(f"{path} does not exist", hint)
        return path

    def thresholds(self) -> dict[str, float] | None:
        """The thresholds stored in the run, or None where it was not validated to the end."""
        if not self.thresholds_file.is_file():
            return None
        return {k: float("nan") if v is None else float(v) for k, v in self.record()["thresholds"].items()}

    def record(self) -> dict[str, Any]:
        """What thresholds.json holds: thresholds, the checkpoint that they belong to, stamps."""
        return dict(json.loads(self.thresholds_file.read_text())) if self.thresholds_file.is_file() else {}

    def provenance(self) -> dict[str, Any]:
        """What made the run: versions, command, hashes, face settings of the training manifests."""
        path = self.path / "provenance.json"
        return dict(json.loads(path.read_text())) if path.is_file() else {}


def create(root: str | Path, experiment: str, name: str) -> Run:
    """A new run directory.

    Raises:
        UserError: If it is there already: runs are never overwritten.
    """
    path = Path(root) / experiment / name
    if path.exists() and any(path.iterdir()):
        raise UserError(
            f"{path} holds an earlier run and is never overwritten",
            f"give another --name, or go on with it by --resume {path}",
        )
    (path / "checkpoints").mkdir(parents=True, exist_ok=True)
    return Run(path)


def free_name(root: str | Path, experiment: str, stem: str) -> str:
    """``stem``, or ``stem-2``, ``stem-3`` ...: the first that no run of the experiment has."""
    taken = {p.name for p in (Path(root) / experiment).glob("*")}
    number = 1
    while (name := stem if number == 1 else f"{stem}-{number}") in taken:
        number += 1
    return name


def open_run(path: str | Path) -> Run:
    """An existing run directory.

    Raises:
        UserError: If it holds no configuration.
    """
    run = Run(Path(path))
    if not run.config.is_file():
        raise UserError(f"{path} is no run directory (it holds no config.yaml)", "list them with `dfdet runs`")
    return run


def list_runs(root: str | Path) -> list[Run]:
    """All runs below a directory, sorted by path."""
    return [Run(p.parent) for p in sorted(Path(root).glob("*/*/config.yaml"))]


def provenance(manifests: list[str]) -> dict[str, Any]:
    """What made a run: commit and diff of the checkout, versions, command, manifest hashes, host, processor."""
    return {
        "command": sys.argv,
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git_state(),
        "manifests": {m: files.sha256(m) for m in dict.fromkeys(manifests)},
        "host": socket.gethostname(),
        "platform": platform.platform(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_state() -> dict[str, str] | None:
    """Commit and uncommitted changes of the checkout in which the command was typed; None outside of one."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "diff": git("diff", "HEAD") or ""}
