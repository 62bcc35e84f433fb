"""What is trained of a network, and that low-rank steps start as nothing and can be merged."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from dfdet.networks.backbone import Backbone
from dfdet.networks.tuning import LoRALinear, merge_lora, tune

torch.set_num_threads(1)
VIT = "vit_tiny_patch16_224"


def trained(network):
    return {name for name, p in network.named_parameters() if p.requires_grad}


def step(network, images, lr=0.1):
    """One step of plain descent on the sum of squares; returns what moved and which statistics did."""
    before = {k: v.clone() for k, v in network.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=lr)
    (network(images) - 5).square().sum().backward()
    optimiser.step()
    return {k for k, v in network.state_dict().items() if not torch.equal(v, before[k])}


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_norm_tuning_of_clip_s_large_transformer_is_the_published_share():
    with torch.device("meta"):
        trunk = timm.create_model("vit_large_patch14_clip_224", num_classes=0)
        tune(trunk, "norm")
    count = sum(p.numel() for p in trunk.parameters() if p.requires_grad)
    assert count == 50 * 2 * 1024  # before the blocks, twice in each of 24, after them
    assert count / sum(p.numel() for p in trunk.parameters()) == pytest.approx(0.0003, abs=5e-5)


@pytest.mark.parametrize("name", [VIT, "convnext_atto", "resnet10t", "mobilenetv4_conv_small"])
def test_norm_tuning_moves_scales_and_shifts_of_norms_and_the_head_alone(name, images):
    network = Backbone(name, size=32, tuned="norm").train()
    norms = {
        f"{where}.{k}"
        for where, m in network.named_modules()
        if "norm" in type(m).__name__.lower()
        for k, _ in m.named_parameters(recurse=False)
    }
    assert trained(network) == norms | {"output.weight", "output.bias"}
    assert step(network, images) & {n for n, _ in network.named_parameters()} <= trained(network)


def test_head_tuning_is_a_linear_probe_whose_trunk_stands_still_in_training(images):
    network = Backbone("resnet10t", tuned="head", drop_path=0.5).train()
    assert trained(network) == {"output.weight", "output.bias"}
    assert step(network, images) == {"output.weight", "output.bias"}
    assert torch.equal(network.features(images), network.features(images))


def test_a_drifting_trunk_moves_its_statistics_and_nothing_else(images):
    moved = step(Backbone("resnet10t", tuned="head", drift=True).train(), images)
    assert {name.rpartition(".")[2] for name in moved if name.startswith("trunk")} == {
        "running_mean", "running_var", "num_batches_tracked",
    }  # fmt: skip


def test_lora_starts_as_nothing_learns_and_keeps_every_name(images):
    torch.manual_seed(0)
    plain = Backbone(VIT, size=32).eval()
    network = Backbone(VIT, size=32, tuned="lora", lora_rank=4)
    own = network.state_dict()
    assert set(plain.state_dict()) < set(own)
    network.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(network.eval()(images), plain(images))
    assert {name.rpartition(".")[2] for name in trained(network)} == {"lora_a", "lora_b", "weight", "bias"}
    assert trained(network) - {"output.weight", "output.bias"} == {n for n in own if "lora" in n}
    moved = step(network, images) | step(network, images)  # the first step moves lora_b, on which lora_a's rests
    assert moved == trained(network)


def test_batch_norms_beside_lora_keep_their_statistics(images):
    network = Backbone("mobilevit_xxs", tuned="lora").train()
    assert any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert step(network, images) <= trained(network)


def test_lora_is_on_attention_and_mlp_and_counts_as_its_rank_says():
    network = Backbone(VIT, tuned="lora", lora_rank=4)
    adapted = {n.rpartition("blocks.0.")[2] for n, m in network.named_modules() if isinstance(m, LoRALinear)}
    assert {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"} <= adapted
    sides = 12 * ((192 + 576) + (192 + 192) + (192 + 768) + (768 + 192))
    assert sum(p.numel() for n, p in network.named_parameters() if "lora" in n) == 4 * sides


def test_merged_it_does_the_same_with_plain_layers_and_the_plain_network_s_names(images):
    torch.manual_seed(0)
    network = Backbone(VIT, size=32, tuned="lora").eval()
    for name, parameter in network.named_parameters():
        if name.endswith("lora_b"):
            nn.init.normal_(parameter, std=0.05)
    before, merged = network(images), copy.deepcopy(network)
    assert merge_lora(merged) == 48
    torch.testing.assert_close(merged(images), before, atol=1e-4, rtol=1e-4)
    assert set(merged.state_dict()) == set(Backbone(VIT, size=32).state_dict())
    assert not torch.allclose(Backbone(VIT, size=32).eval()(images), before)


def test_attention_that_comes_with_no_pretraining_is_trained_beside_norms_not_beside_a_probe():
    gate = {"trunk.blocks.2.4.weight", "trunk.blocks.2.4.bias"}
    assert gate <= trained(Backbone("tf_efficientnet_b4", attention=True, tuned="norm"))
    assert not gate & trained(Backbone("tf_efficientnet_b4", attention=True, tuned="head"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Backbone("resnet10t", tuned="lora"), "no linear layer in an attention or an MLP"),
        (lambda: Backbone("beit_base_patch16_224", tuned="lora"), "keeps biases apart"),
        (lambda: Backbone(VIT, tuned="lora", lora_rank=0), "it must be at least 1"),
        (lambda: tune(nn.Linear(2, 2), "norm"), "Linear has no normalisation layer"),
        (lambda: tune(nn.Linear(2, 2), "nrom"), "none of all, norm, lora, head"),
    ],
)
def test_what_cannot_be_tuned_is_told(make, said):
    with torch.device("meta"), pytest.raises(ValueError, match=said):
        make()


def test_bfloat16_autocast_runs_through_lora(images):
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(Backbone(VIT, size=32, tuned="lora").eval()(images)).all()
