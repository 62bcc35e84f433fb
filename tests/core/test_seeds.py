"""A draw is a function of (seed, epoch, item, purpose) and of nothing else."""

import random
import subprocess
import sys
from itertools import product

import numpy as np

from dfdet import seeds

# BLAKE2b of 0, 0, a, b
KEY = "2eece59f10b452a97514a96ea1988d82"


def test_the_same_four_give_the_same_draws_in_any_order_and_process():
    asked = list(product((0, 1), (0, 1), ("a", "b", 7), ("augment", "clip")))
    forwards = {four: seeds.generator(*four).integers(1 << 60) for four in asked}
    random.seed(1)
    np.random.seed(1)  # to show that global states do not matter
    backwards = {four: seeds.generator(*four).integers(1 << 60) for four in reversed(asked)}
    assert forwards == backwards
    code = "from dfdet import seeds; print(seeds.generator(1, 0, 'b', 'clip').integers(1 << 60))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == forwards[1, 0, "b", "clip"]


def test_any_change_gives_other_draws():
    base = (3, 5, "video", "augment")
    changed = [(4, 5, "video", "augment"), (3, 6, "video", "augment"), (3, 5, "videos", "augment"), (3, 5, "video", "")]
    keys = {seeds.key(*four) for four in [base, *changed, (35, "", "video", "augment"), (5, 3, "video", "augment")]}
    assert len(keys) == 7
    assert all(0 <= key < 1 << 128 for key in keys)


def test_the_key_is_the_same_on_every_machine():
    assert seeds.key(0, 0, "a", "b") == int.from_bytes(bytes.fromhex(KEY), "little")


def test_neighbours_are_independent():
    draws = np.array([seeds.generator(0, epoch, "v", "x").random() for epoch in range(2000)])
    assert abs(draws.mean() - 0.5) < 0.03
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.08
