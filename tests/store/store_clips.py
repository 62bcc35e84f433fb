"""Clips whose pixels follow from their number, for the store tests."""

import hashlib

import numpy as np

from dfdet.store import StoreSpec

T, S = 3, 8


def spec(**changes):
    return StoreSpec(
        **{"frames": T, "size": S, "crop": {"scale": 1.3, "align": "none"}, "versions": {"av": "1.0"}} | changes
    )


def key(number):
    return hashlib.blake2b(b"%d" % number, digest_size=16).digest()


def pixels(number, n=T):
    return np.random.default_rng(number).integers(0, 256, (n, S, S, 3), np.uint8)


def fill(writer, numbers):
    for number in numbers:
        n = 1 + number % T
        writer.add(
            key(number), pixels(number, n), video_id=f"video{number // 10}", corpus="demo", sha256="f" * 64,
            track=number % 5, frames=range(number, number + n), pad=number / 1000,
        )  # fmt: skip


def assert_holds(store, numbers):
    """Every clip of these numbers is found, with its own pixels and names."""
    for number in numbers:
        found = store.find(key(number))
        assert found is not None, number
        clip, n = store.clip(found), 1 + number % T
        assert np.array_equal(clip.pixels, pixels(number, n))
        assert clip.frames.tolist() == list(range(number, number + n))
        assert (clip.video_id, clip.track, clip.pad) == (f"video{number // 10}", number % 5, number / 1000)


def names(folder):
    return sorted(p.name for p in folder.iterdir())
