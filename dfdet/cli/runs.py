"""``dfdet runs``: the run directories there are, and how far they came."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def runs(root: Path = Path("runs"), json: Path | None = None) -> None:
    """Lists the runs below a directory: how far they came, their best validation, their test scores.

    Args:
        root: The directory that holds the runs.
        json: Write the printed table to this file too.
    """
    import csv

    from dfdet import console
    from dfdet.errors import UserError
    from dfdet.runs import list_runs

    if not root.is_dir():
        raise UserError(f"{root} does not exist", "give the directory that holds your runs: dfdet runs --root DIR")
    table = console.Table(f"Runs in {root}", ["run", "state", "epochs", "best val AUROC", "checkpoints", "scores"])
    for run in list_runs(root):
        metrics = run.path / "metrics.csv"
        rows = list(csv.DictReader(metrics.read_text().splitlines())) if metrics.is_file() else []
        epochs = [int(float(r["epoch"])) for r in rows if r.get("epoch")]
        aurocs = [float(r["val/video_auroc"]) for r in rows if r.get("val/video_auroc") not in (None, "", "nan")]
        state = "finished" if run.thresholds_file.is_file() else "not finished"
        there = ", ".join(sorted(p.stem for p in run.checkpoints.glob("*.ckpt"))) or None
        scores = ", ".join(sorted(p.stem for p in (run.path / "scores").glob("*.parquet"))) or None
        name = run.path.relative_to(root).as_posix()
        table.add(name, state, max(epochs) + 1 if epochs else 0, max(aurocs) if aurocs else None, there, scores)
    if not table.rows:
        table.notes.append("none yet: dfdet fit makes one")
    console.show(table, json_file=json)


def main(arguments: Sequence[str]) -> None:
    """Parses and prints."""
    from dfdet.cli.command import parse

    runs(**parse("dfdet runs", runs, arguments, "dfdet runs --root runs").as_dict())
