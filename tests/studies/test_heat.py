"""Heat-maps lie where the score comes from; a map of nothing says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dfdet.detectors.clips import ClipDetector
from dfdet.detectors.frames import FrameDetector
from dfdet.errors import UserError
from dfdet.studies.heat import Heater, residual_maps

SIDE, PATCH = 32, 8


class Small(nn.Module):
    """Two convolutions, their mean, a linear layer."""

    num_features = 8

    def __init__(self):
        super().__init__()
        self.first, self.second, self.output = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Linear(8, 1),
        )

    def features(self, images):
        return F.relu(self.second(F.relu(self.first(images)))).mean((2, 3))

    def classify(self, features):
        return self.output(features).squeeze(-1)

    def forward(self, images):
        return self.classify(self.features(images))


class Recurrent(Small):
    """The same with an LSTM over the frames."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 8, batch_first=True)

    def forward(self, video, mask):
        states, _ = self.lstm(self.features(video.flatten(0, 1)).unflatten(0, mask.shape))
        return self.classify(states[:, -1])


def pictures(count, frames, painted, seed, corner=(0, SIDE - PATCH)):
    """Noise; where ``painted`` (count, frames) says so, with a green square in a corner (y, x)."""
    random = torch.Generator().manual_seed(seed)
    video = torch.randint(60, 140, (count, frames, 3, SIDE, SIDE), dtype=torch.uint8, generator=random)
    y, x = corner
    green = torch.tensor([20, 250, 20], dtype=torch.uint8)[:, None, None]
    for b, t in painted.nonzero().tolist():
        video[b, t, :, y : y + PATCH, x : x + PATCH] = green
    return video


