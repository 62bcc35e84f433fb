"""A folder with one real and one fake picture."""

import cv2
import numpy as np
import pytest


@pytest.fixture
def pictures(tmp_path):
    for label, level in (("real", 90), ("fake", 120)):
        (tmp_path / "corpus" / label).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "corpus" / label / "face.png"), np.full((40, 30, 3), level, np.uint8))
    return tmp_path / "corpus"
