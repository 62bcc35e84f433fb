"""What every detector of the table promises at its smallest: logits, gradients, learning, bfloat16, compiling, ONNX."""

from __future__ import annotations

import copy
import csv
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from dfdet.classical.dump import dumps
from dfdet.classical.fitting import fit_on
from dfdet.data.batch import ClipBatch
from dfdet.detectors import DETECTORS
from dfdet.errors import UserError
from dfdet.export.onnx import export_onnx
from dfdet.imports import import_object

torch.set_num_threads(1)

# the smallest pictures that each takes, or that leave something to see
SIZES = {
    "srm_cnn": 8, "meso4": 16, "mesoinception4": 16, "meso4_150": 16, "noise3d": 8, "noise_gru": 8, "noise_gbm": 8,
    "resnext_lstm": 32, "block_dct": 32, "ela": 16, "ela_cnn": 10, "siamese": 8, "timm": 32,
}  # fmt: skip
BIG = [name for name in DETECTORS if name.startswith(("efficientnet_b4", "xception")) or name == "resnext_lstm"]
# of eight that differ by their head, attention and trunk, two stand for all by default
TWINS = [name for name in BIG if name not in ("efficientnet_b4_att", "xception_att_st", "resnext_lstm")]
CLASSICAL = ["noise_gbm", "block_dct", "ela"]
TRAINED = [name for name in DETECTORS if name not in CLASSICAL]
TRIPLETS = [name for name in DETECTORS if name.endswith("_st")]
COMPARING = [*TRIPLETS, "siamese"]
CLIPS = ["noise3d", "noise_gru", "noise_gbm", "resnext_lstm"]
STAGES = [*((name, "head") for name in TRIPLETS), ("siamese", "probe"), ("siamese", "finetune")]


def but_slow(names: list[str], slow: list[str]) -> list[Any]:
    """The names, some of them among the slow tests."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]


def stages_of(names: list[str]) -> list[Any]:
    """The names with their first stage, or the only one, and every later stage."""
    found = [(name, None) for name in names] + STAGES
    return [pytest.param(*both, marks=pytest.mark.slow) if both[0] in TWINS else both for both in found]


def small(name: str, frames: int = 1, stage: str | None = None, **options: Any) -> Any:
    """A detector by its import path that sees small pictures and is not pretrained."""
    torch.manual_seed(0)
    given: dict[str, Any] = {"size": SIZES.get(name, 64)} | ({} if stage is None else {"stage": stage})
    if name == "timm":
        given["backbone"] = "mobilenetv3_small_050"
    if name == "noise_gbm":
        given |= {"frames": frames, "iterations": 5}
    if name == "ela":
        given["components"] = 4
    made = import_object(DETECTORS[name].path, "detector")(**(given | options))
    made.log = lambda *_, **__: None
    return made


def clips(count: int, frames: int, size: int, short: bool = False, seed: int = 0, noise: float = 1.0) -> ClipBatch:
    """Clips of the colour of skin with shades and noise, fakes with more of it; fakes and reals alternate.

    With ``short``, the last clip's second half is padding.
    """
    draw = torch.Generator().manual_seed(seed)
    label, zeros = 1 - torch.arange(count) % 2, torch.zeros(count, dtype=torch.int64)
    shades = 60 * torch.rand(count, 1, 3, 2, 2, generator=draw).expand(-1, frames, -1, -1, -1).flatten(0, 1) - 30
    grain = torch.randn(count, frames, 3, size, size, generator=draw) * (3 + 9 * label)[:, None, None, None, None]
    shaded = torch.nn.functional.interpolate(shades, (size, size), mode="bilinear").view_as(grain)
    skin = torch.tensor([200.0, 140.0, 120.0])[:, None, None]
    mask = torch.ones(count, frames, dtype=torch.bool)
    if short:
        mask[-1, max(1, frames // 2) :] = False
    return ClipBatch(
        video=(skin + shaded + noise * grain).clamp(0, 255).byte(), mask=mask, label=label, weight=torch.ones(count),
        item=torch.arange(count), track=zeros, clip=zeros, frames=torch.arange(frames).expand(count, -1),
        pad=torch.zeros(count), errors=[],
    )  # fmt: skip


def frames_of(name: str) -> int:
    return 4 if name in CLIPS else 1


def fit(made: Any, batch: ClipBatch) -> None:
    """What the end of a classical detector's epoch does."""
    made.training_step(batch, 0)
    made._load(dumps(fit_on(made.table, made.make_estimator)))