def trained(detector, frames, batch_of, steps=150):
    """Learns that clips with a painted corner, in any one frame, are fake; the corner changes all the time."""
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-2)
    for step in range(steps):
        painted = torch.zeros(16, frames, dtype=torch.bool)
        painted[torch.arange(0, 16, 2), torch.randint(frames, (8,), generator=torch.Generator().manual_seed(step))] = (
            True
        )
        corner = ((step % 2) * (SIDE - PATCH), (step // 2 % 2) * (SIDE - PATCH))
        logit = detector(batch_of(pictures(16, frames, painted, step, corner)))
        loss = F.binary_cross_entropy_with_logits(logit, painted.any(1).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.2
    return detector.eval()


@pytest.fixture(scope="module")
def of_frames(batch_of):
    torch.manual_seed(0)
    return trained(FrameDetector(network=Small()), 1, batch_of)


@pytest.fixture(scope="module")
def of_clips(batch_of):
    torch.manual_seed(0)
    return trained(ClipDetector(network=Recurrent()), 4, batch_of)


def share_in_corner(maps, y=0, x=SIDE - PATCH):
    """Of the heat, what lies in the painted corner or one pixel beside it (the receptive field's rim)."""
    low, right = max(y - 2, 0), max(x - 2, 0)
    return maps[..., low : y + PATCH + 2, right : x + PATCH + 2].sum() / maps.sum()


def test_the_heat_of_a_painted_corner_lies_in_that_corner(of_frames, batch_of):
    batch = batch_of(pictures(1, 1, torch.ones(1, 1, dtype=torch.bool), 1000))
    found = Heater(of_frames)(batch)
    assert found.remark is None
    assert found.maps.shape == (1, SIDE, SIDE)
    assert share_in_corner(found.maps) > 0.9
    assert found.logits[0] == pytest.approx(float(of_frames(batch)), abs=1e-5)


def test_the_heat_follows_the_paint_to_another_corner(of_frames, batch_of):
    batch = batch_of(pictures(1, 1, torch.ones(1, 1, dtype=torch.bool), 1000, corner=(SIDE - PATCH, 0)))
    maps = Heater(of_frames)(batch).maps
    assert share_in_corner(maps, SIDE - PATCH, 0) > 0.9
    assert share_in_corner(maps) < 0.05


def test_frames_that_are_scored_by_themselves_have_their_own_heat_and_logit(of_frames, batch_of):
    painted = torch.tensor([[False, True, False]])
    found = Heater(of_frames)(batch_of(pictures(1, 3, painted, 7)))
    assert found.logits.argmax() == 1
    assert found.logits[1] > 0 > found.logits[[0, 2]].max()
    assert found.maps[1].sum() > 5 * found.maps[[0, 2]].sum(axis=(1, 2)).max()


def test_gradients_go_through_the_lstm_to_the_frame_that_was_painted(of_clips, batch_of):
    painted = torch.tensor([[False, False, True, False]])
    batch = batch_of(pictures(1, 4, painted, 7))
    found = Heater(of_clips)(batch)
    assert found.maps.shape == (4, SIDE, SIDE)
    mass = found.maps.sum(axis=(1, 2))
    assert mass.argmax() == 2
    assert share_in_corner(found.maps[2]) > 0.9
    assert found.logits.tolist() == pytest.approx([float(of_clips(batch))] * 4, abs=1e-5)


def test_a_score_that_hangs_on_nothing_is_told_and_stays_dark(batch_of):
    class Deaf(Small):
        def classify(self, features):
            return super().classify(features * 0)

    found = Heater(FrameDetector(network=Deaf()).eval())(
        batch_of(pictures(1, 1, torch.zeros(1, 1, dtype=torch.bool), 0))
    )
    assert "gradient is zero" in found.remark
    assert not found.maps.any()


def test_what_speaks_for_nothing_is_told_and_the_other_side_has_the_heat(of_frames, batch_of):
    batch = batch_of(pictures(1, 1, torch.ones(1, 1, dtype=torch.bool), 1))
    network = of_frames.network
    with torch.no_grad():  # turned round: green speaks for real, and nothing for fake
        turned = FrameDetector(network=Small()).eval()
        turned.network.load_state_dict(network.state_dict())
        turned.network.output.weight.copy_(-network.output.weight.abs())
    assert "nothing in this clip speaks for fake" in Heater(turned)(batch).remark
    assert Heater(turned, toward="real")(batch).remark is None


def test_the_layer_is_chosen_by_name_or_refused_with_the_nearest(of_frames, batch_of):
    heater = Heater(of_frames, layer="first")
    batch = batch_of(pictures(1, 1, torch.ones(1, 1, dtype=torch.bool), 1))
    assert "network.first" in heater.title
    assert not np.allclose(heater(batch).maps, Heater(of_frames)(batch).maps)
    with pytest.raises(UserError, match="no layer 'secnd'; did you mean 'second'"):
        Heater(of_frames, layer="secnd")
    with pytest.raises(UserError, match="gives no map of places"):
        Heater(of_frames, layer="output")(batch)
    with pytest.raises(UserError, match="has no attention map"):
        Heater(of_frames, "attention")


def test_a_frozen_network_has_heat_and_stays_frozen(of_frames, batch_of):
    batch = batch_of(pictures(1, 1, torch.ones(1, 1, dtype=torch.bool), 1))
    before = Heater(of_frames)(batch).maps
    of_frames.requires_grad_(False)
    try:
        np.testing.assert_allclose(Heater(of_frames)(batch).maps, before, rtol=1e-5)
        assert not any(p.requires_grad for p in of_frames.parameters())
    finally:
        of_frames.requires_grad_(True)


def test_attention_is_the_network_s_own_map(batch_of):
    from dfdet.detectors.backbone import EfficientNetB4AttDetector

    torch.manual_seed(0)
    detector = EfficientNetB4AttDetector(size=64).eval()
    batch = batch_of(torch.randint(0, 256, (1, 2, 3, 64, 64), dtype=torch.uint8))
    heater = Heater(detector)
    assert heater.method == "attention"
    with torch.no_grad():
        own = detector.network.attention_map(detector.prepare(batch.video[0]))
    np.testing.assert_allclose(heater(batch).maps, own[:, 0].numpy(), atol=1e-6)
    cam = Heater(detector, "gradcam")(batch)  # the last convolution: timm's conv_head
    assert cam.maps.shape == (2, 2, 2)


def test_a_transformer_has_a_map_of_its_patches(batch_of):
    from dfdet.detectors.backbone import BackboneDetector

    torch.manual_seed(0)
    detector = BackboneDetector(backbone="vit_tiny_patch16_224", size=48).eval()
    heater = Heater(detector)
    found = heater(batch_of(torch.randint(0, 256, (1, 1, 3, 48, 48), dtype=torch.uint8)))
    assert "blocks.11.norm1" in heater.title
    assert found.maps.shape == (1, 3, 3)
    assert found.maps.any()


def test_a_map_in_three_dimensions_has_one_picture_a_frame(batch_of):
    from dfdet.detectors.noise import Noise3DDetector

    torch.manual_seed(0)
    batch = batch_of(torch.randint(0, 256, (1, 20, 3, 100, 100), dtype=torch.uint8))
    detector = Noise3DDetector().eval()
    found = [Heater(detector, toward=toward)(batch) for toward in ("fake", "real")]
    assert all(heat.maps.shape[0] == 20 for heat in found)
    assert any(heat.maps.any() for heat in found)


def test_a_network_that_sees_no_place_has_no_map_and_says_so(batch_of):
    from dfdet.detectors.noise import NoiseGRUDetector

    found = Heater(NoiseGRUDetector().eval())(batch_of(torch.randint(0, 256, (1, 20, 3, 100, 100), dtype=torch.uint8)))
    assert found.maps is None
    assert "no convolution" in found.remark


def test_block_scores_are_laid_over_the_pixels_that_they_cover(of_frames, batch_of):
    class Blocks(FrameDetector):
        block, stride = 16, 8

        def block_scores(self, images):
            scores = torch.full((len(images), 3, 3), -1.0)
            scores[:, 0, 2], scores[:, 2, 2] = 4.0, torch.nan
            return scores

    found = Heater(Blocks(network=Small()).eval())(batch_of(pictures(1, 1, torch.zeros(1, 1, dtype=torch.bool), 0)))
    (heat,) = found.maps
    assert heat[0, 31] == 4.0  # this block alone
    assert heat[0, 20] == 1.5  # beside one that says -1
    assert heat[31, 31] == 0.0  # padding
    assert heat[20, 5] == 0.0  # what speaks for real


def test_residuals_are_what_the_filters_leave(batch_of):
    from dfdet.detectors.srm_cnn import SRMCNNDetector

    batch = batch_of(pictures(1, 2, torch.ones(1, 2, dtype=torch.bool), 3))
    detector = SRMCNNDetector(size=32).eval()
    found = residual_maps(detector, batch)
    assert found.shape == (2, 3, 32, 32)
    assert np.abs(found).max() <= 1
    flat = found[:, :, 3:5, SIDE - 5 : SIDE - 3]  # inside the square of one colour
    assert not flat.any()
    assert found.std() > 0.1
    assert residual_maps(SRMCNNDetector(front="rgb", size=32), batch) is None


@pytest.mark.slow
def test_the_original_s_map_passes_over_the_lstm(batch_of):
    from dfdet.detectors.resnext_lstm import ResNeXtLSTMDetector

    torch.manual_seed(0)
    detector = ResNeXtLSTMDetector(size=64, legacy="last").eval()
    batch = batch_of(torch.randint(0, 256, (1, 3, 3, 64, 64), dtype=torch.uint8))
    found = Heater(detector, "cam_legacy")(batch).maps
    with torch.no_grad():
        maps = detector.network.trunk.forward_features(detector.prepare(batch.video[0]))
        fake = bool(detector(batch) > 0)
    expected = np.tensordot(maps.numpy(), detector.network.output.weight[0 if fake else 1].detach().numpy(), (1, 0))
    expected -= expected.min((1, 2), keepdims=True)
    expected /= expected.max((1, 2), keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    # of a clip alone the last frame alone decides, and Grad-CAM knows it
    both = [Heater(detector, "gradcam", toward=toward)(batch).maps for toward in ("fake", "real")]
    mass = sum(m.sum(axis=(1, 2)) for m in both)
    assert mass[2] > 0
    assert not mass[:2].any()


@pytest.mark.slow
def test_gradients_reach_every_frame_through_the_lstm_of_resnext(batch_of):
    from dfdet.detectors.resnext_lstm import ResNeXtLSTMDetector

    torch.manual_seed(0)
    detector = ResNeXtLSTMDetector(size=64).eval()
    batch = batch_of(torch.randint(0, 256, (1, 3, 3, 64, 64), dtype=torch.uint8))
    both = [Heater(detector, toward=toward)(batch).maps for toward in ("fake", "real")]
    assert (sum(m.sum(axis=(1, 2)) for m in both) > 0).all()
