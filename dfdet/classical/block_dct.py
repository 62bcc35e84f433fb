"""Unresampled windows in, features of their 32 x 32 blocks in between, a score a block and their mean behind.

Bernardi et al. (paper 004), sec. "Block based approach": features are the DCT of a block and the DCT of its histogram;
only blocks of predominantly skin colour are learnt from, all are scored, and an image's score is the mean of theirs.
Their ablations are the options ``raw_histogram`` (its figure .607 instead of .651), ``stride`` 16 (.644) and ``ela``
(.634). The paper names neither the classifier ("the network") nor the colour space, the scaling or the skin rule.
Ours: luma of JPEG (BT.601, full range); orthonormal DCT-II, log(1 + |.|) of the 1,024 coefficients; the DCT of the
256-bin histogram, whose sum is 1; all standardised. Skin is 133 <= Cr <= 173 and 77 <= Cb <= 127 (Chai and Ngan 1999)
on half of a block or more. Blocks keep to the 8 x 8 grid of the JPEG or video: crop mode ``native_grid8``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import dct, dctn
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from dfdet.classical.base import ClassicalDetector
from dfdet.classical.fitting import Floats, log_odds, pool_mean
from dfdet.classical.table import Ints
from dfdet.data.batch import ClipBatch
from dfdet.errors import UserError
from dfdet.networks.ela import ela

Floats32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
GRID = 8  # side of a JPEG's blocks
LEVELS = 256
PASSES = {"mlp": 10, "gbm": 100}


@dataclass(frozen=True)
class Blocks:
    """The blocks of images, row by row of their lattice.

    Attributes:
        features: float32 (R, D), of the blocks that show the image.
        place: int (R, 3): image, row and column of each.
        skin: bool (R,): half of it or more has the colour of skin.
        lattice: Rows and columns of an image's blocks, with those that padding reaches into.
    """

    features: Floats32
    place: Ints
    skin: Bools
    lattice: tuple[int, int]


def ycc(images: Bytes) -> Floats32:
    """RGB (N, H, W, 3) -> Y, Cb and Cr (N, H, W, 3) as JPEG has them: BT.601, 0..255, neutral at 128."""
    matrix = np.array(
        [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]], np.float32
    )
    return np.asarray(images.astype(np.float32) @ matrix.T + np.array([0, 128, 128], np.float32))


def is_skin(colours: Floats32) -> Bools:
    """(..., 3) of :func:`ycc` -> bool (...)."""
    blue, red = colours[..., 1], colours[..., 2]
    return np.asarray((red >= 133) & (red <= 173) & (blue >= 77) & (blue <= 127))


def visible(images: Bytes) -> Bools:
    """RGB (N, H, W, 3) -> bool (N, H, W): what is no black border that constant padding leaves."""
    lit = np.any(images, axis=3)
    rows, columns = np.any(lit, axis=2), np.any(lit, axis=1)
    return np.asarray(_within(rows)[:, :, None] & _within(columns)[:, None, :])


def _within(lit: npt.NDArray[Any]) -> Bools:
    """Between the first and the last that is lit, both counted."""
    after = np.logical_or.accumulate(lit, axis=1)
    before = np.logical_or.accumulate(lit[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(after & before)


def cut(images: npt.NDArray[Any], side: int, stride: int) -> npt.NDArray[Any]:
    """(N, H, W) -> (N, rows, columns, side, side), a view."""
    return sliding_window_view(images, (side, side), axis=(1, 2))[:, ::stride, ::stride]


def log_dct(blocks: Floats32) -> Floats32:
    """(R, side, side) -> (R, side^2): log(1 + |orthonormal 2-D DCT-II|), row by row."""
    return np.log1p(np.abs(dctn(blocks, axes=(1, 2), norm="ortho"))).reshape(len(blocks), -1)


def histograms(blocks: Floats32) -> Floats32:
    """Luma (R, side, side) in 0..255 -> (R, 256), the share of each rounded level."""
    level = np.clip(np.rint(blocks), 0, LEVELS - 1).astype(np.int64).reshape(len(blocks), -1)
    shifted = level + LEVELS * np.arange(len(blocks))[:, None]
    count = np.bincount(shifted.ravel(), minlength=LEVELS * len(blocks)).reshape(len(blocks), LEVELS)
    return (count / level.shape[1]).astype(np.float32)


class BlockDCTDetector(ClassicalDetector):
    """DCT of blocks and of their histograms.

    Args:
        classifier: ``mlp``: one hidden layer, or ``gbm``: scikit-learn's histogram gradient boosting.
        size: S, side of the window in pixels.
        block: Side of a block, pixels.
        stride: From one block to the next, pixels; None: ``block``.
        raw_histogram: The histogram itself as well.
        ela: The DCT of the block's error levels as well (JPEG of quality 90).
        hidden: Units of the MLP's hidden layer.
        passes: Epochs of the MLP over the blocks, or trees of the boosting; None: 10, or 100. With more, the MLP learns
            the training blocks by heart (measured on DFDC faces: 30 passes, validation AUROC .50 for .55 to .58).
        max_blocks: Blocks that are learnt from, at most; drawn by seed.
    """

    def __init__(
        self,
        classifier: Literal["mlp", "gbm"] = "mlp",
        size: int = 224,
        block: int = 32,
        stride: int | None = None,
        raw_histogram: bool = False,
        ela: bool = False,
        hidden: int = 128,
        passes: int | None = None,
        max_blocks: int = 60_000,
    ) -> None:
        super().__init__(input_size=size, max_rows=max_blocks)
        stride = block if stride is None else stride
        if hidden < 1 or (passes is not None and passes < 1):
            raise UserError(f"model.hidden is {hidden}, model.passes {passes}", "both are at least 1")
        for name, value in (("size", size), ("block", block), ("stride", stride)):
            if value < GRID or (value % GRID and name != "size"):
                raise UserError(f"model.{name} is {value} pixels", f"blocks keep to the grid of {GRID}: a multiple")
        if block > size:
            raise UserError(f"a block of {block} pixels does not fit into a window of {size}", "enlarge model.size")
        self.classifier, self.block, self.stride = classifier, block, stride
        self.raw_histogram, self.ela = raw_histogram, ela
        self.hidden, self.passes = hidden, passes or PASSES[classifier]

    @property
    def columns(self) -> int:
        """1,280 without the ablations."""
        return self.block**2 * (1 + self.ela) + LEVELS * (1 + self.raw_histogram)

    def rows_of(self, frames: int) -> int:
        """Blocks of a clip."""
        return frames * ((self.input_size - self.block) // self.stride + 1) ** 2

    def blocks_of(self, images: Tensor, skin_only: bool = False) -> Blocks:
        """The blocks of images, uint8 RGB (N, 3, S, S).

        Args:
            images: On any device.
            skin_only: Only the blocks of skin; all of an image that has none.
        """
        pixels = np.ascontiguousarray(images.permute(0, 2, 3, 1).cpu().numpy())
        colours = ycc(pixels)
        shown = cut(visible(pixels), self.block, self.stride).all((3, 4))
        skin = cut(is_skin(colours), self.block, self.stride).mean((3, 4)) >= 0.5
        wanted = shown
        if skin_only:
            both = shown & skin
            wanted = np.where(both.any((1, 2))[:, None, None], both, shown)
        if not wanted.any():
            none = np.empty((0, self.columns), np.float32)
            return Blocks(none, np.empty((0, 3), np.int64), skin[wanted], shown.shape[1:])
        luma = np.ascontiguousarray(cut(colours[..., 0], self.block, self.stride)[wanted])
        share = histograms(luma)
        parts = [log_dct(luma), dct(share, axis=1, norm="ortho")]
        if self.raw_histogram:
            parts.append(share)
        if self.ela:
            levels = ela(images).permute(0, 2, 3, 1).cpu().numpy() @ np.array([0.299, 0.587, 0.114], np.float32)
            parts.append(log_dct(np.ascontiguousarray(cut(levels, self.block, self.stride)[wanted])))
        features = np.concatenate(parts, axis=1).astype(np.float32, copy=False)
        return Blocks(features, np.argwhere(wanted).astype(np.int64), skin[wanted], shown.shape[1:])

    def extract(self, batch: ClipBatch, training: bool) -> tuple[Floats32, Ints]:
        """One row a block: of skin in training, all in scoring; of the frames that are there."""
        there = batch.mask.nonzero().cpu().numpy()
        found = self.blocks_of(batch.video[batch.mask], skin_only=training)
        return found.features, there[found.place[:, 0], 0].astype(np.int64)

    def pool(self, logit: Floats, clip: Ints, clips: int) -> Floats:
        """The log-odds of the mean probability of a clip's blocks; 0 for a clip without any."""
        probability = pool_mean(1 / (1 + np.exp(-logit)), clip, clips)
        return np.where(np.bincount(clip, minlength=clips) > 0, log_odds(probability), 0.0)

    def block_scores(self, images: Tensor) -> Tensor:
        """What each block says, for a map: uint8 RGB (N, 3, S, S) -> logits (N, rows, columns).

        NaN where padding reaches into a block. Block (i, j) covers pixels from ``stride`` i and ``stride`` j, ``block``
        wide. An image's score is the log-odds of the mean of the blocks' sigmoids.

        Raises:
            UserError: The detector was never fitted.
        """
        found = self.blocks_of(images)
        scores = np.full((len(images), *found.lattice), np.nan, np.float32)
        scores[tuple(found.place.T)] = self.score_rows(found.features)
        return torch.from_numpy(scores)

    def make_estimator(self, rows: int, seed: int) -> Pipeline:
        """The classifier on standardised columns."""
        classify: Any
        if self.classifier == "gbm":
            classify = HistGradientBoostingClassifier(max_iter=self.passes, early_stopping=False, random_state=seed)
        else:
            # patience as long as the passes: their number is fixed
            classify = MLPClassifier(
                (self.hidden,), max_iter=self.passes, n_iter_no_change=self.passes, random_state=seed
            )
        return Pipeline([("scale", StandardScaler()), ("classify", classify)])
