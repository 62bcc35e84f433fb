"""Classical detectors: features of clips in, an estimator of scikit-learn behind the same commands; one family a file.

``base`` is the LightningModule that collects, fits and scores, ``table`` the bounded table of features, ``dump`` the
estimator's way into a checkpoint without pickle.
"""
