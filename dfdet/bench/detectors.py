"""``dfdet bench detectors``: a manifest in; every detector trained from scratch in one time, and its test numbers, out.

Each is trained by ``dfdet fit`` and judged by ``dfdet test``, in processes of their own and by commands that are
printed, so that any row can be had alone. Its runs stay; what is finished is not done again.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dfdet import console, files, manifest
from dfdet.bench import machine
from dfdet.console import Table
from dfdet.detectors import DETECTORS
from dfdet.errors import UserError, nearest
from dfdet.evaluation import read_scores, summarise
from dfdet.runs import Run
from dfdet.training.checkpoint_io import read_checkpoint
from dfdet.training.parser import config_home

Row = dict[str, Any]
# detectors that are trained in stages: the arguments of each; all together get the time of one
_TRIPLETS = (("--model.stage=triplet",), ("--model.stage=head", "--model.lr=1e-3"))
STAGES: dict[str, tuple[tuple[str, ...], ...]] = {
    "siamese": (("--model.stage=pairs",), ("--model.stage=probe",)),
    "efficientnet_b4_st": _TRIPLETS,
    "efficientnet_b4_att_st": _TRIPLETS,
    "xception_st": _TRIPLETS,
    "xception_att_st": _TRIPLETS,
}


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        manifest: With a train, a val and a test split.
        root: Where the files lie now, if not where they lay when indexed.
        out: The folder of the runs.
        detectors: Names; empty: all that see what the manifest holds, images or clips.
        seconds: For the training of each, validation after its epochs included; classical ones take one pass instead.
        seed: Of every draw.
    """

    manifest: Path
    root: Path | None
    out: Path
    detectors: Sequence[str]
    seconds: int
    seed: int


def run(settings: Settings) -> list[Row]:
    """One row a detector, in the order of ``dfdet models``.

    Raises:
        UserError: A detector is not known, a split is missing, or the folder holds rows of other settings.
    """
    for name in settings.detectors:
        if name not in DETECTORS:
            raise UserError(f"no detector is named {name!r}", nearest(name, DETECTORS))
    if settings.seconds < 2:
        raise UserError(f"--seconds is {settings.seconds}", "take minutes")
    table = manifest.read(settings.manifest, settings.root).table
    table = table[table["status"] == "ok"]
    lacking = [split for split in ("train", "val", "test") if not (table["split"] == split).any()]
    if lacking:
        raise UserError(f"{settings.manifest} has no {lacking[0]} split", "dfdet check shows the splits")
    images = bool((table["num_frames"] == 1).all())
    seen = [name for name, card in DETECTORS.items() if card.input.startswith("1 ") or not images]
    begun = {name: _begun(name, settings) for name in settings.detectors or seen}
    return [_one(name, row, images, settings) for name, row in begun.items()]


def _kept(name: str, settings: Settings) -> Path:
    return settings.out / f"{name}.json"


def _begun(name: str, settings: Settings) -> Row:
    """What is known of a detector before it is trained, or was found before."""
    card, kept = DETECTORS[name], _kept(name, settings)
    about: Row = {
        "detector": name, "input": card.input, "parameters": card.parameters,
        "config": f"configs/experiment/{name}.yaml", "manifest": files.sha256(settings.manifest),
        "budget_seconds": settings.seconds, "seed": settings.seed,
    }  # fmt: skip
    if not kept.is_file():
        return about | {"stage_seconds": []}
    row: Row = json.loads(kept.read_text())
    if {key: row.get(key) for key in about} != about:
        raise UserError(f"{kept} is of other settings", "give another --out")
    return row


def _one(name: str, row: Row, images: bool, settings: Settings) -> Row:
    """The row of a detector; each stage that is finished is written down."""
    if "seconds_test" in row:
        console.say(f"{name}: finished before, see {_kept(name, settings)}")
        return row
    stages = STAGES.get(name, ((),))
    folders = [settings.out / name / f"stage{number}" for number in range(1, len(stages))] + [
        settings.out / name / "run"
    ]
    for number in range(len(row["stage_seconds"]), len(stages)):
        folder = folders[number]
        if folder.exists():  # an earlier one that was interrupted: with the time that it has left it would be another
            shutil.rmtree(folder)
        start = [] if number == 0 else [f"--model.weights={_best(folders[number - 1])}"]
        started = time.monotonic()
        failed = _dfdet(_fit(name, folder, images, settings, len(stages), [*stages[number], *start]))
        if failed:
            return row | {"note": failed}
        row["stage_seconds"].append(time.monotonic() - started)
        files.write_json(_kept(name, settings), row)
    started = time.monotonic()
    failed = _dfdet(["test", "--run", str(folders[-1]), "--trainer.accelerator=cpu"])
    if failed:
        return row | {"note": failed}
    row |= {"seconds": sum(row["stage_seconds"]), "seconds_test": time.monotonic() - started, "note": None}
    row |= {"steps": sum(_steps(folder) for folder in folders)} | _numbers(Run(folders[-1]))
    files.write_json(_kept(name, settings), row)
    return row


