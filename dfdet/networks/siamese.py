"""Float RGB images in [0, 1] (B, 3, S, S) go in; embeddings (B, 48), logits of pairs and of single images come out.

Paper 004's third method, after a tutorial (PyImageSearch, "Siamese networks with Keras, TensorFlow, and Deep
Learning", 2020): two blocks of a 2 x 2 convolution, ReLU, pooling and dropout .3, global average pooling, 48 numbers;
the Euclidean distance of two images' embeddings goes through one weight and one bias. Silent, therefore ours: the
input size (128), the layers of the MLP that is put on the frozen embedding (32 hidden units), and that the weight of
the distance starts at +1. Keras draws it, of either sign; but a fake lies beside its own real, and two of a class from
two videos lie apart, so that far must come to mean "one class": from a negative start the embedding shrinks to a point
and the loss stays at ln 2 (measured, dfdc_faces).

Names of parameters: ``conv1``, ``conv2``, ``embedding``, ``pair`` (of a distance), ``hidden`` and ``output`` (the MLP).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def distance(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distance (N,) of embeddings (N, D), at least sqrt(1e-7) so that its gradient is finite."""
    return (first - second).square().sum(1).clamp(min=1e-7).sqrt()


class Siamese(nn.Module):
    """The trunk that both images of a pair go through, and what may be put on it.

    20,400 parameters in the trunk, 2 on a distance, 1,601 in the MLP.

    Args:
        dropout: After each of the two blocks.
    """

    num_features = 48

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 2)
        self.conv2 = nn.Conv2d(64, 64, 2)
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Linear(64, self.num_features)
        self.pair = nn.Linear(1, 1)
        self.hidden = nn.Linear(self.num_features, 32)
        self.output = nn.Linear(32, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):  # as Keras starts them
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.ones_(self.pair.weight)

    @property
    def trunk(self) -> list[nn.Module]:
        """The layers that make an embedding."""
        return [self.conv1, self.conv2, self.embedding]

    @property
    def classifier(self) -> list[nn.Module]:
        """The layers of the MLP."""
        return [self.hidden, self.output]

    def features(self, images: Tensor) -> Tensor:
        """Embeddings (B, 48)."""
        maps = images
        for convolution in (self.conv1, self.conv2):
            padded = F.pad(maps, (0, 1, 0, 1))  # where Keras' "same" pads an even kernel
            maps = self.dropout(F.max_pool2d(F.relu(convolution(padded)), 2))
        return self.embedding(maps.mean((2, 3)))

    def pair_logit(self, first: Tensor, second: Tensor) -> Tensor:
        """Logits (N,) of two embeddings (N, 48) each: above 0 says that both are of one class."""
        return self.pair(distance(first.float(), second.float())[:, None]).squeeze(1)

    def classify(self, features: Tensor) -> Tensor:
        """Logits (B,) of embeddings (B, 48)."""
        return self.output(torch.relu(self.hidden(features))).squeeze(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) of images (B, 3, S, S)."""
        return self.classify(self.features(images))
