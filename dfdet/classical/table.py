"""Rows of features in, batch by batch; at most a given number of them out, in an order that loading does not change.

Which rows stay is a function of the seed and of what they are of: each clip draws a number for each of its rows, and
the lowest numbers stay. So the choice is the same for any number of loader workers and processes, and memory never
holds more than what stays and one batch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dfdet import seeds
from dfdet.data.batch import ClipBatch
from dfdet.errors import UserError

Features = npt.NDArray[np.float32] | npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
KEYS = 6  # item, track, clip, its first frame, number of the row within the clip, label


class FeatureTable:
    """Features of training clips, at most ``limit`` rows.

    Args:
        limit: Rows that stay.
        seed: Decides which, where there are more.
    """

    def __init__(self, limit: int, seed: int = 0) -> None:
        self.limit, self.seed = limit, seed
        self._features: Features = np.empty((0, 0), np.float32)
        self._keys: Ints = np.empty((0, KEYS), np.int64)
        self._draws = np.empty(0)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, features: Features, clip: Ints, batch: ClipBatch) -> None:
        """Adds the rows of a batch.

        Args:
            features: float32 or uint8 (R, D); one dtype and one D for all batches.
            clip: int (R,), the clip of the batch that each row belongs to, in ascending order.
            batch: The clips.
        """
        count = np.bincount(clip, minlength=len(batch))
        number = np.concatenate([np.arange(n) for n in count]) if len(clip) else np.empty(0, np.int64)
        about = [batch.item, batch.track, batch.clip, batch.frames[:, 0], batch.label]
        item, track, taken, frame, label = (values.cpu().numpy().astype(np.int64) for values in about)
        keys = np.stack([item[clip], track[clip], taken[clip], frame[clip], number, label[clip]], 1)
        draws = [
            seeds.generator(self.seed, 0, f"{item[i]}:{track[i]}:{taken[i]}:{frame[i]}", "rows").random(count[i])
            for i in range(len(batch))
        ]
        self._take(features, keys, np.concatenate(draws) if draws else np.empty(0))

    def merge(self, other: FeatureTable) -> None:
        """Adds the rows of another table of the same seed."""
        self._take(*other.rows())

    def rows(self) -> tuple[Features, Ints, npt.NDArray[np.float64]]:
        """Features (R, D), keys (R, 6) and draws (R,), as they came."""
        return self._features[: self._count], self._keys[: self._count], self._draws[: self._count]

    def sorted(self) -> tuple[npt.NDArray[np.float32], Ints]:
        """Features float32 (R, D) and labels (R,), in the order of item, track, clip, frame and row."""
        features, keys, _ = self.rows()
        order = np.lexsort(tuple(keys[:, column] for column in (4, 3, 2, 1, 0)))
        return features[order].astype(np.float32, copy=False), keys[order, 5]

    def _take(self, features: Features, keys: Ints, draws: npt.NDArray[np.float64]) -> None:
        if not len(draws):
            return
        if self._count and self._features.shape[1] != features.shape[1]:
            raise ValueError(f"rows of {features.shape[1]} numbers meet a table of {self._features.shape[1]}")
        room = self.limit - self._count
        self._append(features[:room], keys[:room], draws[:room])
        if len(draws) > room:
            self._replace(features[room:], keys[room:], draws[room:])

    def _append(self, features: Features, keys: Ints, draws: npt.NDArray[np.float64]) -> None:
        end = self._count + len(draws)
        if end > len(self._features):
            larger = min(max(end, 2 * len(self._features)), self.limit)
            grown = [np.empty((larger, features.shape[1]), features.dtype), np.empty((larger, KEYS), np.int64)]
            for new, old in zip(grown, self.rows(), strict=False):
                if self._count:
                    new[: self._count] = old
            drawn = np.empty(larger)
            drawn[: self._count] = self._draws[: self._count]
            self._features, self._keys, self._draws = grown[0], grown[1], drawn
        place = slice(self._count, end)
        self._features[place], self._keys[place], self._draws[place] = features, keys, draws
        self._count = end

    def _replace(self, features: Features, keys: Ints, draws: npt.NDArray[np.float64]) -> None:
        """Of a full table and new rows, the lowest draws stay, in place."""
        low = np.argpartition(np.concatenate([self._draws, draws]), self.limit - 1)[: self.limit]
        new = np.sort(low[low >= self.limit]) - self.limit
        leave = np.ones(self.limit, bool)
        leave[low[low < self.limit]] = False
        self._features[leave], self._keys[leave], self._draws[leave] = features[new], keys[new], draws[new]

    # In a checkpoint of an epoch that was interrupted -------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """The rows as tensors."""
        return {name: torch.from_numpy(part) for name, part in zip(_STATE, self.rows(), strict=True)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Adds the rows of :meth:`state`.

        Raises:
            UserError: If they are none.
        """
        try:
            features, keys, draws = (state[name].numpy() for name in _STATE)
            if not len(features) == len(draws) == len(keys) or keys.shape[1:] != (KEYS,):
                raise ValueError(f"{len(features)} rows with {len(keys)} keys")
        except (KeyError, AttributeError, ValueError) as error:
            raise UserError(f"the checkpoint's feature table is damaged: {error}", "start the run anew") from error
        self._take(features, keys, draws)


_STATE = ("features", "keys", "draws")