def _fit(name: str, folder: Path, images: bool, settings: Settings, stages: int, more: Sequence[str]) -> list[str]:
    config = f"experiment/{name}.yaml"
    made = yaml.safe_load((config_home() / config).read_text())
    source = {"manifest": str(settings.manifest), "root": str(settings.root) if settings.root else None}
    scratch = ["--model.pretrained=false"] if made["model"].get("init_args", {}).get("pretrained") else []
    # of an image more clips are copies; of a video few will do, for the time is for training
    clips = ["--data.clips_per_visit=1", "--data.eval_clips=1"] if images else ["--data.eval_clips=4"]
    whole = made["trainer"].get("max_epochs") == 1  # a classical one
    hours, rest = divmod(settings.seconds // stages, 3600)
    limit = f"{hours // 24:02}:{hours % 24:02}:{rest // 60:02}:{rest % 60:02}"
    until = [] if whole else [f"--trainer.max_time={limit}", "--trainer.max_epochs=1000", "--patience=null"]
    return [
        "fit", f"--config=configs/{config}", f"--data.train={json.dumps(source)}",
        f"--runs={folder.parent.parent}", f"--experiment={folder.parent.name}", f"--name={folder.name}",
        f"--seed_everything={settings.seed}", "--trainer.accelerator=cpu", *scratch, *clips, *until, *more,
    ]  # fmt: skip


def _best(folder: Path) -> Path:
    best = folder / "checkpoints" / "best.ckpt"
    return best if best.is_file() else best.with_name("last.ckpt")


def _steps(folder: Path) -> int:
    last = folder / "checkpoints" / "last.ckpt"
    return int(read_checkpoint(last if last.is_file() else _best(folder))["global_step"])


def _dfdet(arguments: Sequence[str]) -> str | None:
    """Runs a command, shown as typed; why it failed, if it did."""
    console.say(f"$ dfdet {shlex.join(arguments)}")
    done = subprocess.run([sys.executable, "-m", "dfdet", *arguments], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"dfdet {arguments[0]} was killed by signal {-done.returncode}"
    return (done.stderr.strip().splitlines() or [f"dfdet {arguments[0]} ended with code {done.returncode}"])[-1]


def _numbers(run: Run) -> Row:
    """AUROC of the videos of validation and test, of the manifest's corpus (of several: of each)."""
    found: Row = {}
    for split in ("val", "test"):
        paths = sorted((run.path / "scores").glob(f"*-{split}.parquet"))
        for path in paths:
            numbers = summarise(read_scores(path)).levels["video"]
            interval = [numbers.interval.low, numbers.interval.high] if numbers.interval else None
            of = split if len(paths) == 1 else f"{split} {path.stem.removesuffix(f'-{split}')}"
            found |= {f"{of}_auroc": numbers.auroc, f"{of}_interval": interval}
    return found


def table_of(rows: Sequence[Row], settings: Settings) -> Table:
    """What is printed."""
    title = f"Detectors from scratch on {settings.manifest.name}, {settings.seconds} s each, seed {settings.seed}"
    table = Table(title, ["detector", "parameters", "steps", "seconds", "val AUROC", "test AUROC", "95 % interval"])
    for row in rows:
        low, high = row.get("test_interval") or (None, None)
        between = None if low is None else f"{low:.3f} to {high:.3f}"
        seconds = None if "seconds" not in row else round(row["seconds"])
        table.add(
            row["detector"], row["parameters"], row.get("steps"), seconds, row.get("val_auroc"), row.get("test_auroc"),
            between,
        )  # fmt: skip
        if row.get("note"):
            table.notes.append(f"{row['detector']}: {row['note']}")
    table.notes.append(
        "seconds: of all that dfdet fit does; classical detectors take one pass through the training split"
    )
    table.notes.append("intervals are over groups of videos (people); AUROC of videos, threshold-free")
    table.notes.append(machine.line(machine.machine()))
    return table
