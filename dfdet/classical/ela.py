"""Images in, their error levels as columns in between, classifiers of scikit-learn behind: ``ela``.

Bernardi et al. (paper 004): ELA with PCA + SVM, logistic regression, random forest, gradient boosting and AdaBoost; the
paper shows ROC curves alone and states no size, quality or setting. Ours: JPEG quality 90, brightness x 255 / largest
difference, as networks/ela.py; 128 x 128 pixels in colour as 49,152 columns, rounded to 8 bits as the lineage keeps
them; their first 100 principal components, whitened; scikit-learn's defaults on these, the SVM with an RBF kernel.

While fitting, the columns stand in memory twice in float32: 400 kB an image.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.ensemble import AdaBoostClassifier, GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from dfdet.classical.base import ClassicalDetector
from dfdet.classical.table import Ints
from dfdet.data.batch import ClipBatch
from dfdet.errors import UserError
from dfdet.networks.ela import ela

Classifier = Literal["svm", "logistic", "random_forest", "gradient_boosting", "adaboost"]


class ELADetector(ClassicalDetector):
    """Principal components of error levels, and a classifier.

    Args:
        classifier: ``svm`` (RBF), ``logistic``, ``random_forest``, ``gradient_boosting`` or ``adaboost``.
        size: S, side of the crop in pixels.
        quality: Of the JPEG, 1..100.
        scale: ``max``: the largest difference of an image becomes 255; a number: differences times it, cut at 255.
        components: Principal components; fewer where there are fewer images.
        max_images: Images that are learnt from, at most; drawn by seed.
    """

    item_bytes = 1  # uint8

    def __init__(
        self,
        classifier: Classifier = "svm",
        size: int = 128,
        quality: int = 90,
        scale: Literal["max"] | float = "max",
        components: int = 100,
        max_images: int = 4000,
    ) -> None:
        super().__init__(input_size=size, max_rows=max_images)
        if not 1 <= quality <= 100:
            raise UserError(f"model.quality is {quality}", "a JPEG's lies in 1..100")
        if scale != "max" and not scale > 0:
            raise UserError(f"model.scale is {scale}", "it wants max or a number above 0")
        if components < 1:
            raise UserError(f"model.components is {components}", "it must be at least 1")
        self.classifier, self.quality, self.scale, self.components = classifier, quality, scale, components

    @property
    def columns(self) -> int:
        """Three colours of S x S pixels."""
        return 3 * self.input_size**2

    def rows_of(self, frames: int) -> int:
        """One a frame."""
        return frames

    def extract(self, batch: ClipBatch, training: bool) -> tuple[npt.NDArray[np.uint8], Ints]:
        """One row a frame that is there."""
        levels = ela(batch.video[batch.mask], self.quality, self.scale)
        rows = levels.flatten(1).round().byte().cpu().numpy()
        return rows, batch.mask.nonzero()[:, 0].cpu().numpy()

    def make_estimator(self, rows: int, seed: int) -> Pipeline:
        """Whitened principal components, then the classifier."""
        kinds: dict[str, Any] = {
            "svm": SVC(),
            "logistic": LogisticRegression(max_iter=1000),
            "random_forest": RandomForestClassifier(random_state=seed),
            "gradient_boosting": GradientBoostingClassifier(random_state=seed),
            "adaboost": AdaBoostClassifier(random_state=seed),
        }
        count = min(self.components, rows - 1, self.columns)
        components = PCA(count, whiten=True, svd_solver="randomized", random_state=seed)
        return Pipeline([("components", components), ("classify", kinds[self.classifier])])
