"""Things to time in, their seconds out, measured in turns: a machine that slows down slows all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from dfdet import console


def interleaved(runs: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run in each round; every other round goes backwards, so that none always follows the same one.

    Args:
        runs: By name: does the work once and returns its seconds.
        rounds: How often each has its turn.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with console.Progress("measuring", rounds * len(runs)) as bar:
        for number in range(rounds):
            for name in list(runs)[:: -1 if number % 2 else 1]:
                seconds[name].append(runs[name]())
                bar.advance()
    return seconds


def times_faster(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times faster ours is: the median over rounds of their seconds by ours."""
    return statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
