"""What ResNeXt-LSTM promises: as it was meant, and as its published files were made."""

from __future__ import annotations

import json
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import nn
from weights_rule import IMAGENET, filled, reference_images

from dfdet.networks.resnext_lstm import WIDTH, LegacyResNeXtLSTM, ResNeXtLSTM

torch.set_num_threads(1)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ResNeXtLSTM().eval()


@pytest.fixture(scope="module")
def light():
    """The network with a trunk of one linear layer on mean colours and an LSTM of 16: what it does needs no ResNeXt."""
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 16))
    with patch("timm.create_model", lambda *_, **__: trunk), patch("dfdet.networks.resnext_lstm.WIDTH", 16):
        return ResNeXtLSTM().eval()


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# As it was meant ----------------------------------------------------------------------------------------------------


def test_parameter_counts(network):
    assert parameters(network.trunk) == 22_979_904
    assert parameters(network.lstm) == 33_570_816
    # the specification counts two logits: 56,554,818
    assert parameters(network) == 56_554_818 - 2049 == 56_552_769


@pytest.mark.parametrize("frames", [1, 32])
def test_one_logit_a_clip_at_any_length(network, frames):
    with torch.no_grad():
        logit = network(draw(2, frames, 3, 32, 32), torch.ones(2, frames, dtype=torch.bool))
    assert (logit.shape, logit.dtype) == ((2,), torch.float32)


def test_bfloat16_autocast_runs(network):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(network(draw(1, 2, 3, 32, 32), torch.ones(1, 2, dtype=torch.bool))).all()


def test_it_is_the_state_of_packed_sequences(light):
    video, lengths = draw(4, 6, 3, 32, 32), torch.tensor([6, 1, 4, 3])
    mask = torch.arange(6) < lengths[:, None]
    features = light.trunk(video.flatten(0, 1)).unflatten(0, (4, 6))
    packed = nn.utils.rnn.pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
    expected = light.output(light.lstm(packed)[1][0][0])[:, 0]
    torch.testing.assert_close(light(video, mask), expected)


def test_what_stands_behind_the_last_frame_changes_nothing_and_what_stands_before_does(light):
    video, mask = draw(2, 5, 3, 32, 32), torch.tensor([[True] * 3 + [False] * 2] * 2)
    behind, before = video.clone(), video.clone()
    behind[:, 3:] = 7
    before[:, 0] = 7
    assert torch.equal(light(video, mask), light(behind, mask))
    assert not torch.allclose(light(video, mask), light(before, mask))


def test_frames_have_an_order(light):
    video, mask = draw(1, 5, 3, 32, 32), torch.ones(1, 5, dtype=torch.bool)
    swapped = video[:, [1, 0, 2, 3, 4]]
    assert not torch.allclose(light(video, mask), light(swapped, mask), atol=1e-7)


def test_one_clip_s_logit_does_not_depend_on_its_neighbours(network):
    video, mask = draw(2, 3, 3, 32, 32), torch.tensor([[True] * 3, [True, True, False]])
    with torch.no_grad():
        alone = torch.cat([network(video[i : i + 1], mask[i : i + 1]) for i in range(2)])
        torch.testing.assert_close(network(video, mask), alone, atol=1e-5, rtol=1e-4)


def test_a_clip_without_a_frame_scores_0_and_teaches_nothing(light):
    video, mask = draw(2, 3, 3, 32, 32), torch.tensor([[True] * 3, [False] * 3])
    light.zero_grad()
    logit = light(video, mask)
    assert logit[1] == 0
    logit[1].backward()
    assert all(p.grad is None or not p.grad.any() for p in light.parameters())


def test_missing_frames_do_not_reach_batch_statistics(network):
    video = draw(2, 3, 3, 32, 32)
    mask = torch.tensor([[True] * 3, [True, False, False]])
    other = video.clone()
    other[1, 1:] = 100
    norm = network.trunk.bn1
    seen = []
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for clips in (video, other):
        network.load_state_dict(before)
        network.train()
        network(clips, mask)
        seen.append(norm.running_mean.clone())
    network.load_state_dict(before)
    network.eval()
    assert torch.equal(*seen)
    assert not torch.equal(seen[0], norm.running_mean)


