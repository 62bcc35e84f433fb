"""The detectors of clips, of noise and of error levels: what their networks see of a batch, and their defaults."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from torch import nn

from dfdet.data.batch import ClipBatch
from dfdet.detectors.ela import ELACNNDetector
from dfdet.detectors.mesonet import (
    DeepfakeBenchMeso4Detector,
    DeepfakeBenchMesoInception4Detector,
    Meso4Detector,
    MesoCNNDetector,
)
from dfdet.detectors.noise import Noise3DDetector, NoiseGRUDetector
from dfdet.detectors.resnext_lstm import ResNeXtLSTMDetector
from dfdet.detectors.srm_cnn import SRMCNNDetector
from dfdet.errors import UserError
from dfdet.training.parser import DetectorCLI

torch.set_num_threads(1)


def random_batch(frames: int, size: int, count: int = 4, made: list[int] | None = None) -> ClipBatch:
    draw = torch.Generator().manual_seed(0)
    weight = torch.tensor([1] * count if made is None else made, dtype=torch.float32)
    video = torch.randint(0, 256, (count, frames, size, size, 3), dtype=torch.uint8, generator=draw)
    return ClipBatch(
        video=video.permute(0, 1, 4, 2, 3),
        mask=(weight > 0)[:, None].expand(count, frames),
        label=torch.arange(count) % 2,
        weight=weight,
        item=torch.arange(count),
        track=torch.zeros(count, dtype=torch.int64),
        clip=torch.zeros(count, dtype=torch.int64),
        frames=torch.zeros(count, frames, dtype=torch.int64),
        pad=torch.zeros(count),
        errors=[(i, "lost") for i, there in enumerate(weight) if not there],
    )


def quiet(detector):
    detector.log = lambda *_, **__: None
    return detector


class Seen(nn.Module):
    """Stands in for a network and keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.given: list[torch.Tensor] = []

    def forward(self, video, mask=None):
        self.given.append(video)
        return self.layer(video.flatten(1).mean(1, keepdim=True))[:, 0]


