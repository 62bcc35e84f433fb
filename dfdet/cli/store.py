"""``dfdet store``: face crops that were decoded once: fill a store, look into it, check it, or export crops."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from dfdet.cli.overview import overview

PARTS: dict[str, tuple[str, str]] = {
    "build": ("dfdet.cli.store_build", "decode the clips of a manifest into a store, before any training"),
    "info": ("dfdet.cli.store", "what a store holds, and with which settings it was made"),
    "verify": ("dfdet.cli.store", "read every clip of a store and hold it against its checksum"),
    "export": ("dfdet.cli.store_export", "crops for people with other code: PNG files, DeepfakeBench's tree, videos"),
}


def usage() -> str:
    """The help of ``dfdet store`` itself."""
    return overview(
        "dfdet store",
        "face crops that were decoded once",
        "PART",
        {name: text for name, (_, text) in PARTS.items()},
        "dfdet store info crops   after dfdet fit ... --data.crop_store crops",
    )


def info(store: Path, json: Path | None = None) -> None:
    """Shows the settings of a store, what it holds, and its unfinished files.

    Args:
        store: The folder that --data.crop_store named.
        json: Write the printed tables to this file too.
    """
    from dfdet import console
    from dfdet.store import verify as looks

    console.show(*looks.info(store), json_file=json)


def verify(store: Path, json: Path | None = None) -> None:
    """Reads every clip of a store and compares its checksum; exit code 1 where a shard is damaged.

    Args:
        store: The folder that --data.crop_store named.
        json: Write the printed table to this file too.
    """
    from dfdet import console
    from dfdet.store import verify as looks

    with console.interruptible("nothing was changed: run the same command again"):
        table, sound = looks.verify(store)
    console.show(table, json_file=json)
    if not sound:
        raise SystemExit(1)


def main(arguments: Sequence[str]) -> None:
    """Runs one part."""
    given = list(arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(usage())
        return
    from dfdet.errors import UserError, nearest

    part, rest = given[0], given[1:]
    if part not in PARTS:
        raise UserError(f"dfdet store has no part {part!r}", nearest(part, PARTS))
    if part not in ("info", "verify"):
        import_module(PARTS[part][0]).main(rest)
        return
    from dfdet.cli.command import parse

    function = info if part == "info" else verify
    function(**parse(f"dfdet store {part}", function, rest, f"dfdet store {part} crops").as_dict())
