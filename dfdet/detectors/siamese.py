"""The siamese network of paper 004 (Bernardi et al.): pairs of crops, then single ones; see networks/siamese.py.

The paper compares a real frame with its own synthetic counterpart, and two of one class from different videos: 93 % of
the pairs come out right, yet the frozen embedding with an MLP, and fine-tuning, "did not learn". The tutorial that it
follows trains by cross-entropy of one weight and bias on the distance, Adam, batches of 64 pairs, 100 epochs; its
sequel by the contrastive loss of Hadsell et al. (CVPR 2006), margin 1. Adam's rate is Keras' default.

Why pairs and not classes are learned: the pairs of the paper are told apart by the distance of their pixels alone (far
is one class: 99.8 % of the pairs of dfdc_faces' validation), which says nothing of real and fake.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from torch.nn import functional as F

from dfdet.detectors import mining
from dfdet.detectors.metric import MetricSteps
from dfdet.networks.siamese import Siamese, distance


class SiameseDetector(MetricSteps):
    """Three stages: pairs, an MLP on the frozen embedding, and everything together.

    The later ones start from the first: ``--model.stage probe --model.weights runs/.../best.ckpt``.

    Args:
        stage: ``pairs`` (needs data.pairs), ``probe`` or ``finetune``.
        pair_loss: ``bce`` of a weight and a bias on the distance, or ``contrastive``.
        margin: Of ``contrastive``: pairs of two classes that are farther apart cost nothing.
        size: S, side of the crop in pixels.
        dropout: After each of the two blocks.
        kwargs: Everything of FrameDetector.
    """

    what = "pairs"
    paired = True

    def __init__(
        self,
        stage: Literal["pairs", "probe", "finetune"] = "pairs",
        pair_loss: Literal["bce", "contrastive"] = "bce",
        margin: float = 1.0,
        size: int = 128,
        dropout: float = 0.3,
        **kwargs: Any,
    ) -> None:
        network = Siamese(dropout)
        super().__init__(network=network, input_size=size, **kwargs)
        self.stage, self.pair_loss, self.margin = stage, pair_loss, margin
        frozen = {"pairs": network.classifier, "probe": network.trunk, "finetune": []}[stage]
        for part in frozen:
            part.requires_grad_(False)
        if stage != "pairs" or pair_loss == "contrastive":
            network.pair.requires_grad_(False)
        if stage == "probe":
            network.dropout.p = 0.0  # the embedding is frozen: it is the one that validation sees
        if stage == "pairs":
            self.begin_comparing(network.num_features)

    def drawn(self, embedding: Tensor, label: Tensor, item: Tensor, mate: Tensor) -> Tensor:
        """Each fake with its real, and as many pairs of one class."""
        return mining.drawn_pairs(label, item, mate)

    def fixed(self, label: Tensor, item: Tensor, original: dict[int, int]) -> Tensor:
        """The same of validation."""
        return mining.fixed_pairs(label, item, original)

    def losses(self, embedding: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each pair, and whether it is told rightly; by ``contrastive`` at half the margin."""
        network: Any = self.network
        first, second, same = embedding[rows[:, 0]], embedding[rows[:, 1]], rows[:, 2] == 1
        if self.pair_loss == "bce":
            logit = network.pair_logit(first, second)
            return F.binary_cross_entropy_with_logits(logit, same.float(), reduction="none"), (logit > 0) == same
        apart = distance(first, second)
        each = same * apart.square() + ~same * (self.margin - apart).clamp(min=0).square()
        return each, (apart < self.margin / 2) == same
