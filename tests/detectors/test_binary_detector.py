"""The binary detector: loss, pooling, optimiser and schedule by name."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import log_loss
from torch import nn

from dfdet.data.batch import ClipBatch
from dfdet.detectors import DETECTORS, import_path
from dfdet.detectors.frames import FrameDetector, pool_frames
from dfdet.errors import UserError
from dfdet.imports import import_object


def random_batch(count: int, frames: int = 1, size: int = 8, made: list[int] | None = None) -> ClipBatch:
    draw = torch.Generator().manual_seed(0)
    weight = torch.tensor([1] * count if made is None else made, dtype=torch.float32)
    return ClipBatch(
        video=torch.randint(0, 256, (count, frames, 3, size, size), dtype=torch.uint8, generator=draw),
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


class MeanColour(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.seen = 0

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        self.seen = len(frames)
        return self.layer(frames.mean((2, 3)) / 255)[:, 0]


def detector(**options) -> FrameDetector:
    torch.manual_seed(0)
    made = FrameDetector(MeanColour(), **options)
    made.log = lambda *_, **__: None  # type: ignore[method-assign]
    return made


LABEL = torch.tensor([0, 1, 1, 0])
LOGIT = torch.tensor([-1.0, 2.0, -3.0, 0.5])


def test_bce_is_scikit_learn_s_log_loss():
    probability = torch.sigmoid(LOGIT).double().numpy()
    assert float(detector().clip_loss(LOGIT, LABEL).mean()) == pytest.approx(
        log_loss(LABEL.numpy(), probability), rel=1e-6
    )


def test_mse_is_mesonet_s():
    probability = torch.sigmoid(LOGIT)
    assert torch.equal(detector(loss="mse").clip_loss(LOGIT, LABEL), (probability - LABEL) ** 2)


def test_fake_weight_weighs_fakes_only():
    plain, weighted = (detector(fake_weight=w).clip_loss(LOGIT, LABEL) for w in (1.0, 3.0))
    assert torch.allclose(weighted, plain * torch.tensor([1.0, 3.0, 3.0, 1.0]))


@pytest.mark.parametrize("how", ["mean", "median", "max"])
def test_frames_are_pooled_over_those_that_are_there(how):
    logit = torch.tensor([[1.0, 2.0, 6.0], [4.0, 9.0, -9.0]], requires_grad=True)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    pooled = pool_frames(logit, mask, how)
    assert pooled.tolist() == [{"mean": 3.0, "median": 2.0, "max": 6.0}[how], 4.0]


@pytest.mark.parametrize("how", ["mean", "median", "max"])
def test_clips_that_could_not_be_made_count_nowhere(how):
    made, whole = detector(pool=how), random_batch(6, frames=3, made=[1, 0, 1, 1, 0, 1])
    loss = made.training_step(whole, 0)
    assert made.network.seen == 4 * 3
    assert torch.equal(loss, made.training_step(whole.select(whole.weight > 0), 0))


@pytest.mark.parametrize("how", ["mean", "median", "max"])
def test_a_batch_of_which_nothing_could_be_made_moves_nothing(how):
    made = detector(pool=how)
    loss = made.training_step(random_batch(4, frames=3, made=[0] * 4), 0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(float(p.grad.abs().sum()) == 0 for p in made.parameters())


def test_every_step_gives_one_logit_a_clip_whatever_its_frames():
    made = detector().eval()
    for step in (made.validation_step, made.test_step, made.predict_step):
        assert step(random_batch(5, frames=3), 0)["logit"].shape == (5,)


def test_optimiser_and_schedule_come_by_name_or_import_path():
    options = {"optimizer": "AdamW", "optimizer_args": {"weight_decay": 0.5}, "lr": 0.25}
    found = detector(**options, schedule="StepLR", schedule_args={"step_size": 3}).configure_optimizers()
    assert type(found["optimizer"]) is torch.optim.AdamW
    assert found["optimizer"].defaults["weight_decay"] == 0.5
    assert found["optimizer"].defaults["lr"] == 0.25
    assert found["lr_scheduler"]["scheduler"].step_size == 3
    assert type(detector(optimizer="torch.optim.SGD").configure_optimizers()) is torch.optim.SGD


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer": "Adm"}, "did you mean 'Adam'?"),
        ({"schedule": "StepRL"}, "did you mean 'StepLR'?"),
        ({"optimizer": "nowhere.Adam"}, "cannot be imported"),
    ],
)
def test_an_unknown_optimiser_or_schedule_is_one_line(options, said):
    with pytest.raises(UserError) as raised:
        detector(**options).configure_optimizers()
    assert said in str(raised.value)


def test_an_unknown_detector_name_gets_the_nearest():
    with pytest.raises(UserError, match=r"no detector is named 'srmcnn'; did you mean 'srm_cnn'\?"):
        import_path("srmcnn")


@pytest.mark.parametrize("name", DETECTORS)
def test_every_card_tells_the_truth(name):
    from dfdet.training.parser import find_config

    card = DETECTORS[name]
    made = import_object(card.path, "detector")()
    if card.parameters is not None:
        assert sum(p.numel() for p in made.parameters() if p.requires_grad) == card.parameters
    assert (card.parameters is None) == ("scikit-learn" in card.summary)
    assert f"{made.input_size} px" in card.input
    assert find_config(card.config).is_file()


def test_the_median_of_an_even_number_of_frames_lies_between_the_middle_two():
    logit, mask = torch.tensor([[5.0, 1.0, 9.0, 2.0, -7.0]]), torch.tensor([[True, True, True, True, False]])
    assert pool_frames(logit, mask, "median").tolist() == [3.5]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lr": -1.0}, "model.optimizer Adam cannot be made: Invalid learning rate"),
        ({"optimizer_args": {"momentum": 1}}, "model.optimizer Adam cannot be made"),
        ({"schedule": "StepLR"}, "model.schedule StepLR cannot be made"),
    ],
)
def test_arguments_that_torch_does_not_take_are_one_line(options, said):
    with pytest.raises(UserError, match=said):
        detector(**options).configure_optimizers()
