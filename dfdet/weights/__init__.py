"""Published weights: a file goes in, a network's parameters come out; what is labelled the other way is turned here."""

from dfdet.weights.checkpoints import load_weights

__all__ = ["load_weights"]
