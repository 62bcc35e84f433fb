"""``dfdet ensemble``: finished runs in, one run that answers with their mean out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

EXAMPLE = "dfdet ensemble runs/swap/efficientnet_b4 runs/swap/xception --out runs/ensemble/both"


def ensemble(
    runs: list[str],
    out: Path | None = None,
    combine: Literal["logits", "probabilities"] = "logits",
    *,
    weights: list[float] | None = None,
    json: Path | None = None,
) -> None:
    """Makes an ensemble of runs: each member sees its own input, and their scores of a frame are averaged.

    Args:
        runs: Run directories, two or more.
        out: The new run directory, runs/EXPERIMENT/NAME; test, validate and predict take it as any other.
        combine: Average the members' logits or their probabilities.
        weights: One a run, in their order: 2,1; by default all count alike.
        json: Write the printed tables to this file too.
    """
    from dfdet import console
    from dfdet.errors import UserError

    if out is None:
        raise UserError("dfdet ensemble wants a directory to make", "give --out runs/EXPERIMENT/NAME")
    from dfdet.training.ensemble import create

    result = create(runs, out, combine, weights)
    console.show(*result.tables(), json_file=json)
    console.say(f"wrote {result.run.path}")
    console.say(f"next: dfdet test --run {result.run.path}")


def main(arguments: Sequence[str]) -> None:
    """Parses; runs stand before, between or after the flags."""
    from dfdet.cli.command import parse
    from dfdet.cli.predict import gather

    ensemble(**parse("dfdet ensemble", ensemble, gather(arguments, set()), EXAMPLE).as_dict())
