"""Labels of a batch's clips in, the triplets or pairs that are compared out; data that can hold none is refused.

A triplet is a row (anchor, positive, negative) of indices into the batch, a pair a row (first, second, same class).
``mate`` says at which index the real video of a fake stands and the other way round, -1 where it is not there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dfdet.data.module import VideoDataModule
from dfdet.data.sources import Items
from dfdet.errors import UserError


def _of_class(label: Tensor, kind: int, order: Sequence[int] | None = None) -> list[int]:
    """The indices of a class, in an order."""
    kinds = label.tolist()
    return [i for i in (range(len(kinds)) if order is None else order) if kinds[i] == kind]


def _rows(found: Sequence[tuple[int, int, int]]) -> Tensor:
    return torch.tensor(found, dtype=torch.int64).reshape(-1, 3)


def random_triplets(label: Tensor) -> Tensor:
    """Fake, fake, real and real, real, fake by turns, each clip once, drawn as icpr2020dfdc does from a whole corpus.

    Args:
        label: int (N,), 0 or 1.

    Returns:
        int64 (K, 3); which kind comes first is drawn too.
    """
    drawn = torch.randperm(len(label)).tolist()
    left = [_of_class(label, kind, drawn) for kind in (0, 1)]
    kind, found = int(torch.randint(2, ())), []
    while len(left[kind]) >= 2 and left[1 - kind]:
        found.append((left[kind].pop(), left[kind].pop(), left[1 - kind].pop()))
        kind = 1 - kind
    return _rows(found)


def semi_hard_triplets(embedding: Tensor, label: Tensor) -> Tensor:
    """Every two clips of a class, with the nearest negative that is farther than the positive.

    Schroff et al., "FaceNet" (CVPR 2015), sec. 3.2. Where no negative is farther, the farthest is taken (our choice:
    the nearest would be the hardest, at which they say training collapses).

    Args:
        embedding: (N, D).
        label: int (N,), 0 or 1.

    Returns:
        int64 (K, 3).
    """
    with torch.no_grad():
        apart = torch.cdist(embedding.float(), embedding.float()).cpu()
    label = label.cpu()
    same = label[:, None] == label
    anchor, positive = (same & ~torch.eye(len(label), dtype=torch.bool)).nonzero(as_tuple=True)
    if len(anchor) == 0 or bool(same.all()):
        return _rows([])
    to_negative = apart[anchor].masked_fill(same[anchor], torch.nan)
    farther = to_negative.masked_fill(~(to_negative > apart[anchor, positive][:, None]), torch.inf)
    farthest = to_negative.nan_to_num(nan=-torch.inf).argmax(1)
    negative = torch.where(farther.isfinite().any(1), farther.argmin(1), farthest)
    return torch.stack([anchor, positive, negative], 1)


def _next_of_another(order: Sequence[int], at: int, item: Sequence[int]) -> int | None:
    """The next index after place ``at`` of a ring whose video is another."""
    places = (order[(at + step) % len(order)] for step in range(1, len(order)))
    return next((i for i in places if item[i] != item[order[at]]), None)


def paired_triplets(label: Tensor, item: Tensor, mate: Tensor) -> Tensor:
    """Each clip with another of its class, of another video, and with its mate as the negative.

    Args:
        label: int (N,), 0 or 1.
        item: int (N,), the clips' videos.
        mate: int (N,).

    Returns:
        int64 (K, 3), at most one an anchor.
    """
    videos, mates, found = item.tolist(), mate.tolist(), []
    drawn = torch.randperm(len(label)).tolist()
    for kind in (0, 1):
        ring = [i for i in _of_class(label, kind, drawn) if mates[i] >= 0]
        for place, anchor in enumerate(ring):
            positive = _next_of_another(ring, place, videos)
            if positive is not None:
                found.append((anchor, positive, mates[anchor]))
    return _rows(found)


def drawn_pairs(label: Tensor, item: Tensor, mate: Tensor) -> Tensor:
    """Each fake with its mate, and as many pairs of one class from different videos, of fakes and of reals by turns.

    Returns:
        int64 (K, 3): first, second, 1 for one class and 0 for two.
    """
    videos, mates = item.tolist(), mate.tolist()
    drawn = torch.randperm(len(label)).tolist()
    fakes = [i for i in _of_class(label, 1, drawn) if mates[i] >= 0]
    reals = [mates[i] for i in fakes]
    return _rows(_pairs(fakes, reals, fakes, reals, videos))


def _pairs(
    fakes: Sequence[int], reals: Sequence[int], all_fakes: Sequence[int], all_reals: Sequence[int], item: Sequence[int]
) -> list[tuple[int, int, int]]:
    """(fake, real, 0) of two lists side by side, and beside each a pair of one class."""
    found = []
    for place, (fake, real) in enumerate(zip(fakes, reals, strict=True)):
        found.append((fake, real, 0))
        ring = all_reals if place % 2 else all_fakes
        own = ring[place % len(ring)]
        other = _next_of_another(ring, place % len(ring), item)
        if other is not None:
            found.append((own, other, 1))
    return found


def fixed_triplets(label: Tensor, item: Tensor) -> Tensor:
    """One triplet for every clip as the anchor; the same for the same clips.

    Args:
        label: int (N,), 0 or 1.
        item: int (N,), the clips' videos.

    Returns:
        int64 (K, 3): the positive is the next clip of the class from another video, negatives are gone through in turn.
    """
    videos, found = item.tolist(), []
    kinds = [_of_class(label, kind) for kind in (0, 1)]
    for own, others in (kinds, kinds[::-1]):
        for place, anchor in enumerate(own):
            positive = _next_of_another(own, place, videos)
            if positive is not None and others:
                found.append((anchor, positive, others[place % len(others)]))
    return _rows(found)


def fixed_pairs(label: Tensor, item: Tensor, original: dict[int, int]) -> Tensor:
    """Each fake with the real that it was made from, or with another, and as many pairs of one class.

    Args:
        label: int (N,), 0 or 1.
        item: int (N,), the clips' videos.
        original: The real video of each fake one.

    Returns:
        int64 (K, 3): first, second, 1 for one class and 0 for two.
    """
    videos = item.tolist()
    fakes, reals = _of_class(label, 1), _of_class(label, 0)
    if not fakes or not reals:
        return _rows([])
    at = {videos[i]: i for i in reals}
    own = [at.get(original.get(videos[i], -1), reals[n % len(reals)]) for n, i in enumerate(fakes)]
    return _rows(_pairs(fakes, own, fakes, reals, videos))


def mates_of(label: Tensor, made: Tensor) -> Tensor:
    """Mates in a batch of pairs side by side (data.pairs), of which only some could be made.

    Args:
        label: int (B,) of the whole batch.
        made: bool (B,), which clips are there.

    Returns:
        int64 (N,): indices into the clips that are there, -1 where the mate is not or is of the same class.
    """
    there, place = made.tolist(), (made.long().cumsum(0) - 1).tolist()
    kinds, found = label.tolist(), []
    for i in range(len(there)):
        j = i ^ 1
        if there[i]:
            found.append(place[j] if j < len(there) and there[j] and kinds[j] != kinds[i] else -1)
    return torch.tensor(found, dtype=torch.int64)


# What cannot be formed ---------------------------------------------------------------------------------------------


def check_comparable(data: VideoDataModule, what: str, paired: bool) -> None:
    """Looks whether a training set and its batches can hold what is to be compared.

    Args:
        data: The data.
        what: ``triplets`` or ``pairs``, for the message.
        paired: Whether a clip is compared with the one that it was made from or into.

    Raises:
        UserError: They cannot.
    """
    if paired and not data.pairs:
        raise UserError(
            f"these {what} are of a fake and the real video it was made from, but data.pairs is not set",
            "give --config data/pairs.yaml, or --data.pairs true --data.balance none",
        )
    least = 4 if paired else 3
    if data.batch_size < least:
        raise UserError(f"a batch of {data.batch_size} holds no {what}", f"give --data.batch_size {least} or more")
    train = data.items("train")
    _check_videos(train, "training", what)
    if paired:
        units = data.units()
        if all(len(set(units[:, side].tolist())) < 2 for side in (0, 1)):
            raise UserError(
                f"no {what} can be formed: data.pairs finds one pair in the training data",
                "two videos of a class are needed, each with its counterpart",
            )
    val = data.items("val")
    _check_videos(val.take(val.readable & (val.label >= 0)), "validation", what)


def _check_videos(items: Items, where: str, what: str) -> None:
    count = [int((items.label == kind).sum()) for kind in (0, 1)]
    if min(count) == 0 or max(count) < 2:
        raise UserError(
            f"no {what} can be formed: the {where} split holds {count[0]} real and {count[1]} fake videos",
            "both classes are needed, and two videos of one of them",
        )
    groups = set(items.table["group"].to_pylist())
    if where == "training" and len(groups) == 1 and None not in groups:
        raise UserError(
            f"no {what} can be formed: all {len(items)} training videos are of one identity ({groups.pop()})",
            "two of a class would differ in nothing but the clip; add videos of other people",
        )
