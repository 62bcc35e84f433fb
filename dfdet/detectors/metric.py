"""Training by comparing clips with each other, and the detectors that end with batch norm and a linear layer after it.

Bonettini et al. (ICPR 2020) call it siamese training: first the pooled features of EfficientNet-B4 are trained by
triplets (margin 1, Euclidean distance, no normalisation of the features), then BatchNorm1d and one linear layer on
the trunk, which is no longer trained. Their triplets are drawn without mining; ``semi_hard`` and ``paired`` are ours.
They send anchors, positives and negatives through the network one after the other, we all clips of a batch together:
it is their batch norm statistics alone that differ.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dfdet.data.batch import ClipBatch
from dfdet.data.module import VideoDataModule
from dfdet.data.sampling import pair_up
from dfdet.detectors import mining
from dfdet.detectors.backbone import BackboneDetector
from dfdet.detectors.binary import ClipScores
from dfdet.detectors.frames import FrameDetector
from dfdet.detectors.optimising import statistics_held
from dfdet.errors import UserError

FROZEN = ("head", "probe")  # stages that train a classifier on a network that stays as it is
_SLOWEST = 0.02  # least weight of a batch in the running means


class MetricSteps(FrameDetector):
    """Steps of a stage that compares clips; without it they are those of any frame detector.

    There is no classifier in such a stage, yet validation, test and predict give a logit: the distance of a clip's
    features to the running mean of the reals' minus that to the fakes'. The means are those that training saw (the
    plain mean at first, later batches with a weight of at least 0.02) and travel in the checkpoint. ``val/loss`` is the
    loss of fixed triplets or pairs of one clip of each face in validation.

    A subclass calls :meth:`begin_comparing` and says what is compared and how: ``drawn``, ``fixed``, ``losses``.
    """

    comparing = False
    what = "triplets"
    paired = False
    stage = ""
    centroids: Tensor
    seen: Tensor

    def begin_comparing(self, features: int) -> None:
        """Makes this a stage that compares features of so many numbers.

        Raises:
            UserError: Frames are to be pooled by attention, which nothing of this stage would train.
        """
        if self.attention is not None:
            raise UserError(
                f"model.stage {self.stage} compares the means of clips' frames: attention would not be trained",
                "take pool attention in the stage after it",
            )
        self.comparing = True
        self.register_buffer("centroids", torch.zeros(2, features))
        self.register_buffer("seen", torch.zeros(2))  # batches; a float, as callbacks average what they find
        self._kept: list[tuple[Tensor, Tensor, Tensor]] = []

    @abstractmethod
    def drawn(self, embedding: Tensor, label: Tensor, item: Tensor, mate: Tensor) -> Tensor:
        """What is compared in a training batch: int64 (K, 3)."""

    @abstractmethod
    def fixed(self, label: Tensor, item: Tensor, original: dict[int, int]) -> Tensor:
        """What is compared in validation: int64 (K, 3)."""

    @abstractmethod
    def losses(self, embedding: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each row, float (K,), and whether the network has it right, bool (K,)."""

    # Scoring ---------------------------------------------------------------------------------------------------

    def embed(self, batch: ClipBatch) -> Tensor:
        """Features of clips, float32 (B, D): the mean of their frames'."""
        network: Any = self.network
        each = network.features(self.prepare(batch.video.flatten(0, 1))).float().unflatten(0, batch.mask.shape)
        return (each * batch.mask[:, :, None]).sum(1) / batch.mask.sum(1).clamp(min=1)[:, None]

    def _logit(self, embedding: Tensor) -> Tensor:
        apart = (embedding[:, None] - self.centroids).norm(dim=2)
        return torch.where(self.seen.min() > 0, apart[:, 0] - apart[:, 1], 0.0)

    def forward(self, batch: ClipBatch) -> Tensor:
        """Clip logits (B,)."""
        return self._logit(self.embed(batch)) if self.comparing else super().forward(batch)

    # Training --------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Looks whether there is anything to compare, or anything that was compared before.

        Raises:
            UserError: There is not.
        """
        super().on_fit_start()
        if self.stage in FROZEN and not self.started:
            raise UserError(
                f"model.stage {self.stage} trains on a frozen network, and this one was never trained",
                "give --model.weights RUN/checkpoints/best.ckpt or --init_from RUN of the stage before it",
            )
        data: Any = getattr(self.trainer, "datamodule", None)
        if self.comparing and isinstance(data, VideoDataModule):
            mining.check_comparable(data, self.what, self.paired)

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Mean loss of what is compared; 0 where the batch holds nothing that can be."""
        if not self.comparing:
            return super().training_step(batch, batch_idx)
        made = batch.weight > 0
        if int(made.sum()) < 2:
            with statistics_held(self):
                return self._nothing(self.embed(batch))
        batch, mate = batch.select(made), mining.mates_of(batch.label, made)
        embedding = self.embed(batch)
        self._follow(embedding.detach(), batch.label)
        rows = self.drawn(embedding.detach(), batch.label, batch.item, mate).to(embedding.device)
        if len(rows) == 0:
            return self._nothing(embedding)
        each, right = self.losses(embedding, rows)
        loss = each.mean()
        self.log("train/loss", loss, on_step=True, on_epoch=True, batch_size=len(rows))
        self.log("train/accuracy", right.float().mean(), on_step=False, on_epoch=True, batch_size=len(rows))
        return loss

    def _nothing(self, embedding: Tensor) -> Tensor:
        """A loss of 0 with a gradient of 0 for every parameter, which processes that train together wait for."""
        return embedding.sum() * 0.0 + sum(p.sum() * 0.0 for p in self.parameters() if p.requires_grad)

    def _follow(self, embedding: Tensor, label: Tensor) -> None:
        """Moves the running means, by the batches of all processes together."""
        which = F.one_hot(label.clamp(min=0), 2).to(embedding.dtype)
        count, total = which.sum(0), which.T @ embedding
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(count)
            torch.distributed.all_reduce(total)
        there = count > 0
        self.seen += there
        weight = torch.where(there, (1.0 / self.seen.clamp(min=1)).clamp(min=_SLOWEST), 0.0)[:, None]
        self.centroids += weight * (total / count.clamp(min=1)[:, None] - self.centroids)

    # Validation ------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Keeps nothing of the one before."""
        if self.comparing:
            self._kept = []

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> ClipScores:
        """Scores of a batch; keeps the features of one clip of each face."""
        if not self.comparing:
            return super().validation_step(batch, batch_idx)
        embedding = self.embed(batch)
        keep = (batch.weight > 0) & (batch.label >= 0) & (batch.clip == 0)
        self._kept.append((embedding[keep].cpu(), batch.label[keep].cpu(), batch.item[keep].cpu()))
        return ClipScores(logit=self._logit(embedding))

    def on_validation_epoch_end(self) -> None:
        """Logs the loss of fixed comparisons and the share of those that are right."""
        if not self.comparing or self.trainer.sanity_checking:
            return
        kept = self._kept
        if self.trainer.world_size > 1:
            everyone: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(everyone, kept)
            kept = [row for rows in everyone for row in rows]
        if not kept:
            return
        embedding, label, item = (torch.cat(column) for column in zip(*kept, strict=True))
        order = item.argsort(stable=True)
        rows = self.fixed(label[order], item[order], self._originals())
        if len(rows):
            loss, right = self.losses(embedding[order].to(self.device), rows.to(self.device))
            # every process holds all of it
            self.log("val/loss", loss.mean(), rank_zero_only=False, sync_dist=False)
            self.log("val/compared_right", right.float().mean(), rank_zero_only=False, sync_dist=False)

    def _originals(self) -> dict[int, int]:
        data: Any = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, VideoDataModule):
            return {}
        items = data.items("val")
        rows = items.table.select(["corpus", "video_id", "original"]).to_pylist()
        return dict(pair_up(rows, items.label).tolist())


