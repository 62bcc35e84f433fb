"""Which videos an epoch visits, as a pure function of (seed, epoch): shares by corpus and label, pairs, no state.

Each stratum (source, label) is walked through in permutations: epoch e takes the next ``quota`` places of an endless
row of permutations, so that every video is seen equally often whatever the quota.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dfdet import seeds


def walk(members: np.ndarray, quota: int, epoch: int, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The ``quota`` members that this epoch visits, in order, and how often each was visited before.

    Args:
        members: int (n,), what may be drawn; n > 0 unless quota is 0.
        quota: How many to draw.
        epoch: The epoch, from 0.
        seed: The run's seed.
        name: The stratum's name: another one draws independently.

    Returns:
        members, int (quota,), and laps, int (quota,): in every lap each member has its turn once.
    """
    if quota == 0:
        return members[:0], np.zeros(0, np.int64)
    n = len(members)
    places = np.arange(epoch * quota, (epoch + 1) * quota)
    laps = places // n
    drawn = np.empty(quota, members.dtype)
    for lap in np.unique(laps):
        order = seeds.generator(seed, int(lap), name, "permutation").permutation(n)
        here = laps == lap
        drawn[here] = members[order[places[here] % n]]
    return drawn, laps


def quotas(total: int, shares: Sequence[float]) -> list[int]:
    """``total`` split in proportion to ``shares``, by largest remainder."""
    weight = np.asarray(shares, np.float64)
    exact = total * weight / weight.sum()
    counts = np.floor(exact).astype(int)
    rest = np.argsort(-(exact - counts), kind="stable")[: total - counts.sum()]
    counts[rest] += 1
    return [int(c) for c in counts]


def strata(
    source: np.ndarray, label: np.ndarray, weights: Sequence[float | None], balance: bool
) -> list[tuple[str, np.ndarray, float]]:
    """Names, members and shares of the strata.

    Args:
        source: int (N,), the source of each item.
        label: int (N,), 0 or 1.
        weights: Weight of each source; None: its number of items.
        balance: True gives both labels the same share, and shares a label out among the sources that hold it by their
            weights; False leaves the labels of a source as they are.
    """
    found = []
    held = [np.flatnonzero(source == number) for number in range(len(weights))]
    mass = [float(len(inside)) if w is None else w for inside, w in zip(held, weights, strict=True)]
    for value in (0, 1):
        members = [inside[label[inside] == value] for inside in held]
        total = sum(m for m, own in zip(mass, members, strict=True) if len(own))
        for number, own in enumerate(members):
            if len(own) == 0:
                continue
            share = mass[number] / total if balance else mass[number] * len(own) / len(held[number])
            found.append((f"source{number}:label{value}", own, share))
    return found


def draw(
    source: np.ndarray,
    label: np.ndarray,
    weights: Sequence[float | None],
    *,
    balance: bool,
    total: int,
    epoch: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The items that one epoch visits, shuffled, and how often each was visited before: int (total,) both."""
    layers = strata(source, label, weights, balance)
    counts = quotas(total, [share for _, _, share in layers])
    parts = [walk(m, c, epoch, seed, name) for (name, m, _), c in zip(layers, counts, strict=True)]
    items, laps = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = seeds.generator(seed, epoch, "epoch", "order").permutation(len(items))
    return items[order], laps[order]


def pair_up(table: Sequence[dict[str, Any]], label: np.ndarray) -> np.ndarray:
    """Fakes beside the real video that each was made from.

    Args:
        table: One dict an item with ``corpus``, ``video_id``, ``original``.
        label: int (N,), 0 or 1.

    Returns:
        int (P, 2): (fake, real) item numbers, for every fake whose original is among the items.
    """
    reals = {(row["corpus"], row["video_id"]): i for i, row in enumerate(table) if label[i] == 0}
    pairs = [
        (i, reals[(row["corpus"], row["original"])])
        for i, row in enumerate(table)
        if label[i] == 1 and (row["corpus"], row["original"]) in reals
    ]
    return np.array(pairs, np.int64).reshape(-1, 2)
