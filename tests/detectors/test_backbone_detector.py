"""timm backbones as detectors: names, statistics, layers that are frozen or learn slower; mistakes are one line."""

from __future__ import annotations

import pytest
import timm
import torch

from dfdet.data.batch import ClipBatch
from dfdet.detectors.backbone import (
    BackboneDetector,
    EfficientNetB4AttDetector,
    EfficientNetB4Detector,
    XceptionAttDetector,
    XceptionDetector,
)
from dfdet.detectors.mesonet import Meso4Detector
from dfdet.errors import UserError

torch.set_num_threads(1)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def random_batch(count: int, frames: int = 1, size: int = 32) -> ClipBatch:
    draw = torch.Generator().manual_seed(0)
    zeros = torch.zeros(count, dtype=torch.int64)
    return ClipBatch(
        video=torch.randint(0, 256, (count, frames, 3, size, size), dtype=torch.uint8, generator=draw),
        mask=torch.ones(count, frames, dtype=torch.bool),
        label=torch.arange(count) % 2,
        weight=torch.ones(count),
        item=torch.arange(count),
        track=zeros,
        clip=zeros,
        frames=torch.zeros(count, frames, dtype=torch.int64),
        pad=torch.zeros(count),
        errors=[],
    )


def small(**options) -> BackboneDetector:
    torch.manual_seed(0)
    options = {"backbone": "mobilenetv3_small_050", "size": 32} | options
    made = BackboneDetector(**options)
    made.log = lambda *_, **__: None  # type: ignore[method-assign]
    return made


@pytest.mark.parametrize("frames", [1, 32])
@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_one_logit_a_clip(frames, pool):
    made = small(pool=pool).eval()
    batch = random_batch(3, frames)
    logit = made(batch)
    assert (logit.shape, logit.dtype) == ((3,), torch.float32)
    alone = torch.cat([made(batch.select(torch.arange(3) == i)) for i in range(3)])
    torch.testing.assert_close(logit, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "size", "mean", "std"),
    [
        ("convnext_atto", 224, *IMAGENET),
        ("vit_tiny_patch16_224", 224, *HALF),
        ("vit_tiny_patch16_384", 384, *HALF),
    ],
)
def test_size_and_statistics_are_those_of_the_weights(backbone, size, mean, std):
    made = BackboneDetector(backbone=backbone)
    assert (made.input_size, made.mean, made.std) == (size, mean, std)


def test_a_tag_chooses_its_statistics():
    one, other = (EfficientNetB4Detector(backbone=f"tf_efficientnet_b4.{tag}") for tag in ("aa_in1k", "ap_in1k"))
    assert (one.mean, one.std) == IMAGENET
    assert (other.mean, other.std) == HALF


def test_clip_s_large_transformer_by_its_tag():
    with torch.device("meta"):
        made = BackboneDetector(backbone="vit_large_patch14_clip_224.openai", tune="norm", normalised=True)
    assert made.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert sum(p.numel() for p in made.parameters() if p.requires_grad) == 102_400 + 1_025


def test_what_the_network_sees_is_normalised_by_mean_and_deviation():
    made = small()
    video = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 4, 4)
    mean, std = (torch.tensor(v) for v in IMAGENET)
    torch.testing.assert_close(made.prepare(video)[0, :, 0, 0], -mean / std)
    torch.testing.assert_close(made.prepare(video)[1, :, 0, 0], (1 - mean) / std)


def test_icpr2020dfdc_s_nets_have_its_settings():
    for kind in (EfficientNetB4Detector, EfficientNetB4AttDetector, XceptionDetector, XceptionAttDetector):
        made = kind()
        assert (made.input_size, made.mean, made.std, made.lr) == (224, *IMAGENET, 1e-5)
        assert made.network.has_attention == ("Att" in kind.__name__)
        dropout = 0.4 if "Efficient" in kind.__name__ else 0.0
        assert made.network.dropout.p == dropout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backbone": "convnext_tinny"}, "did you mean 'convnext_tiny'?"),
        ({"backbone": "resnet18.a1_in2k"}, "timm has no weights 'a1_in2k' of resnet18; did you mean 'a1_in1k'?"),
        ({"attention": True}, "attention is known for tf_efficientnet_b4 and legacy_xception"),
        ({"pad_compat": "en07"}, "pad_compat='en07' is about tf_efficientnet_b4"),
        ({"tune": "lora", "backbone": "resnet10t"}, "no linear layer in an attention"),
        ({"backbone": "vit_tiny_patch16_224", "size": 100}, "patches of 16 pixels"),
        ({"freeze_to": "blocs.1"}, "model.freeze_to 'blocs.1' is no part of Backbone; did you mean 'blocks.1'?"),
        ({"freeze_to": "output"}, "leaves nothing of Backbone to train"),
    ],
)
def test_mistakes_are_one_line(options, said):
    with pytest.raises(UserError) as raised:
        small(**options)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("backbone", ["resnet10t", "legacy_xception"])