class TripletDetector(MetricSteps, BackboneDetector):
    """Two stages: features trained by triplets, then batch norm and a linear layer on the frozen trunk.

    The second starts from the first: ``--model.stage head --model.weights runs/.../best.ckpt``.

    Args:
        stage: ``triplet`` or ``head``.
        mining: Which triplets of a batch: ``random`` (fake, fake, real and real, real, fake by turns), ``semi_hard``,
            or ``paired``: the negative is the real video that the fake was made from, or the other way round; this
            needs data.pairs.
        margin: By how much the negative is to be farther than the positive.
        drift: In the head's stage leave the trunk in training mode, as the original does: its batch norms' statistics
            go on following the data and stochastic depth stays on.
        kwargs: Everything of BackboneDetector.
    """

    def __init__(
        self,
        stage: Literal["triplet", "head"] = "triplet",
        mining: Literal["random", "semi_hard", "paired"] = "random",
        margin: float = 1.0,
        drift: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(head="batchnorm", tune="head" if stage == "head" else "all", **kwargs)
        self.stage, self.mining, self.margin = stage, mining, margin
        self.paired = mining == "paired"
        network: Any = self.network
        network.drift = drift
        if stage == "triplet":
            network.output.requires_grad_(False)
            self.begin_comparing(network.num_features)

    def drawn(self, embedding: Tensor, label: Tensor, item: Tensor, mate: Tensor) -> Tensor:
        """Triplets by the chosen mining."""
        if self.mining == "semi_hard":
            return mining.semi_hard_triplets(embedding, label)
        if self.mining == "paired":
            return mining.paired_triplets(label, item, mate)
        return mining.random_triplets(label)

    def fixed(self, label: Tensor, item: Tensor, original: dict[int, int]) -> Tensor:
        """One triplet an anchor, whatever the mining."""
        return mining.fixed_triplets(label, item)

    def losses(self, embedding: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Triplet margin loss, and whether the negative is farther than the positive."""
        anchor, positive, negative = (embedding[column] for column in rows.T)
        each = F.triplet_margin_loss(anchor, positive, negative, margin=self.margin, p=2, reduction="none")
        right = (anchor - positive).norm(dim=1) < (anchor - negative).norm(dim=1)
        return each, right


class EfficientNetB4STDetector(TripletDetector):
    """EfficientNet-B4 by triplets, then a head (icpr2020dfdc's EfficientNetB4ST).

    Args:
        backbone: ``tf_efficientnet_b4`` with the tag of its weights.
        size: S, side of the crop in pixels.
        drop_path: Stochastic depth at the last block.
        bn_momentum: Momentum of the trunk's batch norms, as torch counts it.
        lr: Learning rate.
        kwargs: Everything of TripletDetector.
    """

    def __init__(
        self,
        backbone: str = "tf_efficientnet_b4.aa_in1k",
        size: int = 224,
        drop_path: float = 0.2,
        bn_momentum: float = 0.01,
        lr: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, size=size, drop_path=drop_path, bn_momentum=bn_momentum, lr=lr, **kwargs)


class EfficientNetB4AttSTDetector(EfficientNetB4STDetector):
    """EfficientNet-B4 with attention by triplets, then a head (icpr2020dfdc's EfficientNetAutoAttB4ST).

    Args:
        attention: False makes it EfficientNet-B4.
        kwargs: Everything of EfficientNetB4STDetector.
    """

    def __init__(self, attention: bool = True, **kwargs: Any) -> None:
        super().__init__(attention=attention, **kwargs)


class XceptionSTDetector(TripletDetector):
    """Xception by triplets, then a head (icpr2020dfdc's XceptionST; no weights of it were published).

    Args:
        backbone: ``legacy_xception`` with the tag of its weights.
        size: S, side of the crop in pixels.
        statistics: Mean and deviation of the colours: ImageNet's as there, a half each as FaceForensics++ has them.
        lr: Learning rate.
        kwargs: Everything of TripletDetector.
    """

    def __init__(
        self,
        backbone: str = "legacy_xception.tf_in1k",
        size: int = 224,
        statistics: Literal["own", "imagenet", "half"] = "imagenet",
        lr: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=backbone, size=size, statistics=statistics, lr=lr, **kwargs)


class XceptionAttSTDetector(XceptionSTDetector):
    """Xception with attention by triplets, then a head; our combination.

    Args:
        attention: False makes it Xception.
        kwargs: Everything of XceptionSTDetector.
    """

    def __init__(self, attention: bool = True, **kwargs: Any) -> None:
        super().__init__(attention=attention, **kwargs)