def experienced(name: str, frames: int, momentum: float = 0.97) -> Any:
    """A detector whose batch norms and running means hold what a batch showed, or whose estimator is fitted on it.

    Fresh ones answer every picture with next to the same logit: nothing could be told by it.
    """
    made = small(name, frames)
    if name in CLASSICAL:
        fit(made, clips(48, frames, made.input_size))
        return made.eval()
    for module in made.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = momentum
    with torch.no_grad():
        made.train().training_step(clips(16, frames, made.input_size), 0)
    return made.eval()


@pytest.fixture(scope="module", params=but_slow(list(DETECTORS), TWINS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def known(name: str) -> Callable[[int], Any]:
    """``known(T)``: an experienced detector for clips of T frames; read it, do not train it."""
    made: dict[int, Any] = {}

    def of(frames: int) -> Any:
        which = frames if name == "noise_gbm" else 4
        if which not in made:
            made[which] = experienced(name, which if name in CLIPS else 1)
        return made[which]

    return of


def assert_same(logit: Tensor, wanted: Tensor, spread: float | None = None) -> None:
    """To 1e-4, or to a hundredth of what clips differ by where that is little."""
    spread = float(wanted.max() - wanted.min()) if spread is None else spread
    assert spread > 0
    torch.testing.assert_close(logit, wanted, atol=min(1e-4, 0.01 * spread), rtol=1e-5)


# 1, 2: logits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 32])
@torch.no_grad()
def test_one_finite_float32_logit_a_clip(known, frames):
    made = known(frames)
    logit = made(clips(2, frames, made.input_size, short=True))
    assert (logit.shape, logit.dtype) == ((2,), torch.float32)
    assert torch.isfinite(logit).all()


@torch.no_grad()
def test_a_clip_s_logit_depends_on_its_own_frames_that_are_there_alone(known):
    made = known(4)
    batch = clips(4, 4, made.input_size, short=True)
    logit = made(batch)
    spread = float(logit.max() - logit.min())
    assert spread > 1e-4
    close = partial(torch.testing.assert_close, atol=1e-3 * spread, rtol=0)
    close(torch.cat([made(batch.select(torch.arange(4) == place)) for place in range(4)]), logit)
    other = batch.video.clone()
    other[~batch.mask] = 255 - other[~batch.mask]
    assert not torch.equal(other, batch.video)
    close(made(replace(batch, video=other)), logit)
    other = batch.video.clone()
    other[-1, 0] = clips(1, 1, made.input_size, seed=5).video[0, 0]
    changed = made(replace(batch, video=other))
    close(changed[:-1], logit[:-1])
    assert float((changed[-1] - logit[-1]).abs()) > 2e-3 * spread


# 3: gradients -------------------------------------------------------------------------------------------------------

# a distance does not see what is added to both embeddings
WITHOUT_GRADIENT = {("siamese", None): {"network.embedding.bias"}}


@pytest.mark.parametrize(("name", "stage"), stages_of(list(DETECTORS)))
def test_every_trained_parameter_gets_a_gradient(name, stage):
    frames = frames_of(name)
    made = small(name, frames, stage).train()
    optimiser = made.configure_optimizers()
    trained = {path: p for path, p in made.named_parameters() if p.requires_grad}
    held = {id(p) for group in optimiser.param_groups for p in group["params"]}
    assert held == {id(p) for p in trained.values()}
    moved = set()
    for seed in (0, 1):
        optimiser.zero_grad()
        made.training_step(clips(6, frames, made.input_size, seed=seed, noise=8), 0).backward()
        for path, parameter in trained.items():
            assert parameter.grad is not None, path
            assert torch.isfinite(parameter.grad).all(), path
            if parameter.grad.any():
                moved.add(path)
        optimiser.step()
    assert trained.keys() - moved <= WITHOUT_GRADIENT.get((name, stage), set())


# 4: learning --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crops(sample_media):
    """``crops(T, S)``: four fake and four real clips of T real crops each, every crop of another video."""
    home = sample_media / "dfdc_faces"
    with (home / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    paths = {kind: [home / row["path"] for row in rows if row["label"] == kind] for kind in ("FAKE", "REAL")}

    def of(frames: int, size: int) -> ClipBatch:
        order = [
            paths[kind][clip * frames + t] for clip in range(4) for kind in ("FAKE", "REAL") for t in range(frames)
        ]
        read = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in order]
        pixels = np.stack([cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA) for picture in read])
        batch = clips(8, frames, size)
        return replace(batch, video=torch.from_numpy(pixels).permute(0, 3, 1, 2).unflatten(0, (8, frames)))

    return of


def learn(made: Any, batch: ClipBatch, steps: int, done: Callable[[Any], bool]) -> list[float]:
    """Losses of steps of the detector's own optimiser, until it is done in evaluation."""
    for module in made.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = 0.3  # of a few steps, evaluation shall know too
    optimiser, losses = made.configure_optimizers(), []
    for step in range(steps):
        loss = made.train().training_step(batch, step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        if step % 10 == 9 and done(made.eval()):
            break
    return losses


@torch.no_grad()
def tells(batch: ClipBatch, made: Any) -> bool:
    return bool(((made(batch) > 0) == (batch.label == 1)).all())


LEARNING: dict[str, tuple[dict[str, Any], int]] = {
    "srm_cnn": ({"lr": 1e-3, "size": 32}, 200),
    "meso4": ({"lr": 1e-2, "size": 32, "dropout": 0.0}, 200),
    "mesoinception4": ({"lr": 1e-2, "size": 32, "dropout": 0.0}, 200),
    "meso4_150": ({"lr": 1e-2, "size": 32, "dropout": 0.0}, 200),
    "noise3d": ({"lr": 1e-2, "size": 32}, 400),
    "noise_gru": ({"lr": 1e-2, "size": 32}, 600),
    "resnext_lstm": ({"lr": 1e-4, "dropout": 0.0}, 60),
    "ela_cnn": ({"lr": 5e-4, "size": 32}, 200),
    "siamese": ({"stage": "finetune", "lr": 3e-3, "size": 32, "dropout": 0.0}, 400),
    "timm": ({"lr": 1e-2, "size": 64}, 100),
} | {
    name: ({"stage": "head", "lr": 1e-2} if name in TRIPLETS else {"lr": 1e-3}, 100)
    for name in BIG
    if name != "resnext_lstm"
}


@pytest.mark.parametrize("name", but_slow(TRAINED, BIG))
def test_it_learns_eight_clips_of_real_crops(name, crops):
    options, steps = LEARNING[name]
    made = small(name, **options)
    batch = crops(frames_of(name), made.input_size)
    if name in TRIPLETS:
        made.network.load_state_dict(experienced(name, 1).network.state_dict())
    assert not tells(batch, made.eval())
    losses = learn(made, batch, steps, partial(tells, batch))
    assert tells(batch, made.eval()), (len(losses), losses[-1])


@pytest.mark.parametrize("name", CLASSICAL)
def test_an_estimator_learns_eight_clips_of_real_crops(name, crops):
    options = {
        "noise_gbm": {"size": 32, "iterations": 100},
        "block_dct": {"size": 64, "passes": 200},
        "ela": {"components": 100},
    }[name]
    frames = frames_of(name)
    made = small(name, frames, **options)
    batch = crops(frames, made.input_size)
    for _ in range(7 if name == "noise_gbm" else 0):  # a leaf of its trees wants 20 rows
        made.training_step(batch, 0)
    fit(made, batch)
    assert tells(batch, made)


@pytest.mark.parametrize("name", but_slow(COMPARING, BIG))
def test_comparing_real_crops_is_learnt(name, crops):
    options: dict[str, Any] = {"lr": 1e-4}
    if name == "siamese":
        options = {"size": 32, "dropout": 0.0, "lr": 1e-2}
    if name.startswith("efficientnet"):
        options["drop_path"] = 0.0
    made = small(name, **options)
    batch = crops(1, made.input_size)
    rows = made.fixed(batch.label, batch.item, {})

    @torch.no_grad()
    def loss() -> float:
        return float(made.train().losses(made.embed(batch), rows)[0].mean())

    before = loss()
    learn(made, batch, 100, lambda _: loss() < 0.5 * before)
    assert loss() < 0.5 * before


# 5: bfloat16 --------------------------------------------------------------------------------------------------------

# rounding adds up over dozens of layers with fresh weights
BFLOAT16 = dict.fromkeys(BIG, 0.5)


@torch.no_grad()
def test_logits_under_bfloat16_are_those_of_float32_to_a_share_of_their_spread(name, known):
    made = known(4)
    batch = clips(6, 4, made.input_size, short=True)
    wanted = made.predict_step(batch, 0)["logit"]
    with torch.autocast("cpu", torch.bfloat16):
        logit = made.predict_step(batch, 0)["logit"]
    assert logit.dtype == torch.float32
    assert float((logit - wanted).abs().max()) < BFLOAT16.get(name, 0.1) * float(wanted.max() - wanted.min())


@pytest.mark.parametrize(("name", "stage"), stages_of(TRAINED))
def test_a_step_under_bfloat16_has_a_finite_loss_and_gradient(name, stage):
    frames = frames_of(name)
    made = small(name, frames, stage).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = made.training_step(clips(6, frames, made.input_size), 0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in made.parameters() if p.requires_grad)


# which module takes the residual, the noise or the error levels
FIXED_PARTS = [
    ("srm_cnn", {}, "conv1"),
    ("srm_cnn", {"front": "fused", "truncate": None}, "conv1"),
    ("noise3d", {}, "conv1"),
    ("noise_gru", {}, "gru"),
    ("ela_cnn", {}, "conv1"),
]


@pytest.mark.parametrize(("name", "options", "taker"), FIXED_PARTS, ids=str)
@torch.no_grad()
def test_residuals_noise_and_error_levels_are_the_same_float32_under_bfloat16(name, options, taker):
    made = small(name, **options).eval()
    seen: list[Tensor] = []
    made.network.get_submodule(taker).register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    batch = clips(3, frames_of(name), made.input_size)
    made(batch)
    with torch.autocast("cpu", torch.bfloat16):
        made(batch)
    assert seen[1].dtype == torch.float32
    assert torch.equal(*seen)
    assert not torch.equal(seen[0], seen[0].bfloat16().float())


# 6: compiling -------------------------------------------------------------------------------------------------------

# what these leave to Python; the rest of a network is compiled, of a classical detector nothing
NOT_COMPILED = {"noise_gru": "GRU", "resnext_lstm": "LSTM", "ela_cnn": "JPEG by Pillow"} | dict.fromkeys(
    CLASSICAL, "scikit-learn"
)


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
@torch.no_grad()
def test_compiled_it_answers_as_before(name):
    frames = frames_of(name)
    made = experienced(name, frames)
    batch = clips(4, frames, made.input_size, short=frames > 1)
    torch.compiler.reset()
    if name in NOT_COMPILED:
        with pytest.raises(torch._dynamo.exc.Unsupported):
            torch.compile(made, fullgraph=True)(batch)
        torch.compiler.reset()
    compiled = torch.compile(made, fullgraph=name not in NOT_COMPILED)
    assert_same(compiled(batch), made(batch))


# 7: ONNX ------------------------------------------------------------------------------------------------------------

NOT_EXPORTED = {"ela_cnn": "ELA compresses each frame as JPEG"} | dict.fromkeys(CLASSICAL, "it is a scikit-learn")
EXPORTED = [name for name in DETECTORS if name not in NOT_EXPORTED]


@pytest.mark.parametrize("name", but_slow(EXPORTED, [n for n in EXPORTED if n not in ("noise3d", "siamese")]))
def test_the_onnx_file_answers_as_the_detector(name, tmp_path):
    import onnxruntime

    frames = frames_of(name)
    # with less of a batch's statistics, since pictures unlike it are compared too
    made = experienced(name, frames, momentum=0.9)
    done = export_onnx(made, tmp_path / "x.onnx", frames, made.input_size)
    session, spread = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"]), 0.0
    for count in (3, 1):
        batch = clips(count, frames, made.input_size, short=frames > 1)
        video, mask = batch.video.numpy(), batch.mask.numpy()
        given = {"video": video, "mask": mask} if frames > 1 else {"frames": video[:, 0]}
        with torch.no_grad():
            wanted = made.predict_step(batch, 0)["logit"]
        spread = max(spread, float(wanted.max() - wanted.min()))
        assert_same(torch.from_numpy(session.run(["logit"], given)[0]), wanted, spread)


@pytest.mark.parametrize("name", NOT_EXPORTED)
def test_what_cannot_be_written_in_onnx_says_why_in_one_line(name, tmp_path):
    made = experienced(name, frames_of(name))
    with pytest.raises(UserError, match=NOT_EXPORTED[name]) as told:
        export_onnx(made, tmp_path / "x.onnx", frames_of(name), made.input_size)
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())


# 8: what is not there -----------------------------------------------------------------------------------------------


def without(batch: ClipBatch, *gone: int) -> ClipBatch:
    """The batch as it comes where these clips could not be made."""
    video, mask, weight = batch.video.clone(), batch.mask.clone(), batch.weight.clone()
    places = list(gone)
    video[places], mask[places], weight[places] = 0, False, 0
    return replace(batch, video=video, mask=mask, weight=weight, errors=[(i, "unreadable") for i in places])


@torch.no_grad()
def test_a_clip_without_frames_has_a_finite_logit_and_the_others_keep_theirs(known):
    made = known(4)
    batch = clips(4, 4, made.input_size)
    logit = made(without(batch, 1))
    assert torch.isfinite(logit).all()
    torch.testing.assert_close(logit[[0, 2, 3]], made(batch)[[0, 2, 3]], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("name", "stage"), stages_of(list(DETECTORS)))
def test_clips_without_frames_reach_neither_the_loss_nor_any_statistics(name, stage):
    frames = frames_of(name)
    one = small(name, frames, stage).train()
    other = copy.deepcopy(one)
    batch = clips(6, frames, one.input_size)
    losses = []
    for made, given in ((one, without(batch, 4, 5)), (other, batch.select(torch.arange(6) < 4))):
        torch.manual_seed(1)
        losses.append(made.training_step(given, 0).detach())
    assert torch.equal(*losses)
    held = other.state_dict()
    assert all(torch.equal(value, held[key]) for key, value in one.state_dict().items())
    if name in CLASSICAL:
        assert all(np.array_equal(*pair) for pair in zip(one.table.sorted(), other.table.sorted(), strict=True))


@pytest.mark.parametrize(("name", "stage"), stages_of(TRAINED))
def test_a_batch_without_any_frame_moves_nothing(name, stage):
    frames = frames_of(name)
    made = small(name, frames, stage).train()
    before = copy.deepcopy(made.state_dict())
    loss = made.training_step(without(clips(4, frames, made.input_size), 0, 1, 2, 3), 0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not any(p.grad.any() for p in made.parameters() if p.grad is not None)
    assert [key for key, value in made.state_dict().items() if not torch.equal(value, before[key])] == []
