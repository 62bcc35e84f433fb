"""``dfdet store build``: the arguments of a fit in, a store with every clip of its training and validation out."""

from __future__ import annotations

from collections.abc import Sequence

HELP = """dfdet store build: decode the clips of a fit into a crop store, before any training

usage: dfdet store build --config FILE [--KEY VALUE ...] --data.crop_store DIR

  takes what `dfdet fit` takes; the fit with the same --data keys then reads every crop from the store
  --data.crop_store DIR  the folder to fill; what it holds already is passed over
  --data.clip_pool 16    clips a face track
  --json FILE            write the printed table to this file too

example: dfdet store build --config configs/experiment/srm_cnn.yaml --data.train ffpp.parquet --data.crop_store crops"""


def main(arguments: Sequence[str]) -> None:
    """Short help without torch; else fills the store."""
    if not arguments or "--help" in arguments or "-h" in arguments:
        print(HELP)
        return
    from dfdet import console
    from dfdet.cli.flags import split
    from dfdet.training.storing import build_store

    ours, rest = split(arguments, ("--json",))
    with console.interruptible("what was finished is kept: run the same command again"):
        filled = build_store(rest)
    console.show(filled.table(), json_file=ours.get("--json"))
    for reason in filled.failed[:5]:
        console.warn(f"could not be made: {reason}")
    console.say("next: dfdet fit with the same arguments")
