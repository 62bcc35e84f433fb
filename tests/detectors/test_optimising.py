"""Which layer a parameter is of, what rate it gets, and what freezing leaves."""

from __future__ import annotations

import pytest
from torch import nn

from dfdet.detectors.optimising import freeze_to, layer_numbers, parameter_groups
from dfdet.errors import UserError


class Stacked(nn.Module):
    """Two convolutions whose norms stand in a list of their own, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])
        self.output = nn.Linear(4, 1)


def test_lists_of_one_length_that_follow_each_other_are_layers_together():
    numbers = layer_numbers(Stacked())
    assert {name.rpartition(".")[0]: number for name, number in numbers.items()} == {
        "convolutions.0": 0, "norms.0": 0, "convolutions.1": 1, "norms.1": 1, "output": 2,
    }  # fmt: skip


def test_each_layer_s_rate_is_the_next_one_s_by_the_decay():
    groups = parameter_groups(Stacked(), lr=0.8, layer_decay=0.5)
    assert [group["lr"] for group in groups] == [0.8, 0.4, 0.2]
    assert sum(len(group["params"]) for group in groups) == len(list(Stacked().parameters()))


def test_freezing_takes_the_gradient_up_to_a_layer_and_names_its_norms():
    network = Stacked()
    held = freeze_to(network, "convolutions.0")
    assert held == [network.norms[0]]
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trained == {name for name, number in layer_numbers(network).items() if number > 0}
    assert sum(len(group["params"]) for group in parameter_groups(network, 1.0, None)) == len(trained)


@pytest.mark.parametrize(
    ("last", "said"),
    [("output", "leaves nothing of Stacked to train"), ("convolution.0", "did you mean 'convolutions.0'")],
)
def test_a_layer_that_is_none_or_the_last_is_refused(last, said):
    network = Stacked()
    with pytest.raises(UserError, match=said):
        freeze_to(network, last)
    assert all(p.requires_grad for p in network.parameters())
