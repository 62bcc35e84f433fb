"""``dfdet check``: a manifest in, tables of what it holds and what looks wrong out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def check(manifest: Path, json: Path | None = None) -> None:
    """Counts a manifest by split, label, method, status and coverage, and says what looks wrong.

    Args:
        manifest: x.parquet as dfdet index wrote it.
        json: Write the printed tables to this file too.
    """
    from dfdet import console
    from dfdet.indexing import check as checks
    from dfdet.manifest import read, read_tracks

    found = read(manifest)
    read_tracks(found)  # a table that does not belong to the manifest is refused here
    console.show(*checks.check(found), json_file=json)


def main(arguments: Sequence[str]) -> None:
    """Parses and prints."""
    from dfdet.cli.command import parse

    check(**parse("dfdet check", check, arguments, "dfdet check ffpp.parquet").as_dict())
