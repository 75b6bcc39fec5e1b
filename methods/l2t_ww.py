"""L2T-ww: from random weights, matching the maps of a pre-trained network by weights learned on the way.

Source: Jang, Lee, Hwang, Shin: Learning What and Where to Transfer (arXiv 1905.05901), its algorithm;
constants as in the released code (`alinlab/L2T-ww`).
Departs from: (1) stages are the last four of any backbone, which in ResNets are the paper's; (2) optimiser,
schedule and length are the recipe's, and the last weights are judged, not those of the best epoch;
(3) biases and norms decay only where the recipe has it so. Not followed: in the released code running
statistics move once more a batch, after the weights were put back; here no thought step moves them.

Shape letters: B images, M stages of the teacher, N of the student.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from .. import InputError
from .base import Method, Metrics, Problem, check_ranges, timed, update
from .components.lookahead import twice_differentiable, why_not
from .components.unrolled import Unrolled
from .feature_matching import Pairing, WhatWhere, connectors, matching_loss
from .metrics import classification_loss
from .networks.network import Network, frozen_statistics
from .recipe import OptimizerName


class L2TWW(Method):
    """Feature matching, where the target loss after it says what channels and which pairs of stages count."""

    title = "L2T-ww"
    paper = "arXiv 1905.05901"
    kind = "meta"

    @dataclass
    class Config:
        """What is matched, how strongly, and how the weights are learned."""

        student: str = ""  # backbone that is trained; empty: the teacher's
        pairs: Pairing = Pairing.all_all
        num_stages: int = 4  # the last ones of either network
        beta: float = 0.5  # of the matching loss
        inner_steps: int = 2  # on the matching loss alone, before the one on the target loss
        meta_lr: float = 1e-4  # Adam's
        meta_weight_decay: float = 1e-4

        def resolved(self) -> "L2TWW.Config":
            """Check the ranges. Raises: InputError."""
            at_least = {"num_stages": 1, "beta": 0, "inner_steps": 1, "meta_lr": 0, "meta_weight_decay": 0}
            check_ranges(self, {name: (least, inf) for name, least in at_least.items()})
            return self

    def __init__(self, problem: Problem, config: Any) -> None:
        self.config, self.recipe = config, problem.recipe
        self.teacher = problem.network().requires_grad_(False).eval()
        self.net = problem.network(pretrained=False, backbone=config.student)
        if config.student and (reason := why_not(replace(problem, network=lambda pretrained: self.net))):
            raise InputError(f"method.student={config.student}: {reason}; expected another backbone")
        x, _ = next(problem.target.batches(1))
        C_M, D_N = ([m.shape[1] for m in self.maps(net.eval(), x)] for net in (self.teacher, self.net))
        self.net.train()
        self.pairs = config.pairs.pairs(len(C_M), len(D_N))
        self.bridges = connectors([(C_M[m], D_N[n]) for m, n in self.pairs]).to(problem.device)
        self.weigh = WhatWhere([C_M[m] for m, _ in self.pairs]).to(problem.device)
        self.optimizer = self.recipe.make_optimizer(self.student)
        self.meta_optimizer = torch.optim.Adam(self.weigh.parameters(), weight_decay=config.meta_weight_decay)
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Refuse what has no second derivatives, and steps that are not those of momentum SGD."""
        if problem.recipe.optimizer is not OptimizerName.sgd:
            return f"it looks ahead by steps of SGD, and the recipe's optimizer is {problem.recipe.optimizer}"
        return why_not(problem)

    @property
    def student(self) -> nn.Module:
        """All that the optimiser trains."""
        return nn.ModuleList([self.net, self.bridges])

    def step(self, t: int) -> Metrics:
        """Train on target and matching loss; then learn the weights by what matching alone would lead to."""
        with timed("data"):
            x, y = next(self.target)
        with timed("source"), torch.no_grad():
            teacher_maps = self.maps(self.teacher, x)
        weights = self.weigh([teacher_maps[m] for m, _ in self.pairs])
        with timed("target"):
            feature_BF, maps = self.net.tapped(x)
            loss = classification_loss(self.net.target_head(feature_BF).float(), y)
            fixed = [(what_BC.detach(), where_B.detach()) for what_BC, where_B in weights]
            matching = self.matching(teacher_maps, maps[-self.config.num_stages :], fixed)
            (loss + matching).backward()
            update(self.optimizer, self.recipe.lr_at(t))
        with timed("policy"):
            meta_loss = self.look_ahead(teacher_maps, weights, x, y)
            meta_loss.backward(inputs=list(self.weigh.parameters()))
            update(self.meta_optimizer, self.config.meta_lr)
        where = torch.stack([where_B for _, where_B in fixed]).mean()
        return {
            "loss": loss.detach(),
            "matching": matching.detach(),
            "meta_loss": meta_loss.detach(),
            "where": where,
        }

    def look_ahead(self, teacher_maps: list[Tensor], weights: Any, x: Tensor, y: Tensor) -> Tensor:
        """Give the target loss after steps on the matching loss and one on the target loss, same images."""
        matching = lambda: self.matching(teacher_maps, self.maps(self.net, x), weights)  # noqa: E731
        target = lambda: classification_loss(self.net.target(x), y)  # noqa: E731
        ahead = Unrolled(self.student, self.optimizer)
        with frozen_statistics(self.net), twice_differentiable():
            for _ in range(self.config.inner_steps):
                ahead.step(matching)
            ahead.step(target)
            return ahead.at(target)

    def matching(self, teacher_maps: list[Tensor], maps: list[Tensor], weights: Any) -> Tensor:
        """Give the matching loss of all pairs, times beta."""
        of_teacher, of_student = zip(*((teacher_maps[m], maps[n]) for m, n in self.pairs), strict=True)
        return self.config.beta * matching_loss(of_teacher, of_student, self.bridges, weights)

    def maps(self, net: Network, x: Tensor) -> list[Tensor]:
        """Give the maps [B,C,h,w] of a network's last stages."""
        return net.tapped(x)[1][-self.config.num_stages :]

    @classmethod
    def images_per_step(cls, config: Any, batch_size: int) -> tuple[int, int]:
        """Count the thought steps too, three for one that is differentiated; the teacher judges."""
        return (3 * config.inner_steps + 5) * batch_size, batch_size
