"""`dfdet bench model`: figures that can be checked by hand, and a row for every detector."""

from __future__ import annotations

import json

import pytest
import torch

from dfdet.bench import networks
from dfdet.bench.model import _batch_size, tables_of
from dfdet.cli import main
from dfdet.detectors import DETECTORS
from dfdet.detectors.clips import ClipDetector
from dfdet.detectors.frames import FrameDetector
from dfdet.detectors.mesonet import Meso4Detector


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    target = tmp_path_factory.mktemp("bench") / "figures.json"
    words = ["--detectors", "meso4", "--rounds", "1", "--seconds", "0.05", "--batch_size", "2", "--device", "cpu"]
    assert main(["bench", "model", *words, "--json", str(target)]) == 0
    return json.loads(target.read_text())["rows"]


def test_the_row_of_a_detector_has_all_its_figures(rows):
    (row,) = rows
    assert row["detector"] == "meso4"
    assert row["parameters"] == 27_977
    # specs: .060 GMAC, two operations each
    assert row["gflops"] == pytest.approx(0.120, abs=0.002)
    for key in ("forward", "train"):
        ours, bare = row[f"{key}_clips_per_second"], row[f"bare_{key}_clips_per_second"]
        assert ours > 0
        assert row[f"ratio_to_bare_{key}"] == pytest.approx(ours / bare)  # of one round


def test_the_bare_loop_computes_what_the_detector_computes():
    torch.manual_seed(0)
    detector = Meso4Detector(size=64).eval()
    batch = networks.random_batch(3, 2, 64, torch.device("cpu"))
    bare = networks.Bare(networks.Subject("meso4", [], detector, 2, 64, [batch]))
    with torch.no_grad():
        torch.testing.assert_close(bare.logits(batch), detector(batch))


def test_an_lstm_is_counted():
    class Recurrent(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(3, 8, batch_first=True)

        def forward(self, video, mask):
            return self.lstm(video.mean((3, 4)))[0][:, -1, 0]

    counted = networks.gflops(ClipDetector(network=Recurrent()), 5, 16)
    assert counted * 1e9 == 2 * 5 * 4 * 8 * (3 + 8)


def test_memory_is_that_of_the_tensors_of_a_step():
    class Wide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 64, 3, padding=1)

        def forward(self, images):
            return torch.relu(self.conv(images)).mean((1, 2, 3))

    peaks = []
    for clips in (2, 8):
        batch = networks.random_batch(clips, 1, 128, torch.device("cpu"))
        subject = networks.Subject("wide", [], FrameDetector(network=Wide()), 1, 128, [batch])
        peaks.append(networks.peak_memory(subject))
    one = 64 * 128 * 128 * 4 / 2**20  # MiB of the maps of one picture
    assert 2 * one < peaks[0] / 2 < 6 * one
    assert peaks[1] / peaks[0] == pytest.approx(4, rel=0.1)


def test_a_batch_is_smaller_the_more_a_clip_costs():
    sizes = [_batch_size(work, "cpu") for work in (0.01, 1.0, 5.0, 1000.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 2  # batch norm needs two
    assert _batch_size(1.0, "cuda") > _batch_size(1.0, "cpu")


def test_what_was_not_measured_prints_as_a_dash():
    table, wins = tables_of([{"detector": "noise_gbm", "parameters": None, "note": "scikit-learn"}], True)
    assert wins.rows == []
    assert table.rows[0][0] == "noise_gbm"
    assert set(table.rows[0][1:]) == {None}
    assert "noise_gbm: scikit-learn" in table.notes


def test_an_unknown_detector_is_refused_with_the_nearest(capsys):
    assert main(["bench", "model", "--detectors", "meso5"]) == 2
    assert "did you mean 'meso4'" in capsys.readouterr().err
    assert main(["bench", "model", "--rounds", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, card in DETECTORS.items() if card.config.endswith(".yaml")])
def test_every_detector_has_a_row(name, tmp_path):
    target = tmp_path / "figures.json"
    words = ["--detectors", name, "--rounds", "1", "--seconds", "0.01", "--batch_size", "2", "--device", "cpu"]
    assert main(["bench", "model", *words, "--json", str(target)]) == 0
    (row,) = json.loads(target.read_text())["rows"]
    assert row["note"] is not None or row["ratio_to_bare_train"] > 0
