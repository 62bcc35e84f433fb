"""An RGB frame in, faces without points out: dlib's HOG detector, the one that FaceForensics++ was made with.

``get_frontal_face_detector`` (King: Max-margin object detection, 2015) is compiled into ``dlib-bin``: no file to fetch.
It misses faces by pose and light, whole videos at a time (reference/faces.md section 1.4): for papers that used it, and
where YuNet's model is not to be had.
"""

from __future__ import annotations

import dlib
import numpy as np

from dfdet.faces.boxes import Face, from_dlib, resized

DEFAULT_SCORE = 0.0
# The detector's window is 80 pixels. Once doubled, it finds faces from 40 pixels of the resized frame on.
UPSAMPLE = 1


class DlibHog:
    """dlib's frontal face detector on the frame resized to one long side. Not picklable.

    Args:
        size: Long side at which faces are looked for, pixels, before the doubling.
        score: Lowest score of a face: the distance from the separating hyperplane; clear faces have 1 to 2.
    """

    def __init__(self, size: int = 640, score: float = DEFAULT_SCORE) -> None:
        self.size, self.score = size, score
        self._detector = dlib.get_frontal_face_detector()

    def detect(self, rgb: np.ndarray) -> list[Face]:
        """Faces of one frame, best first, without points. dlib drops overlapping boxes by a rule of its own.

        Args:
            rgb: uint8 (H, W, 3), upright.

        Returns:
            Faces in the common box, pixels of ``rgb``.
        """
        small, sx, sy = resized(rgb, self.size)
        boxes, scores, _ = self._detector.run(np.ascontiguousarray(small), UPSAMPLE, self.score)
        scale = (sx + sy) / 2  # they differ by rounding only, and dlib's box is a square
        found = [
            from_dlib(box.left() * scale, box.top() * scale, box.width() * scale, float(score))
            for box, score in zip(boxes, scores, strict=True)
        ]
        return sorted(found, key=lambda face: -face.score)