def light_resnext(**options):
    """The detector with a trunk of one linear layer on mean colours, and an LSTM of 8."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 8))
    with patch("timm.create_model", lambda *_, **__: trunk), patch("dfdet.networks.resnext_lstm.WIDTH", 8):
        return quiet(ResNeXtLSTMDetector(size=32, **options))


SMALL = {
    "noise3d": (lambda: Noise3DDetector(size=16), 8),
    "noise3d_flat": (lambda: Noise3DDetector(frames=8, size=16, head="flatten"), 8),
    "noise_gru": (lambda: NoiseGRUDetector(size=16), 8),
    "ela_cnn": (lambda: ELACNNDetector(size=16), 2),
    "srm_fused": (lambda: SRMCNNDetector(size=16, front="fused"), 2),
    "meso_cnn": (lambda: MesoCNNDetector(size=32), 2),
    "bench_meso4": (lambda: DeepfakeBenchMeso4Detector(size=32), 2),
    "bench_inception": (lambda: DeepfakeBenchMesoInception4Detector(size=32), 2),
    "resnext_lstm": (light_resnext, 4),
    "resnext_legacy": (lambda: light_resnext(legacy="mean"), 4),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_step_trains_and_every_other_one_gives_a_logit_a_clip(name):
    make, frames = SMALL[name]
    torch.manual_seed(0)
    detector = quiet(make())
    batch = random_batch(frames, detector.input_size)
    loss = detector.train().training_step(batch, 0)
    loss.backward()
    assert torch.isfinite(loss)
    assert any(p.grad is not None and p.grad.any() for p in detector.parameters())
    detector.configure_optimizers()
    detector.eval()
    for step in (detector.validation_step, detector.test_step, detector.predict_step):
        assert step(batch, 0)["logit"].shape == (4,)


@pytest.mark.parametrize("name", SMALL)
def test_clips_that_could_not_be_made_count_nowhere(name):
    make, frames = SMALL[name]
    torch.manual_seed(0)
    detector = quiet(make())
    size = detector.input_size
    nothing = detector.train().training_step(random_batch(frames, size, made=[0] * 4), 0)
    nothing.backward()
    assert float(nothing.detach()) == 0
    assert all(p.grad is None or not p.grad.any() for p in detector.parameters())
    whole = random_batch(frames, size, made=[1, 0, 1, 1])
    some = whole.select(whole.weight > 0)
    losses = []
    for batch in (whole, some):
        torch.manual_seed(1)
        losses.append(detector.training_step(batch, 0).detach())
    assert torch.equal(*losses)


@pytest.mark.parametrize("name", ["noise3d", "noise_gru", "ela_cnn", "srm_fused"])
def test_networks_of_noise_see_whole_grey_levels(name):
    make, frames = SMALL[name]
    detector = make()
    detector.network = Seen()
    batch = random_batch(frames, detector.input_size)
    detector(batch)
    assert torch.equal(detector.network.given[0].flatten(), batch.video.float().flatten())


@pytest.mark.parametrize("name", ["bench_meso4", "bench_inception"])
def test_deepfakebench_s_nets_see_minus_1_to_1(name):
    detector = SMALL[name][0]()
    video = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(1, 1, 3, 3)[..., None].movedim(3, 2)
    assert detector.prepare(video).unique().tolist() == pytest.approx([-1, -0.6, 1], abs=1e-6)


# ResNeXt-LSTM -------------------------------------------------------------------------------------------------------


def test_resnext_sees_rgb_with_imagenet_s_statistics_and_legacy_bgr_with_those_of_rgb():
    video = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 1, 3, 1, 1).expand(1, 1, 3, 2, 2)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for legacy, colours in ((None, (10, 20, 30)), ("last", (30, 20, 10))):
        seen = light_resnext(legacy=legacy).prepare(video)[0, 0, :, 0, 0]
        assert seen.tolist() == pytest.approx([(c / 255 - m) / s for c, m, s in zip(colours, mean, std, strict=True)])


def test_legacy_runs_across_the_batch_in_training_and_judges_each_clip_alone_in_evaluation():
    detector = light_resnext(legacy="last", dropout=0.0)
    batch = random_batch(3, 32)
    first = batch.select(torch.tensor([False, True, True, True]))
    with torch.no_grad():
        together = detector.train()(batch)[1:]
        assert not torch.allclose(together, detector(first), atol=1e-6)
        alone = detector.eval()(batch)[1:]
        torch.testing.assert_close(alone, detector(first))
        assert detector(batch.select(torch.zeros(4, dtype=torch.bool))).shape == (0,)


def test_resnext_s_defaults_are_the_paper_s():
    detector = light_resnext()
    optimiser = detector.configure_optimizers()
    assert type(optimiser) is torch.optim.AdamW
    assert (optimiser.defaults["lr"], optimiser.defaults["weight_decay"]) == (1e-5, 1e-3)
    assert detector.network.dropout.p == 0.4
    other = light_resnext(optimizer="SGD").configure_optimizers()
    assert other.defaults["weight_decay"] == 0


def test_imagenet_weights_that_cannot_be_had_are_one_line(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("the hub cannot be reached")

    monkeypatch.setattr("timm.create_model", unreachable)
    with pytest.raises(UserError, match=r"the hub cannot be reached; connect once.*--model.pretrained false"):
        ResNeXtLSTMDetector(pretrained=True)


# The others ---------------------------------------------------------------------------------------------------------


def test_a_flattened_head_refuses_other_lengths_in_one_line():
    detector = Noise3DDetector(frames=8, size=16, head="flatten")
    with pytest.raises(UserError, match=r"data.clip.frames is 5.*built for 8; set --model.frames 5"):
        detector(random_batch(5, 16))
    assert Noise3DDetector(frames=8, size=16)(random_batch(5, 16)).shape == (4,)


def test_defaults_are_the_papers():
    meso = MesoCNNDetector()
    assert isinstance(meso, Meso4Detector)
    assert (meso.input_size, meso.network.dropout.p) == (150, 0.25)
    noise = Noise3DDetector()
    assert (noise.input_frames, noise.input_size, noise.network.kernel, noise.network.sigma) == (20, 100, 3, 0.8)
    optimiser = ELACNNDetector(size=16).configure_optimizers()
    assert type(optimiser) is torch.optim.RMSprop
    assert (optimiser.defaults["lr"], optimiser.defaults["alpha"]) == (5e-4, 0.9)
    assert type(ELACNNDetector(size=16, optimizer="Adam").configure_optimizers()) is torch.optim.Adam


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("dfdet.detectors.noise.Noise3DDetector", {"head": "flatten", "residual": "uint8_wrap", "lr": "0.5"}),
        ("dfdet.detectors.noise.NoiseGRUDetector", {"hidden": "8", "kernel": "5", "optimizer": "SGD"}),
        ("dfdet.detectors.ela.ELACNNDetector", {"scale": "12.5", "quality": "75", "pool": "median"}),
        ("dfdet.detectors.ela.ELACNNDetector", {"scale": "max"}),
        ("dfdet.detectors.mesonet.MesoCNNDetector", {"dropout": "0.1", "loss": "mse"}),
        ("dfdet.detectors.resnext_lstm.ResNeXtLSTMDetector", {"legacy": "mean", "size": "64", "fake_weight": "2"}),
    ],
)
def test_their_options_come_from_the_command_line(path, options):
    given = [word for key, value in options.items() for word in (f"--model.{key}", value)]
    made = DetectorCLI(["--model", path, *given]).build()[0]
    assert f"{type(made).__module__}.{type(made).__name__}" == path
    for key, value in options.items():
        holder = made if key in ("lr", "pool", "loss", "fake_weight", "legacy") else made.network
        found = {
            "hidden": lambda: made.network.gru.hidden_size,
            "optimizer": lambda: made.optimizer_name,
            "dropout": lambda: made.network.dropout.p,
            "size": lambda: made.input_size,
        }.get(key, lambda holder=holder, key=key: getattr(holder, key))()
        assert str(found) == value or float(found) == float(value)


@pytest.mark.parametrize(
    ("path", "wrong", "said"),
    [
        ("dfdet.detectors.noise.Noise3DDetector", ["--model.kernel", "4"], "a blur of 4 pixels"),
        ("dfdet.detectors.noise.Noise3DDetector", ["--model.residual", "log"], "residual"),
        ("dfdet.detectors.ela.ELACNNDetector", ["--model.quality", "0"], "1..100, not 0"),
        ("dfdet.detectors.mesonet.DeepfakeBenchMeso4Detector", ["--model.size", "150"], "multiple of 32"),
    ],
)
def test_what_cannot_be_made_is_one_line(path, wrong, said):
    with pytest.raises(UserError) as raised:
        DetectorCLI(["--model", path, *wrong]).build()
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
