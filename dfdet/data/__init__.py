"""Manifest and tracks in, batches out: clips, sampling, augmentation, the LightningDataModule."""
