"""timm backbones equal the originals of icpr2020dfdc and DeepfakeBench to the number, and do what networks promise.

The originals' weights are filled by a rule from their keys (reference/weights/weights.md, 2.2), so that no file of
weights is needed; what the original code answers lies beside the sample media, and a few of its numbers here.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from torch import nn
from weights_rule import HALF, IMAGENET, filled, reference_images

from dfdet.networks.backbone import Backbone, Gate

torch.set_num_threads(1)
B4, XCEPTION = "tf_efficientnet_b4", "legacy_xception"


# The original's names -> ours ---------------------------------------------------------------------------------------

_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "attconv": "blocks.2.4"}
_SE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"} | _SE
_LATER = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl",
    "_bn2": "bn3",
} | _SE  # fmt: skip
_REPEATS = (2, 4, 4, 6, 6, 8, 2)
_PLACES = [(stage, block) for stage, count in enumerate(_REPEATS) for block in range(count)]


def our_name(key: str) -> str | None:
    """Our parameter's name for one of icpr2020dfdc or of DeepfakeBench's two; None for what the files hold unused."""
    siamese = key.startswith("feat_ext.")
    key = key.removeprefix("feat_ext.").removeprefix("backbone.")
    if (siamese and re.match(r"classifier\.|xception\.last_linear\.", key)) or key.startswith("adjust_channel."):
        return None
    if match := re.fullmatch(r"classifier\.([01])\.(\w+)", key):
        return f"output.{match[1]}.{match[2]}"
    if match := re.fullmatch(r"(?:classifier|last_layer|last_linear|xception\.last_linear)\.(\w+)", key):
        return f"output.{match[1]}"
    if match := re.fullmatch(r"efficientnet\._blocks\.(\d+)\.(\w+)\.(\w+)", key):
        stage, block = _PLACES[int(match[1])]
        return f"trunk.blocks.{stage}.{block}.{(_LATER if stage else _FIRST)[match[2]]}.{match[3]}"
    if match := re.fullmatch(r"efficientnet\.(\w+)\.(\w+)", key):
        return f"trunk.{_TOP[match[1]]}.{match[2]}"
    return f"trunk.{key.removeprefix('xception.')}"


def our_state(shapes: dict[str, list]) -> dict[str, torch.Tensor]:
    """A whole original state dict, filled by the rule, in our spelling; two logits become fake minus real."""
    state: dict[str, torch.Tensor] = {}
    for key, (_, shape) in shapes.items():
        name = our_name(key)
        if name is not None:
            assert name not in state
            value = filled(key, shape)
            state[name] = value[1:] - value[:1] if name.startswith("output.") and shape and shape[0] == 2 else value
    return state


def as_original(network: Backbone, state: dict[str, torch.Tensor]) -> Backbone:
    network.load_state_dict(state, strict=True)
    return network.eval()


OURS: dict[str, dict] = {
    "EfficientNetB4": {"name": B4},
    "EfficientNetAutoAttB4": {"name": B4, "attention": True},
    "EfficientNetB4ST": {"name": B4, "head": "batchnorm"},
    "EfficientNetAutoAttB4ST": {"name": B4, "attention": True, "head": "batchnorm"},
    "Xception": {"name": XCEPTION},
    "XceptionST": {"name": XCEPTION, "head": "batchnorm"},
}
RUNS = [
    *[("EfficientNetB4", v, s) for v in ("0.6.3", "0.7.1") for s in (224, 225, 256, 299)],
    *[
        (f"EfficientNet{n}", v, s)
        for n in ("AutoAttB4", "B4ST", "AutoAttB4ST") for v in ("0.6.3", "0.7.1") for s in (224, 299)
    ],
    *[("Xception", None, s) for s in (224, 256, 299)],
    *[("XceptionST", None, s) for s in (224, 299)],
]  # fmt: skip
PADS = {"0.6.3": "en06", "0.7.1": "en07", None: "tf"}
# weights.md 2.4, 2.5: logits at 224, which stand here so that something is proved without the reference
LOGITS = {
    ("EfficientNetB4", "0.6.3"): (-0.426350, -0.430335),
    ("EfficientNetB4", "0.7.1"): (-0.475112, -0.321202),
    ("EfficientNetAutoAttB4", "0.6.3"): (-0.322839, -0.335370),
    ("EfficientNetAutoAttB4", "0.7.1"): (-0.310267, -0.327191),
    ("EfficientNetB4ST", "0.6.3"): (0.113979, 0.156005),
    ("EfficientNetB4ST", "0.7.1"): (0.098938, 0.170233),
    ("EfficientNetAutoAttB4ST", "0.6.3"): (0.169802, 0.196174),
    ("EfficientNetAutoAttB4ST", "0.7.1"): (0.160713, 0.197283),
    ("Xception", None): (-2.272998, -1.873422),
    ("XceptionST", None): (-6.967802, -6.956090),
}
MADE: dict[tuple[str, str], Backbone] = {}


def spelt(net: str) -> dict[str, list]:
    """Keys and shapes of an original network, from our own by the inverse of the mapping."""
    own = Backbone(**OURS[net]).state_dict()
    inverse = {}
    inner = "feat_ext." if net.endswith("ST") else ""
    family = "xception" if net.startswith("Xception") else "efficientnet"
    for candidate in _candidates(inner, family, own):
        name = our_name(candidate)
        if name in own:
            inverse[candidate] = ["float32", list(own[name].shape)]
    assert len(inverse) == len(own)
    return inverse


def _candidates(inner: str, family: str, own: dict[str, torch.Tensor]):
    plain = "classifier" if family == "efficientnet" else "xception.last_linear"
    heads = ["classifier.0", "classifier.1"] if inner else [plain]
    ends = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    yield from (f"{head}.{end}" for head in heads for end in ends)
    if family == "xception":
        yield from (f"{inner}xception.{name.removeprefix('trunk.')}" for name in own if name.startswith("trunk."))
        return
    yield from (f"{inner}efficientnet.{part}.{end}" for part in _TOP for end in ends)
    for number, (stage, _) in enumerate(_PLACES):
        for part in _LATER if stage else _FIRST:
            yield from (f"{inner}efficientnet._blocks.{number}.{part}.{end}" for end in ends)


def network_of(net: str, version: str | None) -> Backbone:
    """The network with the original's weights; made once, since that takes seconds."""
    pads = PADS[version]
    if (net, pads) not in MADE:
        MADE[net, pads] = as_original(Backbone(**OURS[net], pad_compat=pads), our_state(spelt(net)))
    return MADE[net, pads]


