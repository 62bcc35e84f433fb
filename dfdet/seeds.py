"""Randomness as a function: every random choice is drawn from (seed, epoch, item, purpose), never from a global state.

That makes a draw the same for any number of workers and ranks, in any order, and after any restart.
"""

from __future__ import annotations

import hashlib

import numpy as np


def key(seed: int, epoch: int, item: str | int, purpose: str) -> int:
    """A 128-bit number that stands for the four arguments; equal arguments give equal numbers on every machine."""
    text = f"{seed}\x1f{epoch}\x1f{item}\x1f{purpose}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")


def generator(seed: int, epoch: int, item: str | int, purpose: str) -> np.random.Generator:
    """An independent numpy generator for one purpose of one item in one epoch.

    Args:
        seed: The run's seed.
        epoch: The epoch, from 0; 0 as well where the choice must not change between epochs.
        item: What the choice is about: a video id, a visit's number.
        purpose: What the choice is, so that two choices about one item are independent: ``"augment"``.
    """
    return np.random.Generator(np.random.Philox(key=key(seed, epoch, item, purpose)))
