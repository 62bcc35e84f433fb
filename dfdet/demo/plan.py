"""Settings in; which videos the demo corpus holds, who is in them and on which side of the split they stand, out.

Identities come in pairs that swap with each other only. A pair is a group, and a group stands in one split, so no
identity, target or donor, is on two sides. What could give the label away without looking at a face (compression,
light, room, noise, motion) belongs to the footage, which a real video shares with its forgery.
"""

from __future__ import annotations

from dataclasses import dataclass

from dfdet.errors import UserError

RECIPE = 1  # Raised when the same settings begin to make other pixels.
SPLITS = ("train", "val", "test")
CRFS = (23, 35)
AWKWARD = {
    "test": ("two_heads", "no_head", "late_head", "poster", "hard_cut"),
    "train": ("two_heads", "hard_cut"),
}


@dataclass(frozen=True)
class Settings:
    """All that decides the bytes of a demo corpus; see :func:`dfdet.demo.corpus.make` for what each means."""

    identities: int
    frames: int
    strength: float
    seed: int
    footages: int
    width: int
    height: int
    recipe: int = RECIPE

    def check(self) -> None:
        """Raises UserError where a setting cannot be."""
        if self.identities < 6 or self.identities % 2:
            raise UserError(f"identities is {self.identities}", "take an even number from 6 on: they come in pairs")
        if self.frames < 8:
            raise UserError(f"frames is {self.frames}", "take 8 or more")
        if not 0 < self.strength <= 1:
            raise UserError(f"strength is {self.strength}", "take a number above 0 and up to 1 (1 = easy to see)")
        if self.footages < 1:
            raise UserError(f"footages is {self.footages}", "take 1 or more")
        if self.width < 160 or self.height < 120 or self.width % 2 or self.height % 2:
            raise UserError(f"the size is {self.width} x {self.height}", "take even numbers from 160 x 120 on")


@dataclass(frozen=True)
class Video:
    """One row of labels.csv; ``path`` and ``original`` (the real video's path without extension) relative to it."""

    path: str
    label: str
    method: str
    split: str
    identity: str
    source_identity: str
    original: str
    group: str


@dataclass(frozen=True)
class Footage:
    """What one pass of the renderer makes: a real video and its forgery, if it has one.

    Args:
        item: Its name, from which every random choice about it is drawn.
        case: ``ordinary`` or one of the awkward cases.
        target: Who is seen, None where nobody is.
        donor: The partner of the target: the face of a swap, the second head of an awkward case.
        crf: x264's constant rate factor.
        real, fake: The videos.
    """

    item: str
    case: str
    target: str | None
    donor: str | None
    crf: int
    real: Video
    fake: Video | None

    @property
    def videos(self) -> tuple[Video, ...]:
        """The videos that it makes, the real one first."""
        return (self.real,) if self.fake is None else (self.real, self.fake)


def pairs_of(split: str, identities: int) -> range:
    """The pairs (0..identities/2 - 1) of a split: a seventh for validation, up to half for testing, the rest to train.

    The test side goes first to ten pairs, since fewer groups give no interval.
    """
    pairs = identities // 2
    val = max(1, round(0.15 * pairs))
    test = max(1, min(pairs // 2, max(10, pairs // 4), pairs - val - 1))
    train = pairs - val - test
    starts = {"train": (0, train), "val": (train, train + val), "test": (train + val, pairs)}
    return range(*starts[split])


def name(identity: int) -> str:
    """How an identity is called."""
    return f"id{identity:03d}"


def plan(settings: Settings) -> list[Footage]:
    """Every footage of the corpus, in a fixed order."""
    settings.check()
    footages = [
        _ordinary(split, pair, member, number)
        for split in SPLITS
        for pair in pairs_of(split, settings.identities)
        for member in (0, 1)
        for number in range(settings.footages)
    ]
    for extra, (split, cases) in enumerate(AWKWARD.items()):
        footages += [_awkward(split, case, settings.identities // 2 + extra) for case in cases]
    return footages


def _ordinary(split: str, pair: int, member: int, number: int) -> Footage:
    target, donor = name(2 * pair + member), name(2 * pair + 1 - member)
    # Both factors of a footage are balanced against each other over pairs and members.
    crf = CRFS[(pair + member + number // 2) % 2]
    method = ("swap", "reenact")[number % 2]
    stem = f"{target}_{number}_c{crf}"
    suffix = f"swap_{donor}" if method == "swap" else method
    return _footage(split, stem, suffix, "ordinary", (target, donor), crf, f"g{pair:03d}")


def _awkward(split: str, case: str, pair: int) -> Footage:
    stem = f"awkward_{case}"
    people = (name(2 * pair), name(2 * pair + 1))
    if case != "no_head":
        return _footage(split, stem, "swap", case, people, CRFS[0], f"g{pair:03d}")
    path = f"{split}/real/{stem}"
    real = Video(f"{path}.mp4", "real", "real", split, "", "", "", stem)
    return Footage(path, case, None, None, CRFS[0], real, None)


def _footage(split: str, stem: str, suffix: str, case: str, people: tuple[str, str], crf: int, group: str) -> Footage:
    target, donor = people
    original = f"{split}/real/{stem}"
    method = suffix.split("_")[0]
    source = donor if method == "swap" else ""
    real = Video(f"{original}.mp4", "real", "real", split, target, "", "", group)
    fake = Video(f"{split}/fake/{stem}_{suffix}.mp4", "fake", method, split, target, source, original, group)
    return Footage(original, case, target, donor, crf, real, fake)
