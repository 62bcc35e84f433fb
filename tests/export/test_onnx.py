"""The ONNX file takes bytes and answers as the detector; what cannot be written says why."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from dfdet.cli import main
from dfdet.detectors.clips import ClipDetector
from dfdet.detectors.frames import FrameDetector
from dfdet.detectors.mesonet import Meso4Detector
from dfdet.detectors.srm_cnn import SRMCNNDetector
from dfdet.errors import UserError

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra dfdet[onnx] is not installed")
pytest.importorskip("onnxscript", reason="the extra dfdet[onnx] is not installed")

from dfdet.export.onnx import export_onnx  # noqa: E402


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def meso(tmp_path_factory):
    torch.manual_seed(0)
    detector = Meso4Detector(size=64).eval()
    path = tmp_path_factory.mktemp("onnx") / "meso.onnx"
    return detector, export_onnx(detector, path, 1, 64, {"threshold": 0.25, "name": "x/meso"})


@pytest.mark.parametrize("count", [1, 2, 7])
def test_bytes_in_any_number_give_the_detector_s_logits(meso, count):
    detector, done = meso
    pixels = torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8)
    (logit,) = session(done.path).run(["logit"], {"frames": pixels.numpy()})
    with torch.no_grad():
        own = detector.network(pixels / 255)
    np.testing.assert_allclose(logit, own, atol=1e-4)
    assert done.difference < 1e-4


def test_the_file_says_what_it_is(meso):
    _, done = meso
    told = session(done.path).get_modelmeta().custom_metadata_map
    assert told["name"] == "x/meso"
    assert json.loads(told["threshold"]) == 0.25
    assert "above 0 means fake" in told["label"]
    assert "(N, 3, 64, 64)" in told["input"]
    assert session(done.path).get_inputs()[0].type == "tensor(uint8)"


def test_srm_residuals_are_inside_the_file(tmp_path):
    torch.manual_seed(0)
    done = export_onnx(SRMCNNDetector(size=32).eval(), tmp_path / "srm.onnx", 1, 32)
    assert done.difference < 1e-4


class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.output = torch.nn.LSTM(3, 4, batch_first=True), torch.nn.Linear(4, 1)

    def forward(self, video, mask):
        states, _ = self.lstm(video.mean((3, 4)))
        return (self.output(states).squeeze(-1) * mask).sum(1)


def test_clips_have_a_mask_that_counts(tmp_path):
    torch.manual_seed(0)
    detector = ClipDetector(network=Recurrent()).eval()
    done = export_onnx(detector, tmp_path / "clip.onnx", 4, 16)
    video = np.random.default_rng(0).integers(0, 256, (3, 4, 3, 16, 16), dtype=np.uint8)
    whole, short = np.ones((3, 4), bool), np.ones((3, 4), bool)
    short[:, 2:] = False
    a, b = (session(done.path).run(["logit"], {"video": video, "mask": m})[0] for m in (whole, short))
    assert np.abs(a - b).min() > 1e-4
    assert done.difference < 1e-4


def test_a_file_that_answers_otherwise_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("dfdet.export.onnx.TOLERANCE", -1.0)
    with pytest.raises(UserError, match="nothing was written"):
        export_onnx(Meso4Detector(size=64).eval(), tmp_path / "x.onnx", 1, 64)
    assert not list(tmp_path.iterdir())


def test_ela_and_classical_detectors_say_in_one_line_that_they_cannot(tmp_path):
    from dfdet.networks.ela import ELACNN

    class Classical(FrameDetector):
        def make_estimator(self):
            raise NotImplementedError

    for detector, why in (
        (FrameDetector(network=ELACNN(size=32)), "compresses each frame as JPEG"),
        (Classical(network=torch.nn.Identity()), "scikit-learn"),
    ):
        with pytest.raises(UserError, match=why) as told:
            export_onnx(detector.eval(), tmp_path / "x.onnx", 1, 32)
        assert "\n" not in str(told.value)


def test_a_network_that_torch_cannot_trace_says_so_in_one_line(tmp_path):
    class Branching(torch.nn.Module):
        def forward(self, images):
            return images.mean((1, 2, 3)) * (2.0 if float(images.mean()) > 0.5 else 1.0)

    with pytest.raises(UserError, match="cannot be written in ONNX") as told:
        export_onnx(FrameDetector(network=Branching()).eval(), tmp_path / "x.onnx", 1, 32)
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())


def test_export_without_a_run_is_one_line(capsys):
    assert main(["export", "--format", "onnx"]) == 2
    assert "wants a run" in capsys.readouterr().err
    assert main(["export", "--run", "nowhere"]) == 2
    assert "no run directory" in capsys.readouterr().err
