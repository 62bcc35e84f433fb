"""Every key of every published network goes to one place of ours, and the logits are those of the original code."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from weights_rule import HALF, IMAGENET, empty_state, filled_state, reference_images

from dfdet.cli import main
from dfdet.training.published import with_weights
from dfdet.weights.checkpoints import opened
from dfdet.weights.converting import convert, recognise
from dfdet.weights.layouts import LAYOUTS, Layout
from dfdet.weights.reading import WeightsError
from dfdet.weights.spellings import prefixed

torch.set_num_threads(1)
HERE = Path("published.pth")
# the original's name: our layout, how many of its keys its own code does not use
NETS = {
    "EfficientNetB4": ("icpr2020.efficientnet_b4", 0),
    "EfficientNetAutoAttB4": ("icpr2020.efficientnet_b4_att", 0),
    "EfficientNetB4ST": ("icpr2020.efficientnet_b4_st", 2),
    "EfficientNetAutoAttB4ST": ("icpr2020.efficientnet_b4_att_st", 2),
    "Xception": ("icpr2020.xception", 0),
    "XceptionST": ("icpr2020.xception_st", 2),
    "xception": ("deepfakebench.xception", 7),
    "efficientnetb4": ("deepfakebench.efficientnet_b4", 0),
    "meso4": ("deepfakebench.meso4", 0),
    "meso4Inception": ("deepfakebench.mesoinception4", 0),
    "ResNeXt50-LSTM": ("jadhav.resnext_lstm", 0),
}


def test_the_rule_fills_as_the_reference_says():
    shapes = {
        "efficientnet._conv_stem.weight": ["float32", [48, 3, 3, 3]],
        "feat_ext.efficientnet._blocks.9._bn2.running_var": ["float32", [56]],
        "xception.block1.rep.0.pointwise.weight": ["float32", [128, 64, 1, 1]],
    }
    sums = [float(value.double().sum()) for value in filled_state(shapes).values()]
    assert sums == pytest.approx([7.6366115, 53.6754517, -12.3114630], abs=1e-5)


@pytest.mark.data
@pytest.mark.parametrize("net", NETS)
def test_every_key_has_one_place_and_every_place_its_key(published_shapes, net):
    state = empty_state(published_shapes[net])
    name, unused = NETS[net]
    layout = recognise(HERE, state)
    assert layout.name == name
    used = [key for key in state if not key.startswith(layout.unused)]
    assert len(state) - len(used) == unused
    places = [layout.rename(key) for key in used]
    assert len(set(places)) == len(places)
    assert set(places) == set(layout.wanted())
    converted = convert(HERE, state, layout)
    assert {key: tuple(value.shape) for key, value in converted.items()} == layout.wanted()


@pytest.mark.data
@pytest.mark.parametrize("net", ["EfficientNetAutoAttB4ST", "xception", "meso4Inception", "ResNeXt50-LSTM"])
def test_what_is_missing_strange_or_of_another_shape_is_told_apart(published_shapes, net):
    state = empty_state(published_shapes[net])
    layout = recognise(HERE, state)
    used = [key for key in state if not key.startswith(layout.unused) and key.endswith("weight")]
    gone, bent = used[-3], used[-4]
    del state[gone]
    state[bent] = torch.zeros(1, 2, 3)
    state["optimizer.weight"] = torch.zeros(2)
    with pytest.raises(WeightsError) as raised:
        convert(HERE, state, layout)
    told = str(raised.value)
    assert f"missing 1 ({layout.rename(gone)})" in told
    assert "unexpected 1 (optimizer.weight)" in told
    assert f"of another shape 1 ({layout.rename(bent)} is (1, 2, 3), not" in told


@pytest.mark.data
def test_a_head_behind_dropout_is_the_same_head_but_two_heads_are_one_too_many(published_shapes):
    state = empty_state(published_shapes["xception"])
    layout = LAYOUTS["deepfakebench.xception"]
    plain = {key: value for key, value in state.items() if "last_linear" not in key}
    head = {"backbone.last_linear.1.weight": torch.ones(2, 2048), "backbone.last_linear.1.bias": torch.ones(2)}
    assert convert(HERE, plain | head, layout)["output.weight"].shape == (1, 2048)
    with pytest.raises(WeightsError, match=r"unexpected 2 \(backbone\.last_linear\.1\.weight"):
        convert(HERE, state | head, layout)


@pytest.mark.data
def test_a_file_of_before_torch_0_4_has_no_counts_of_batches_and_loads(published_shapes):
    state = empty_state(published_shapes["meso4"])
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert len(old) == len(state) - 2
    converted = convert(HERE, old, LAYOUTS["deepfakebench.meso4"])
    assert converted["bn2.num_batches_tracked"] == 0
    assert converted.keys() == convert(HERE, state, LAYOUTS["deepfakebench.meso4"]).keys()


@pytest.mark.data
def test_triplets_without_a_head_are_a_start_and_no_detector(published_shapes, tmp_path):
    state = empty_state(published_shapes["EfficientNetB4ST"])
    torch.save({k: v for k, v in state.items() if not k.startswith("classifier.")}, tmp_path / "triplet.pth")
    weights = opened(tmp_path / "triplet.pth")
    assert not weights.complete
    assert not any(key.startswith("output.") for key in weights.state)
    with pytest.raises(Exception, match="no classifier of real and fake"):
        with_weights(str(tmp_path / "triplet.pth"))
    torch.save(state, tmp_path / "whole.pth")
    assert opened(tmp_path / "whole.pth").complete


@pytest.mark.data
def test_half_a_head_is_a_mistake_and_not_a_start(published_shapes):
    state = empty_state(published_shapes["EfficientNetB4"])
    del state["classifier.bias"]
    with pytest.raises(WeightsError, match=r"missing 1 \(output\.bias\)"):
        convert(HERE, state, LAYOUTS["icpr2020.efficientnet_b4"])


@pytest.mark.parametrize("fake", [0, 1])
def test_of_two_outputs_fake_minus_real_is_the_logit(fake):
    weight, bias = torch.randn(2, 3), torch.randn(2)
    layout = Layout(
        "two", "two outputs", marks=("fc.weight",), rename=prefixed("fc.", "output."), detector="none", fake=fake,
        wanted=lambda: {"output.weight": (1, 3), "output.bias": (1,)},
    )  # fmt: skip
    ours = convert(HERE, {"fc.weight": weight, "fc.bias": bias}, layout)
    features = torch.randn(5, 3)
    probability = (features @ weight.T + bias).softmax(1)[:, fake]
    logit = (features @ ours["output.weight"].T + ours["output.bias"]).squeeze(1)
    torch.testing.assert_close(torch.sigmoid(logit), probability)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype):
    wanted = LAYOUTS["mesonet.meso4"].wanted()
    state = {k: torch.full(v, 0.5, dtype=dtype) for k, v in wanted.items() if not k.endswith("num_batches_tracked")}
    converted = convert(HERE, state, LAYOUTS["mesonet.meso4"])
    assert {str(value.dtype) for value in converted.values()} == {"torch.float32", "torch.int64"}
    assert converted["hidden.weight"][0, 0] == 0.5


def test_integers_where_weights_belong_are_refused():
    state = {key: torch.zeros(shape) for key, shape in LAYOUTS["mesonet.meso4"].wanted().items()}
    state["output.weight"] = state["output.weight"].long()
    with pytest.raises(WeightsError, match=r"output\.weight holds torch\.int64"):
        convert(HERE, state, LAYOUTS["mesonet.meso4"])


def test_other_keys_are_known_by_no_layout():
    with pytest.raises(WeightsError, match="keys of no published network"):
        recognise(HERE, {"layer.weight": torch.zeros(1)})
    with pytest.raises(
        WeightsError, match=r"no layout is called 'icpr2020\.xcepton'; did you mean 'icpr2020\.xception'"
    ):
        recognise(HERE, {}, "icpr2020.xcepton")


@pytest.mark.parametrize("architecture", ["tf_efficientnet_b4", "legacy_xception", "resnext50_32x4d"])
def test_timms_networks_are_taken_by_name_alone_and_without_their_classifier(architecture):
    with torch.device("meta"):
        whole = timm.create_model(architecture).state_dict()
    state = {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in whole.items()}
    with pytest.raises(WeightsError, match=f"say --layout timm.{architecture}"):
        recognise(HERE, state)
    layout = recognise(HERE, state, f"timm.{architecture}")
    converted = convert(HERE, state, layout)
    assert len(converted) == len(state) - 2
    assert all(key.startswith("trunk.") for key in converted)


# One file a layout, all the way --------------------------------------------------------------------------------------

# the original code's answers, float64 (reference weights.md §2.4, §2.5, §3, §4): fake, or fake minus real
LOGITS = {
    "EfficientNetB4": (224, IMAGENET, [-0.426350, -0.430335]),
    "EfficientNetAutoAttB4": (224, IMAGENET, [-0.322839, -0.335370]),
    "EfficientNetB4ST": (224, IMAGENET, [0.113979, 0.156005]),
    "EfficientNetAutoAttB4ST": (224, IMAGENET, [0.169802, 0.196174]),
    "Xception": (224, IMAGENET, [-2.272998, -1.873422]),
    "XceptionST": (224, IMAGENET, [-6.967802, -6.956090]),
    "xception": (256, HALF, [-1.476854 + 8.682054, -1.680135 + 8.684849]),
    "efficientnetb4": (256, HALF, [0.433847 + 0.643216, 0.456740 + 0.684539]),
    "meso4": (256, HALF, [0.399448 + 0.111891, 0.387616 + 0.121728]),
    "meso4Inception": (256, HALF, [0.420016 + 0.397963, 0.469514 + 0.268338]),
    "ResNeXt50-LSTM": (112, IMAGENET, [0.126462 - 0.119426]),  # 0 is fake there
}
QUICK = {"meso4", "meso4Inception", "EfficientNetAutoAttB4ST"}


@pytest.mark.data
@pytest.mark.parametrize("net", [net if net in QUICK else pytest.param(net, marks=pytest.mark.slow) for net in LOGITS])
def test_an_imported_file_answers_as_the_original_code(published_shapes, cache, tmp_path, net):
    size, statistics, expected = LOGITS[net]
    path = tmp_path / f"{net}_rule.pth"
    torch.save(filled_state(published_shapes[net]), path)
    assert main(["weights", "import", str(path)]) == 0
    detector, data, weights = with_weights(f"{net}_rule")
    assert weights.path.parent == cache / "weights"
    assert data.size == size
    network = detector.eval().network
    with torch.no_grad():
        if net == "ResNeXt50-LSTM":
            clip = reference_images(10, size, statistics)[None]
            logit = network(clip, torch.ones(1, 10, dtype=torch.bool))
        else:
            assert (tuple(detector.mean), tuple(detector.std)) == statistics
            logit = network(reference_images(2, size, statistics))
    torch.testing.assert_close(logit.double(), torch.tensor(expected).double(), rtol=1e-4, atol=4e-6)
