"""``dfdet validate``: a run in, the scores of every validation video out."""

from __future__ import annotations

from collections.abc import Sequence

from dfdet.cli import test

HELP = """dfdet validate: score every validation video with a run's best checkpoint

usage: dfdet validate --run RUN [--KEY VALUE ...]

  --run RUN             a run directory, as `dfdet fit` wrote it; its own configuration is used
  --checkpoint best     best, last, or the path of a checkpoint of the same detector
  --json FILE           write the printed tables to this file too

example: dfdet validate --run runs/demo/srm_cnn"""


def main(arguments: Sequence[str]) -> None:
    """As ``dfdet test``, on validation."""
    test.main(arguments, "validate", HELP)
