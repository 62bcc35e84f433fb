"""Published weights: a run, a file, a name or a hub's address goes in, a network's parameters come out, 1 = fake."""

from dfdet.weights.checkpoints import Weights, load_weights, opened
from dfdet.weights.reading import WeightsError

__all__ = ["Weights", "WeightsError", "load_weights", "opened"]