@pytest.fixture(scope="module")
def reference(sample_media: Path) -> Path:
    folder = sample_media.parent / "reference" / "weights"
    if not folder.is_dir():
        pytest.skip(f"no answers of the original networks at {folder}")
    return folder


# Equal to the originals ---------------------------------------------------------------------------------------------


def test_the_rule_gives_the_stated_numbers():
    for key, shape, first, total in [
        ("efficientnet._conv_stem.weight", [48, 3, 3, 3], 0.5171876, 7.6366115),
        ("feat_ext.efficientnet._blocks.9._bn2.running_var", [56], 1.4602993, 53.6754517),
        ("xception.block1.rep.0.pointwise.weight", [128, 64, 1, 1], -0.1235645, -12.3114630),
    ]:
        value = filled(key, shape)
        assert float(value.flatten()[0]) == pytest.approx(first, abs=1e-7)
        assert float(value.double().sum()) == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize(("net", "version"), LOGITS, ids=lambda v: str(v))
def test_logits_at_224_are_the_published_ones(net, version):
    with torch.no_grad():
        logit = network_of(net, version)(reference_images(2, 224, IMAGENET))
    assert logit.tolist() == pytest.approx(LOGITS[net, version], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("net", OURS)
def test_every_key_of_the_original_has_one_place_and_none_stays_empty(net, reference):
    shapes = json.loads((reference / "ispl_state_dicts.json").read_text())[net]
    own = {k: list(v.shape) for k, v in Backbone(**OURS[net]).state_dict().items()}
    assert {our_name(k): shape for k, (_, shape) in shapes.items() if our_name(k)} == own
    assert {k: list(s) for k, (_, s) in spelt(net).items()} == {k: s for k, (_, s) in shapes.items() if our_name(k)}


@pytest.mark.parametrize(("net", "version", "size"), RUNS, ids=lambda v: str(v))
def test_logits_features_and_attention_are_the_original_s_to_1e_4(net, version, size, reference):
    runs = json.loads((reference / "ispl_parity.json").read_text())["runs"]
    run = next(r for r in runs if (r["net"], r.get("efficientnet_pytorch"), r["size"]) == (net, version, size))
    arrays = np.load(reference / "ispl_parity.npz")
    network, images = network_of(net, version), reference_images(2, size, IMAGENET)
    with torch.no_grad():
        features = network.features(images)
        logit = network.classify(features)
        assert logit.tolist() == pytest.approx(run["logit"], rel=1e-4)
        expected = torch.from_numpy(arrays[f"{run['npz']}.features"]).float()
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        if network.has_attention:
            expected = torch.from_numpy(arrays[f"{run['npz']}.attention"]).float()
            attention = network.attention_map(images)
            torch.testing.assert_close(attention, expected.reshape(attention.shape), rtol=1e-4, atol=1e-6)


def test_there_are_25_runs_and_all_are_proved(reference):
    runs = json.loads((reference / "ispl_parity.json").read_text())["runs"]
    assert sorted(map(str, RUNS)) == sorted(str((r["net"], r.get("efficientnet_pytorch"), r["size"])) for r in runs)


@pytest.mark.parametrize("version", ["0.6.3", "0.7.1"])
def test_the_other_line_s_padding_is_another_function(version):
    images, other = reference_images(2, 224, IMAGENET), {"0.6.3": "0.7.1", "0.7.1": "0.6.3"}[version]
    with torch.no_grad():
        own, wrong = (network_of("EfficientNetB4", v)(images) for v in (version, other))
    assert float((own - wrong).abs().max()) > 1e-3


@pytest.mark.parametrize(("size", "same"), [(224, True), (299, False)])
def test_timm_s_own_padding_is_that_of_0_6_3_where_32_divides_the_size(size, same):
    static = network_of("EfficientNetB4", "0.6.3")
    dynamic = as_original(Backbone(B4), static.state_dict())
    with torch.no_grad():
        apart = float(
            (static(reference_images(2, size, IMAGENET)) - dynamic(reference_images(2, size, IMAGENET))).abs().max()
        )
    assert apart < 1e-5 if same else apart > 1e-3


DEEPFAKEBENCH = {
    "xception": ({"name": XCEPTION}, (-1.476854 + 8.682054, -1.680135 + 8.684849)),
    "efficientnetb4": (
        {"name": B4, "pad_compat": "deepfakebench"}, (0.433847 + 0.643216, 0.456740 + 0.684539),
    ),
}  # fmt: skip


@pytest.mark.parametrize("net", DEEPFAKEBENCH)
def test_deepfakebench_s_two_logits_are_one_fake_minus_real(net, reference):
    shapes = json.loads((reference / "deepfakebench_state_dicts.json").read_text())[net]
    runs = json.loads((reference / "deepfakebench_parity.json").read_text())["runs"]
    arrays = np.load(reference / "deepfakebench_parity.npz")
    options, published = DEEPFAKEBENCH[net]
    network = as_original(Backbone(**options), our_state(shapes))
    for run in (r for r in runs if r["net"] == net):
        with torch.no_grad():
            features = network.features(reference_images(2, run["size"], HALF))
            logit = network.classify(features)
        assert logit.tolist() == pytest.approx([fake - real for real, fake in run["logits"]], rel=1e-4)
        expected = torch.from_numpy(arrays[run["npz"]]).float().reshape(features.shape)
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        if run["size"] == 256:
            assert logit.tolist() == pytest.approx(published, rel=1e-4)


def test_deepfakebench_s_stem_is_not_padded(reference):
    shapes = json.loads((reference / "deepfakebench_state_dicts.json").read_text())["efficientnetb4"]
    state, images = our_state(shapes), reference_images(2, 256, HALF)
    with torch.no_grad():
        own, padded = (as_original(Backbone(B4, pad_compat=p), state)(images) for p in ("deepfakebench", "en07"))
    assert float((own - padded).abs().max()) > 1e-3


# What networks promise ----------------------------------------------------------------------------------------------

SMALL = "resnet10t"  # the tests below are about our part around the trunk


def test_parameters_are_counted_as_published():
    # specs.md's count of the siamese nets holds an inner head too, which they never use
    inner = {"EfficientNetB4ST": 1_793, "EfficientNetAutoAttB4ST": 1_793}
    for net, count in [
        ("EfficientNetB4", 17_550_409), ("EfficientNetAutoAttB4", 17_550_466), ("EfficientNetB4ST", 17_555_786),
        ("EfficientNetAutoAttB4ST", 17_555_843), ("Xception", 20_809_001),
    ]:  # fmt: skip
        assert sum(p.numel() for p in network_of(net, None).parameters()) + inner.get(net, 0) == count
    assert sum(p.numel() for p in Backbone(XCEPTION, attention=True).parameters()) == 20_809_258


@pytest.mark.parametrize(("name", "size", "side"), [(B4, 224, 28), (XCEPTION, 224, 28), (XCEPTION, 299, 37)])
def test_attention_maps_have_stride_8_lie_in_0_to_1_and_weigh_the_trunk(name, size, side):
    network = Backbone(name, attention=True).eval()
    gate = next(m for m in network.modules() if isinstance(m, Gate))
    images = torch.randn(1, 3, size, size)
    with torch.no_grad():
        attention = network.attention_map(images)
        assert attention.shape == (1, 1, side, side)
        assert 0 <= float(attention.min()) <= float(attention.max()) <= 1
        before = network(images)
        gate.bias.fill_(-30)  # shut: nothing of the image comes through
        assert not torch.equal(network(images), before)
        torch.testing.assert_close(network(images), network(images.flip(3)), atol=1e-5, rtol=1e-5)


def test_attention_moves_no_name_so_that_it_can_start_from_the_network_without():
    for name in (B4, XCEPTION):
        plain, gated = (set(Backbone(name, attention=a).state_dict()) for a in (False, True))
        assert plain < gated
        assert len(gated - plain) == 2


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_any_network_gives_one_logit_an_image_and_its_features(name):
    network = Backbone(name).eval()
    with torch.no_grad():
        features = network.features(torch.randn(2, 3, 224, 224))
    assert features.shape == (2, network.num_features)
    assert network.classify(features).shape == (2,)


def test_a_transformer_is_built_for_another_size():
    network = Backbone("vit_tiny_patch16_224", size=64).eval()
    assert network(torch.randn(1, 3, 64, 64)).shape == (1,)
    assert network.trunk.pos_embed.shape[1] == 1 + 4 * 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "resnet51q_"}, "timm knows no network 'resnet51q_'"),
        ({"name": SMALL, "attention": True}, "attention is known for tf_efficientnet_b4 and legacy_xception"),
        ({"name": SMALL, "pad_compat": "en06"}, "pad_compat='en06' is about tf_efficientnet_b4"),
        ({"name": XCEPTION, "drop_path": 0.2}, "cannot be made with drop_path_rate=0.2"),
        ({"name": "vit_tiny_patch16_224", "size": 100}, "patches of 16 pixels, of which 100 is no multiple"),
    ],
)
def test_what_cannot_be_had_is_told(options, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        Backbone(**options)


def test_the_recipe_s_settings_reach_the_trunk():
    network = Backbone(B4, drop_path=0.2, bn_momentum=0.01, dropout=0.4)
    norms = [m for m in network.trunk.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}
    rates = [m.drop_prob for m in network.trunk.modules() if type(m).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.2 * 31 / 32)
    assert network.dropout.p == 0.4


def test_normalised_features_make_the_logit_independent_of_their_length():
    network = Backbone(SMALL, normalised=True).eval()
    features = torch.randn(3, network.num_features)
    torch.testing.assert_close(network.classify(features), network.classify(7 * features))


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_every_parameter_gets_a_gradient(name):
    torch.manual_seed(0)
    network = Backbone(name, size=64)
    (network(torch.randn(4, 3, 64, 64)) * torch.tensor([1.0, -2, 3, -4])).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("net", ["EfficientNetAutoAttB4", "XceptionAtt"])
@pytest.mark.slow
def test_every_parameter_of_the_large_ones_gets_a_gradient(net):
    torch.manual_seed(0)
    network = Backbone(**OURS[net], drop_path=0.0) if net in OURS else Backbone(XCEPTION, attention=True)
    (network(torch.randn(4, 3, 96, 96)) * torch.tensor([1.0, -2, 3, -4])).sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_one_image_s_logit_does_not_depend_on_its_neighbours():
    network, images = (
        network_of("EfficientNetB4", "0.6.3"),
        reference_images(2, 224, IMAGENET)[:, :, :96, :96].contiguous(),
    )
    with torch.no_grad():
        alone = torch.cat([network(images[i : i + 1]) for i in range(2)])
        torch.testing.assert_close(network(images), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("net", ["EfficientNetB4ST", "Xception"])
def test_bfloat16_autocast_stays_near_float32(net):
    network, images = network_of(net, None), reference_images(2, 224, IMAGENET)[:1, :, :96, :96].contiguous()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = network(images).float()
    with torch.no_grad():
        assert abs(float(half - network(images))) < 0.3 + 0.05 * abs(float(half))


def test_layers_are_timm_s_from_the_stem_to_the_classifier():
    numbers = Backbone(B4, attention=True).layer_numbers()
    order = ["trunk.conv_stem.weight", "trunk.blocks.0.0.conv_dw.weight", "trunk.blocks.2.3.conv_dw.weight",
             "trunk.blocks.2.4.weight", "trunk.blocks.6.1.conv_dw.weight", "output.weight"]  # fmt: skip
    found = [numbers[name] for name in order]
    assert found == sorted(set(found))
    assert found[-1] == 34  # stem, 32 blocks, gate, classifier: from 0
    assert numbers["trunk.conv_head.weight"] == numbers["trunk.blocks.6.1.conv_dw.weight"]
    for name in (XCEPTION, "vit_tiny_patch16_224", "convnext_atto", SMALL, "csatv2"):
        network = Backbone(name)
        assert set(network.layer_numbers()) == {n for n, _ in network.named_parameters()}


@pytest.mark.parametrize("name", [B4, XCEPTION])
@pytest.mark.slow
def test_it_learns_one_batch_of_real_crops(name, sample_media):
    torch.manual_seed(0)
    shown = []
    for path in [p for kind in ("real", "fake") for p in sorted((sample_media / "dfdc_faces" / kind).iterdir())[:4]]:
        shown.append(cv2.resize(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), (64, 64)))
    images = torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2) / 127.5 - 1
    labels = torch.tensor([0.0] * 4 + [1.0] * 4)
    network = Backbone(name, attention=True)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(25):
        loss = nn.functional.binary_cross_entropy_with_logits(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.1


@pytest.mark.parametrize("name", [B4, XCEPTION, "vit_tiny_patch16_224"])
@pytest.mark.slow
def test_exported_to_onnx_it_gives_the_same_for_any_number_of_images(name, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    network = Backbone(name, size=96, attention=name in (B4, XCEPTION)).eval()
    images = torch.randn(3, 3, 96, 96)
    shapes = ({0: torch.export.Dim("images")},)
    torch.onnx.export(network, (images,), tmp_path / "net.onnx", dynamo=True, dynamic_shapes=shapes, verbose=False)
    session = runtime.InferenceSession(tmp_path / "net.onnx")
    for some in (images, images[:1]):
        (found,) = session.run(None, {session.get_inputs()[0].name: some.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), network(some), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", [B4, XCEPTION, "vit_tiny_patch16_224"])
@pytest.mark.slow
def test_compiled_it_gives_the_same(name):
    torch.manual_seed(0)
    network = Backbone(name, size=96, attention=name in (B4, XCEPTION)).eval()
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(network)(images), network(images), atol=1e-3, rtol=1e-3)


def test_timm_still_has_the_names_that_we_use():
    assert timm.is_model(B4)
    assert timm.is_model(XCEPTION)
    assert timm.get_pretrained_cfg(f"{B4}.aa_in1k").mean == IMAGENET[0]
