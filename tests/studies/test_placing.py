"""A map on the crop lies on the frame exactly where the crop was cut."""

from __future__ import annotations

import numpy as np
import pytest

from dfdet.data.crop import apply, plan
from dfdet.data.crop_rule import CropSpec
from dfdet.studies.placing import corners, on_frame

WIDTH, HEIGHT, SIZE = 200, 160, 64
POINTS = np.array([[85, 70], [112, 78], [96, 92], [80, 104], [102, 110]], float)
RULES = {
    "resized": (CropSpec(size=SIZE), (100, 80)),
    "enlarged": (CropSpec(size=SIZE, scale=0.5), (100, 80)),
    "native": (CropSpec(size=SIZE, mode="native"), (100, 80)),
    "moved inside": (CropSpec(size=SIZE), (20, 150)),
    "larger than the frame": (CropSpec(size=SIZE, scale=3.0), (100, 80)),
    "similarity": (CropSpec(size=SIZE, align="similarity"), (95, 90)),
    "upright": (CropSpec(size=SIZE, align="upright"), (95, 90)),
}


def blob():
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    return np.exp(-((x - 40) ** 2 + (y - 22) ** 2) / 50).astype(np.float32)


@pytest.mark.parametrize("rule", RULES)
def test_cropping_the_map_on_the_frame_gives_the_map_on_the_crop(rule):
    spec, (cx, cy) = RULES[rule]
    made = plan(spec, [cx], [cy], [80.0], POINTS[None], WIDTH, HEIGHT)
    assert (made.matrix is not None) == (spec.align != "none")
    whole = on_frame(made, 0, blob())
    assert whole.shape == (HEIGHT, WIDTH)
    picture = np.repeat((whole * 255).astype(np.uint8)[..., None], 3, axis=2)
    again = apply(made, 0, picture)[..., 0] / 255
    # what lies outside the frame is lost; the peak is inside
    inside = again > 0.02
    assert inside.sum() > 50
    assert np.abs(again - blob())[inside].max() < 0.12
    assert np.unravel_index(again.argmax(), again.shape) == pytest.approx((22, 40), abs=1.5)


@pytest.mark.parametrize("rule", RULES)
def test_outside_of_the_crop_s_outline_the_frame_stays_dark(rule):
    import cv2

    spec, (cx, cy) = RULES[rule]
    made = plan(spec, [cx], [cy], [80.0], POINTS[None], WIDTH, HEIGHT)
    lit = on_frame(made, 0, np.ones((7, 7), np.float32)) > 0.5
    outline = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(outline, [(corners(made, 0) - 0.5).round().astype(np.int32)], 1)
    assert (lit != outline.astype(bool)).sum() < 0.02 * lit.sum() + 300
    assert lit.sum() > 0
