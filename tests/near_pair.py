"""The embedded pair with a network that has seen the source for a moment, and a planted variant of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transferbench.methods import catalog
from transferbench.methods.base import Problem
from transferbench.methods.encoders import SmallEncoder
from transferbench.methods.network import Network

STEPS = 200


def pose_near(config_of: Callable[..., Any], posed_of: Callable[..., Any], *options: str) -> Problem:
    given = config_of("pretrain")
    problem = posed_of(given).problem
    recipe = replace(problem.recipe, steps=STEPS, batch_size=32, lr=0.1)
    base = catalog.load("pretrain")(replace(problem, recipe=recipe), given.settings)
    for t in range(STEPS):
        base.step(t)
    problem = posed_of(config_of("finetune", "shots=20", *options)).problem

    def network(pretrained: bool = True) -> Network:
        net = problem.network()
        net.adopt(base.net.state_dict())
        return net

    return replace(problem, network=network)


def with_mislabelled_digits(problem: Problem, seed: int, **recipe: Any) -> Problem:
    """Take the target's own images as source, under a like head, where digits from 5 on are mislabelled."""
    target, labels = problem.target, problem.target.labels.clone()
    rows = torch.nonzero(labels >= 5)[:, 0]
    generator = torch.Generator().manual_seed(seed)
    labels[rows] = labels[rows[torch.randperm(len(rows), generator=generator)]]

    def network(pretrained: bool = True) -> Network:
        net = problem.network()
        net.source_head.weight.data[:10] = net.target_head.weight.data
        return net

    assert problem.source is not None
    source = replace(problem.source, pixels=target.pixels, labels=labels, index=target.index)
    own = replace(problem.recipe, **recipe)
    return replace(problem, source=source, network=network, seed=seed, recipe=own)


class Double(Network):
    """A network that does its arithmetic in float64."""

    def features(self, x: Tensor) -> Tensor:
        return self._run(x.double())

    def target(self, x: Tensor) -> Tensor:
        return self.target_head(self.features(x))

    def source(self, x: Tensor) -> Tensor:
        return self.source_head(self.features(x))


def in_float64(problem: Problem, batch_size: int) -> Problem:
    """Pose it in float64 with random weights, the four first classes as source, and plain steps."""

    def network(pretrained: bool = True) -> Network:
        torch.manual_seed(0)
        return Double(SmallEncoder(), 94, 10, split_norms=False, head_std=0.3).double()

    assert problem.source is not None
    source = problem.source.subset(torch.nonzero(problem.source.labels < 4)[:, 0])
    recipe = replace(problem.recipe, batch_size=batch_size, lr=0.1, weight_decay=0.0)
    return replace(problem, source=source, recipe=recipe, network=network)
