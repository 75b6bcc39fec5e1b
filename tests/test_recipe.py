"""Learning rates by hand, and what the optimiser decays."""

import math

import pytest
import torch
from torch import nn
from transferbench.methods.encoders import SmallEncoder
from transferbench.methods.network import Network
from transferbench.methods.recipe import OptimizerName, Recipe, Schedule


def parameters_by_decay(optimizer: torch.optim.Optimizer) -> dict[float, set[int]]:
    return {group["weight_decay"]: {id(p) for p in group["params"]} for group in optimizer.param_groups}


@pytest.fixture
def net() -> Network:
    return Network(SmallEncoder(), 3, 2)


def test_warmup_and_cosine():
    recipe = Recipe(steps=100, lr=0.2, warmup_share=0.1)
    assert recipe.rate(0) == pytest.approx(0.02)
    assert recipe.rate(4) == pytest.approx(0.1)
    assert recipe.rate(9) == recipe.rate(10) == pytest.approx(0.2)
    assert recipe.rate(55) == pytest.approx(0.1)
    assert recipe.rate(99) == pytest.approx(0.1 * (1 + math.cos(math.pi * 89 / 90)))
    assert 0 < recipe.rate(99) < recipe.rate(98)


@pytest.mark.parametrize(("share", "first"), [(0.0, 1.0), (1.0, 0.25)])
def test_no_warmup_and_nothing_but_warmup(share, first):
    recipe = Recipe(steps=4, lr=1.0, warmup_share=share)
    assert recipe.rate(0) == pytest.approx(first)
    assert all(0 < recipe.rate(t) <= 1 for t in range(4))


def test_milestones():
    recipe = Recipe(steps=100, lr=0.5, schedule=Schedule.milestones, milestones=[30, 60])
    assert [recipe.rate(t) for t in (0, 29, 30, 59, 60, 99)] == pytest.approx(
        [0.5, 0.5, 0.05, 0.05, 0.005, 0.005]
    )


def test_constant():
    recipe = Recipe(steps=100, lr=0.3, schedule=Schedule.constant)
    assert {recipe.rate(t) for t in (0, 50, 99)} == {0.3}


def test_kernels_are_decayed_and_norms_and_biases_are_not(net):
    groups = parameters_by_decay(Recipe(weight_decay=0.01).optimise(net))
    assert groups == {
        0.01: {id(p) for n, p in net.named_parameters() if p.ndim > 1},
        0.0: {id(p) for n, p in net.named_parameters() if p.ndim == 1},
    }


@pytest.mark.parametrize("by_argument", [True, False])
def test_biases_are_decayed_on_demand_but_norms_never(net, by_argument):
    recipe = Recipe(weight_decay=0.01, decay_biases=not by_argument)
    groups = parameters_by_decay(recipe.optimise(net, decay_biases=True if by_argument else None))
    heads = (net.source_head, net.target_head)
    assert {id(head.bias) for head in heads} <= groups[0.01]
    assert groups[0.0] == {
        id(p) for m in net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()
    }


def test_frozen_parameters_are_left_out(net):
    net.encoder.requires_grad_(False)
    groups = parameters_by_decay(Recipe().optimise(net))
    assert set.union(*groups.values()) == {
        id(p) for head in (net.source_head, net.target_head) for p in head.parameters()
    }


def test_optimisers(net):
    sgd = Recipe(momentum=0.8, nesterov=True).optimise(net)
    assert isinstance(sgd, torch.optim.SGD)
    assert {(g["momentum"], g["nesterov"]) for g in sgd.param_groups} == {(0.8, True)}
    adam = Recipe(optimizer=OptimizerName.adam, lr=0.003, weight_decay=0.01).optimise(net)
    assert isinstance(adam, torch.optim.Adam)
    assert {g["lr"] for g in adam.param_groups} == {0.003}
    assert set(parameters_by_decay(adam)) == {0.01, 0.0}
