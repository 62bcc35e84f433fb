"""An RGB frame in, faces with five points out: YuNet through OpenCV's ``FaceDetectorYN``.

Wu, Peng, Yu: YuNet, a tiny millisecond-level face detector, Machine Intelligence Research 2023; the model is the
``yunet_s`` of opencv_zoo, trained on WIDER FACE. Facts and thresholds: reference/faces.md section 1.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from dfdet.errors import UserError
from dfdet.faces.boxes import Face, resized

# OpenCV's default of .9 loses whole clips; from .7 down no frame with a face was missed (faces.md 1.4)
DEFAULT_SCORE = 0.6
_CANDIDATES = 5000  # boxes that enter the non-maximum suppression; OpenCV's default


class YuNet:
    """YuNet on the frame resized to one long side. Not picklable: make it in the process that uses it.

    Args:
        model: The ONNX file.
        size: Long side at which faces are looked for, pixels. The smallest face found is about 16 pixels there.
        score: Lowest score of a face, 0..1.
        nms: Overlap above which the weaker of two boxes is dropped.

    Raises:
        UserError: If OpenCV cannot load the file.
    """

    def __init__(self, model: Path, size: int = 640, score: float = DEFAULT_SCORE, nms: float = 0.3) -> None:
        _quiet()
        self.size = size
        try:
            self._net = cv2.FaceDetectorYN.create(str(model), "", (size, size), score, nms, _CANDIDATES)
        except (cv2.error, RuntimeError, ValueError) as error:
            why = str(error).strip().splitlines()[-1]
            hint = "give face_detection_yunet_2023mar.onnx and leave OPENCV_FORCE_DNN_ENGINE unset"
            raise UserError(f"OpenCV cannot load {model} as YuNet ({why})", hint) from error
        self._input = (size, size)

    def detect(self, rgb: np.ndarray) -> list[Face]:
        """Faces of one frame, best first.

        Args:
            rgb: uint8 (H, W, 3), upright. The network wants BGR; the turn is made here.

        Returns:
            Faces in pixels of ``rgb``, each with five points; an empty list where there is none.
        """
        small, sx, sy = resized(rgb, self.size)
        shape = (small.shape[1], small.shape[0])
        if shape != self._input:  # detect() refuses any other size than the one it was told
            self._net.setInputSize(shape)
            self._input = shape
        _, rows = self._net.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        if rows is None:  # nothing found is None, not an empty array
            return []
        rows = np.asarray(rows, np.float32)[np.argsort(-rows[:, 14], kind="stable")]
        rows[:, :14] *= np.array([sx, sy] * 7, np.float32)
        return [_face(row) for row in rows]


def _face(row: np.ndarray) -> Face:
    """One row of OpenCV's output: x, y, w, h, five points, score."""
    x, y, w, h = (float(v) for v in row[:4])
    return Face(x, y, w, h, float(row[14]), row[4:14].reshape(5, 2).copy())


def _quiet() -> None:
    """Hides OpenCV 5's harmless line about targets of its new graph engine; errors are still raised."""
    logging = getattr(cv2.utils, "logging", None)
    if logging is not None:
        logging.setLogLevel(logging.LOG_LEVEL_ERROR)
