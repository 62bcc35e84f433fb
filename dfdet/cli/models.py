"""``dfdet models``: the detectors that ``--model`` knows by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def models(json: Path | None = None) -> None:
    """Lists the detectors that --model knows by name; any other goes by its import path.

    Args:
        json: Write the printed table to this file too.
    """
    from dfdet import console
    from dfdet.detectors import DETECTORS

    table = console.Table("Detectors", ["name", "what", "input", "parameters", "paper", "configuration"])
    for name, card in DETECTORS.items():
        table.add(name, card.summary, card.input, card.parameters, card.paper, card.config)
    table.notes.append(
        "your own: --model my_lab.MyDetector, a LightningModule that takes ClipBatch and returns ClipScores"
    )
    console.show(table, json_file=json)


def main(arguments: Sequence[str]) -> None:
    """Parses and prints."""
    from dfdet.cli.command import parse

    models(**parse("dfdet models", models, arguments, "dfdet models").as_dict())
