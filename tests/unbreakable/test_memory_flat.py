"""Ten thousand clips over hundreds of files take the memory that five hundred take."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from dfdet import manifest

COPIES = 12
# in a process of its own: what the other tests have left in this one would hide what is lost
PROGRAM = """
import gc, json, multiprocessing, os, sys, time
import torch
from dfdet.data.clips import ClipSpec
from dfdet.data.module import CropOptions, VideoDataModule
from dfdet.data.sources import Source

torch.set_num_threads(1)
source, workers, stage = Source(sys.argv[1], split="all"), int(sys.argv[2]), sys.argv[3]
data = VideoDataModule(
    train=source, val=source, crop=CropOptions(size=64), clip=ClipSpec(8), batch_size=16, num_workers=workers,
    block_visits=32, augment="flip", eval_clips=4,
)

def memory():
    '''MiB of this process and of each worker, what they share divided among them.

    Not of files that are mapped: a library counts for more when some other process that has mapped it ends.
    '''
    gc.collect()
    found = []
    for pid in [os.getpid(), *sorted(child.pid for child in multiprocessing.active_children())]:
        with open(f"/proc/{pid}/smaps_rollup") as lines:
            own = [line for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))]
        found.append(sum(int(line.split()[1]) for line in own) / 1024)
    return found

loader = data.train_dataloader() if stage == "train" else data.val_dataloader()
clips, items, epoch, seen = 0, set(), 0, {}
while clips < 10_000:
    for batch in loader.batches(epoch) if stage == "train" else loader:
        assert not batch.errors, batch.errors
        clips += len(batch)
        items |= set(batch.item.tolist())
        # the memory itself, not what the workers happen to be at
        for mark in (500, 2_500, 5_000, 7_500, 10_000):
            if mark not in seen and clips >= mark:
                seen[mark] = memory()
    epoch += 1
print(json.dumps({"seen": seen, "files": len(items), "epochs": epoch}))
"""


@pytest.fixture(scope="module")
def many(tiny, tmp_path_factory):
    """The tiny corpus a dozen times over, with its index."""
    home = tmp_path_factory.mktemp("many")
    whole, tracks = manifest.read(tiny / "tiny.parquet"), pd.read_parquet(tiny / "tiny.faces.parquet")
    tracks = tracks.astype({"video_id": str})
    tables, parts = [], []
    for copy in range(COPIES):
        shutil.copytree(tiny / "corpus", home / f"copy{copy:02d}")
        table = whole.table.copy()
        for column in ("path", "video_id"):
            table[column] = f"copy{copy:02d}/" + table[column]
        tables.append(table)
        parts.append(tracks.assign(video_id=f"copy{copy:02d}/" + tracks["video_id"]))
    meta = {k: v for k, v in whole.meta.items() if k not in ("schema", "version")}
    return manifest.write(home / "many.parquet", pd.concat(tables), pd.concat(parts), {**meta, "root": str(home)}).path


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train", "val"])
def test_of_main_process_and_workers(many, stage):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(many), "2", stage], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    seen = {int(mark): memory for mark, memory in found["seen"].items()}
    assert found["files"] > 300
    assert found["epochs"] > 3
    assert len(seen[500]) == len(seen[10_000]) == 3
    assert sum(seen[10_000]) <= 1.05 * sum(seen[500]), seen
