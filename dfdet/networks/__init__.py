"""The papers' networks as plain ``nn.Module``: float tensors go in, logits come out; one paper a file.

They know nothing of files, labels or training and import torch alone. A logit above 0 says fake.
"""
