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
    from dfdet.detectors import DETECTORS, ICPR

    table = console.Table("Detectors", ["name", "what", "input", "parameters", "paper", "config"])
    for name, card in DETECTORS.items():
        table.add(name, card.summary, card.input, card.parameters, _short(card.paper), card.config)
    table.add(
        "ensemble",
        "the mean of several runs: dfdet ensemble RUN RUN --out DIR",
        "each run's own",
        None,
        _short(ICPR),
        None,
    )
    table.notes += dict.fromkeys(card.paper for card in DETECTORS.values())
    table.notes.append("weights that were published: dfdet weights list")
    table.notes.append(
        "your own: --model my_lab.MyDetector, a LightningModule that takes ClipBatch and returns ClipScores"
    )
    console.show(table, json_file=json)


def _short(paper: str) -> str:
    """Its authors; the title stands below the table."""
    return paper.partition(",")[0]


def main(arguments: Sequence[str]) -> None:
    """Parses and prints."""
    from dfdet.cli.command import parse

    models(**parse("dfdet models", models, arguments, "dfdet models").as_dict())