def test_training_without_any_frame_moves_nothing(network):
    network.train()
    logit = network(draw(2, 2, 3, 32, 32), torch.zeros(2, 2, dtype=torch.bool))
    network.eval()
    assert logit.tolist() == [0, 0]


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    network = ResNeXtLSTM(dropout=0.0)
    # untrained, timm lets every block begin as the identity: the last scale in it is 0 and hides what is before
    for block in (block for stage in range(1, 5) for block in getattr(network.trunk, f"layer{stage}")):
        nn.init.ones_(block.bn3.weight)
    (network(draw(2, 3, 3, 32, 32), torch.ones(2, 3, dtype=torch.bool)) * torch.tensor([1.0, 2.0])).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_wrong_clips_are_told(network):
    for shape, said in (
        ((2, 3, 32, 32), r"\(B, T, 3, S, S\)"),
        ((1, 2, 1, 32, 32), r"\(B, T, 3, S, S\)"),
        ((1, 2, 3, 16, 16), "too small"),
    ):
        with pytest.raises(ValueError, match=said):
            network(torch.zeros(shape), torch.ones(shape[:2], dtype=torch.bool))
    with pytest.raises(ValueError, match="neither 'last' nor 'mean'"):
        LegacyResNeXtLSTM(reduce="max")


@pytest.mark.slow
def test_it_learns_clips_of_real_crops(sample_media):
    from PIL import Image

    paths = sorted((sample_media / "dfdc_faces").rglob("*.jpg"))[::200][:16]
    faces = [np.asarray(Image.open(path).convert("RGB").resize((64, 64))) for path in paths]
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    video = ((torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2) / 255 - mean) / std).unflatten(0, (8, 2))
    labels, mask = torch.tensor([0.0, 1.0] * 4), torch.ones(8, 2, dtype=torch.bool)
    torch.manual_seed(0)
    network = ResNeXtLSTM(dropout=0.0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=1e-3)
    for _ in range(40):
        loss = nn.functional.binary_cross_entropy_with_logits(network(video, mask), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss < 0.1:
            break
    assert loss < 0.1


@pytest.mark.slow
def test_it_compiles(network):
    video, mask = draw(1, 3, 3, 32, 32), torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(network)(video, mask), network(video, mask), atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_onnx_answers_alike_at_another_batch_size(network, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    batch = torch.export.Dim("batch", min=1, max=64)
    video, mask = draw(3, 3, 3, 32, 32), torch.arange(3) < torch.tensor([3, 1, 2])[:, None]
    shapes = ({0: batch}, {0: batch})
    program = torch.onnx.export(network, (video[:2], mask[:2]), dynamo=True, dynamic_shapes=shapes, verbose=False)
    program.save(tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    given = {i.name: t.numpy() for i, t in zip(session.get_inputs(), (video, mask), strict=True)}
    with torch.no_grad():
        np.testing.assert_allclose(session.run(None, given)[0], network(video, mask).numpy(), atol=1e-5)


# As it was published ------------------------------------------------------------------------------------------------


def ours(key):
    """The published name of a parameter as this network's."""
    parts = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
    if key.startswith("model."):
        _, part, rest = key.split(".", 2)
        return f"trunk.{parts[part]}.{rest}"
    return key.replace("linear1.", "output.")


@pytest.fixture(scope="module")
def shapes(sample_media):
    path = sample_media.parent / "reference" / "weights" / "resnext_lstm_state_dict.json"
    if not path.is_file():
        pytest.skip(f"no shapes of the published files at {path}")
    return {key: tuple(shape) for key, (_, shape) in json.loads(path.read_text()).items()}


@pytest.fixture(scope="module")
def legacy(shapes):
    network = LegacyResNeXtLSTM()
    network.load_state_dict({ours(key): filled(key, shape) for key, shape in shapes.items()}, strict=True)
    return network.eval()


# clip by clip [fake, real], as the original code answers (resnext_lstm_parity.json)
LAST = [[0.12646221828828444, 0.1194264249221276], [0.23768100062314523, 0.13790367444361223]]
MEAN = [[0.12376275220375205, 0.12097170758294688], [0.23312484830272467, 0.14387248347779308]]
SECOND_ALONE = [0.129833, 0.114786]
AS_INTENDED = [0.3330509508867245, 0.24715668318056605]


def test_legacy_has_the_published_keys_and_no_bias(legacy, shapes):
    assert len(shapes) == 322
    assert parameters(legacy) == 56_538_434
    assert {n for n, _ in legacy.lstm.named_parameters()} == {"weight_ih_l0", "weight_hh_l0"}


@pytest.mark.parametrize(("reduce", "expected"), [("last", LAST), ("mean", MEAN)])
def test_legacy_answers_as_the_original_code(legacy, reduce, expected):
    legacy.reduce = reduce
    with torch.no_grad():
        # 20 frames are ten of a first clip and ten of a second; the first ten of them are those of 10 frames
        both = legacy.logits(reference_images(20, 112, IMAGENET).unflatten(0, (2, 10)))
        one = legacy.logits(reference_images(10, 112, IMAGENET)[None])
    torch.testing.assert_close(one, torch.tensor(expected[:1]), rtol=1e-4, atol=0)
    torch.testing.assert_close(both, torch.tensor(expected), rtol=1e-4, atol=0)
    legacy.reduce = "last"


def test_legacy_s_second_clip_depends_on_the_first_and_its_last_frame_alone_counts(legacy):
    video = reference_images(20, 112, IMAGENET).unflatten(0, (2, 10))
    with torch.no_grad():
        alone = legacy.logits(video[1:])
        torch.testing.assert_close(alone, torch.tensor([SECOND_ALONE]), rtol=1e-4, atol=0)
        assert (alone - torch.tensor(LAST[1:])).abs().max() > 0.01
        blank = torch.zeros_like(video[1:])
        blank[:, -1] = video[1, -1]
        torch.testing.assert_close(legacy.logits(blank), alone, atol=1e-6, rtol=1e-5)
        one = legacy(video[1:], torch.ones(1, 10, dtype=torch.bool))
    torch.testing.assert_close(one, alone[:, 0] - alone[:, 1])


def test_what_was_meant_answers_otherwise_with_the_same_weights(legacy, shapes):
    network = ResNeXtLSTM().eval()
    state = {ours(key): filled(key, shape) for key, shape in shapes.items()}
    weight, bias = state.pop("output.weight"), state.pop("output.bias")
    state |= {f"lstm.{name}": torch.zeros(4 * WIDTH) for name in ("bias_ih_l0", "bias_hh_l0")}
    state |= {"output.weight": weight[:1] - weight[1:], "output.bias": bias[:1] - bias[1:]}
    network.load_state_dict(state, strict=True)
    with torch.no_grad():
        logit = network(reference_images(10, 112, IMAGENET)[None], torch.ones(1, 10, dtype=torch.bool))
    # the recurrence along the frames, which the original does not have: its authors' intention, in their own code
    assert float(logit) == pytest.approx(AS_INTENDED[0] - AS_INTENDED[1], rel=1e-4)
    assert abs(float(logit) - (LAST[0][0] - LAST[0][1])) > 0.05


def test_the_figures_here_are_those_of_the_reference(sample_media):
    path = sample_media.parent / "reference" / "weights" / "resnext_lstm_parity.json"
    if not path.is_file():
        pytest.skip(f"no answers of the original code at {path}")
    one, two = json.loads(path.read_text())["runs"]
    assert two["logits_last_frame_inference_code"] == pytest.approx(np.array(LAST), rel=1e-9)
    assert two["logits_mean_over_frames_training_code"] == pytest.approx(np.array(MEAN), rel=1e-9)
    assert one["logits_if_batch_first_were_true_last_step_DIFFERENT"][0] == pytest.approx(AS_INTENDED, rel=1e-9)


def test_legacy_drops_logits_in_training(legacy):
    torch.manual_seed(0)
    video = draw(1, 1, 3, 32, 32)
    legacy.dropout.train()
    answers = torch.stack([legacy.logits(video).detach()[0] for _ in range(6)])
    legacy.eval()
    whole = legacy.logits(video).detach()[0] / 0.6
    assert all(bool(((a == 0) | torch.isclose(a, whole, rtol=1e-4)).all()) for a in answers)
    assert (answers == 0).any()
    assert (answers != 0).any()
