"""The papers' networks as plain ``nn.Module``: float tensors go in, logits come out; one paper a file.

They know nothing of files, labels or training and import torch and timm alone. A logit above 0 says fake. A network of
single frames has beside ``forward`` also ``features`` (images to (B, D)), ``num_features`` (D) and ``classify``
(features to logits (B,)), whose composition ``forward`` is: for probes, triplets and pooling over frames.
"""