def test_weights_that_cannot_be_fetched_are_one_line_that_says_what_to_do(backbone, tmp_path, monkeypatch):
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(UserError) as raised:
        small(backbone=backbone, pretrained=True)
    assert f"the pretrained weights of {backbone} could not be had" in str(raised.value)
    assert "--model.pretrained false" in str(raised.value)


def test_a_network_of_which_no_weights_were_published_says_so():
    name = next(n for n in timm.list_models() if not timm.get_pretrained_cfg(n).has_weights)
    with pytest.raises(UserError, match=f"no weights of {name} were published"):
        BackboneDetector(backbone=name, pretrained=True)


# Layers -------------------------------------------------------------------------------------------------------------


def rates(made):
    groups = made.configure_optimizers().param_groups
    names = {id(p): n for n, p in made.network.named_parameters()}
    return {names[id(p)]: group["lr"] for group in groups for p in group["params"]}


def test_each_layer_of_timm_learns_slower_than_the_one_after_it():
    found = rates(small(backbone="vit_tiny_patch16_224", lr=1.0, layer_decay=0.5))
    assert found["output.weight"] == 1.0
    assert found["trunk.norm.weight"] == found["trunk.blocks.11.attn.qkv.weight"] == 0.5
    assert found["trunk.blocks.0.attn.qkv.weight"] == 0.5**12
    assert found["trunk.patch_embed.proj.weight"] == found["trunk.pos_embed"] == 0.5**13


def test_another_network_s_layers_are_its_parts():
    found = rates(Meso4Detector(lr=1.0, layer_decay=0.5))
    assert found["output.weight"] == 1.0
    assert found["hidden.weight"] == 0.5
    assert found["convolutions.3.weight"] == found["norms.3.weight"] == 0.25
    assert found["convolutions.0.weight"] == found["norms.0.bias"] == 0.5**5


@pytest.mark.parametrize("name", ["blocks.1", "trunk.blocks.1", "conv_stem"])
def test_frozen_layers_get_no_gradient_and_their_norms_stand_still(name):
    made = small(freeze_to=name).train()
    numbers = made.network.layer_numbers()
    named = dict(made.network.named_parameters())
    frozen = {n for n, p in named.items() if not p.requires_grad}
    inside = [n for n in numbers if n.startswith(f"trunk.{name.removeprefix('trunk.')}.")]
    cut = max(numbers[n] for n in inside)
    assert frozen == {n for n, number in numbers.items() if number <= cut}
    assert 0 < len(frozen) < len(named)
    before = {k: v.clone() for k, v in made.network.state_dict().items()}
    made.training_step(random_batch(4), 0).backward()
    torch.optim.SGD([p for p in made.parameters() if p.requires_grad], lr=0.1).step()
    layer_of = {n.rpartition(".")[0]: number for n, number in numbers.items()}
    for key, value in made.network.state_dict().items():
        where = layer_of.get(key.rpartition(".")[0])
        if where is not None and where <= cut:
            assert torch.equal(value, before[key]), key
        elif "running_mean" in key:
            assert not torch.equal(value, before[key]), key


def test_freezing_works_for_networks_that_are_not_timm_s():
    made = Meso4Detector(freeze_to="convolutions.1")
    still = {n for n, p in made.network.named_parameters() if not p.requires_grad}
    parts = [f"{part}.{n}" for part in ("convolutions", "norms") for n in (0, 1)]
    assert still == {f"{part}.{k}" for part in parts for k in ("weight", "bias")}
    made.train()
    assert [norm.training for norm in made.network.norms] == [False, False, True, True]
    with pytest.raises(UserError, match=r"did you mean 'convolutions.1'\?"):
        Meso4Detector(freeze_to="convolution.1")
