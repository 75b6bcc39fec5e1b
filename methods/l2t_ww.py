"""L2T-ww: training from random weights, with feature matching to a pre-trained network by learned weights.

Use when: the target network has another architecture than the pre-trained one, and cost matters little.
Source: Jang, Lee, Hwang, Shin: Learning What and Where to Transfer (arXiv 1905.05901), its algorithm;
constants as in the released code (`alinlab/L2T-ww`).
Departs from: (1) stages are the last four of any backbone, which in ResNets are the paper's; (2) optimizer,
schedule and length are the recipe's, and the last weights are evaluated, not those of the best epoch; (3)
biases decay only if the recipe says so, and norms never, where the released code decays all. Not followed:
in the released code running statistics are updated once more a batch, after the weights were restored; here
unrolled steps do not change them.

Shape letters: B images, M stages of the teacher, N of the student, C channels of the teacher's map, D of the
student's, h, w places of the student's map.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import InputError
from .base import Method, Metrics, Problem, check_ranges, timed, update
from .components.unrolled import Unrolled, twice_differentiable, why_no_second_derivative
from .metrics import classification_loss
from .networks.network import Network, frozen_statistics
from .recipe import OptimizerName, Recipe


class Pairing(StrEnum):
    """The pairs of a teacher's and a student's stage that are matched."""

    all_all = auto()
    one_to_one = auto()  # counted from the last, if depths differ
    single = auto()  # the last stages

    def pairs(self, num_teacher: int, num_student: int) -> list[tuple[int, int]]:
        """Return the pairs (m, n) of a teacher's and a student's stage."""
        if self is Pairing.all_all:
            return [(m, n) for m in range(num_teacher) for n in range(num_student)]
        count = 1 if self is Pairing.single else min(num_teacher, num_student)
        return [(num_teacher - i, num_student - i) for i in range(count, 0, -1)]


@dataclass
class Config:
    """Settings of L2T-ww."""

    student: str = ""  # backbone of the trained network; empty: the teacher's
    pairs: Pairing = Pairing.all_all  # pairs of stages that are matched
    num_stages: int = 4  # number of last stages of each network
    beta: float = 0.5  # weight of the matching loss
    inner_steps: int = 2  # unrolled steps on the matching loss, before one on the target loss
    meta_lr: float = 1e-4  # Adam's learning rate of the matching weights
    meta_weight_decay: float = 1e-4  # Adam's weight decay of the matching weights

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        at_least = {"num_stages": 1, "beta": 0, "inner_steps": 1, "meta_lr": 0, "meta_weight_decay": 0}
        check_ranges(self, {name: (least, inf) for name, least in at_least.items()})
        return self


class L2TWW(Method[Config]):
    """Feature matching with channel and pair weights that are learned from the target loss after it."""

    title = "L2T-ww"
    paper = "arXiv 1905.05901"
    kind = "meta"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config, self.recipe = config, problem.recipe
        self.teacher = problem.network().requires_grad_(False).eval()
        self.net = problem.network(pretrained=False, backbone=config.student)
        if config.student and (
            reason := why_no_second_derivative(replace(problem, network=lambda pretrained: self.net))
        ):
            raise InputError(f"method.student={config.student}: {reason}; expected another backbone")
        x, _ = next(problem.target.batches(1))
        C_M, D_N = ([m.shape[1] for m in self.maps(net.eval(), x)] for net in (self.teacher, self.net))
        self.net.train()
        self.pairs = config.pairs.pairs(len(C_M), len(D_N))
        self.bridges = connectors([(C_M[m], D_N[n]) for m, n in self.pairs]).to(problem.device)
        self.weigh = WhatWhere([C_M[m] for m, _ in self.pairs]).to(problem.device)
        self.optimizer = replace(self.recipe, layer_decay=1.0).make_optimizer(self.student)
        self.meta_optimizer = torch.optim.Adam(self.weigh.parameters(), weight_decay=config.meta_weight_decay)
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return a reason for networks without second derivatives and for optimizers other than SGD."""
        if problem.recipe.optimizer is not OptimizerName.sgd:
            return f"it unrolls steps of SGD, and the recipe's optimizer is {problem.recipe.optimizer}"
        return why_no_second_derivative(problem)

    @property
    def student(self) -> nn.Module:
        """The modules that the optimizer trains."""
        return nn.ModuleList([self.net, self.bridges])

    def step(self, t: int) -> Metrics:
        """Train on target and matching loss; then update the matching weights by the unrolled target loss."""
        with timed("data"):
            x, y = next(self.target)
        with timed("source"), torch.no_grad():
            teacher_maps = self.maps(self.teacher, x)
        weights = self.weigh([teacher_maps[m] for m, _ in self.pairs])
        with timed("target"):
            feature_BF, maps = self.net.tapped(x)
            loss = classification_loss(
                self.net.target_head(feature_BF).float(), y, weight_C=self.target.weight_C
            )
            fixed = [(what_BC.detach(), where_B.detach()) for what_BC, where_B in weights]
            matching = self.matching(teacher_maps, maps[-self.config.num_stages :], fixed)
            (loss + matching).backward()
            update(self.optimizer, self.recipe.lr_at(t))
        with timed("policy"):
            meta_loss = self.unrolled_loss(teacher_maps, weights, x, y)
            meta_loss.backward(inputs=list(self.weigh.parameters()))
            update(self.meta_optimizer, self.config.meta_lr)
        where = torch.stack([where_B for _, where_B in fixed]).mean()
        return {
            "loss": loss.detach(),
            "matching": matching.detach(),
            "meta_loss": meta_loss.detach(),
            "where": where,
        }

    def unrolled_loss(self, teacher_maps: list[Tensor], weights: Any, x: Tensor, y: Tensor) -> Tensor:
        """Return the target loss [] after unrolled steps on the matching loss and one on the target loss."""
        matching = lambda: self.matching(teacher_maps, self.maps(self.net, x), weights)  # noqa: E731
        weight_C = self.target.weight_C
        target = lambda: classification_loss(self.net.target(x), y, weight_C=weight_C)  # noqa: E731
        ahead = Unrolled(self.student, self.optimizer)
        with frozen_statistics(self.net), twice_differentiable():
            for _ in range(self.config.inner_steps):
                ahead.step(matching)
            ahead.step(target)
            return ahead.at(target)

    def matching(self, teacher_maps: list[Tensor], maps: list[Tensor], weights: Any) -> Tensor:
        """Return beta times the matching loss [] of all pairs."""
        of_teacher, of_student = zip(*((teacher_maps[m], maps[n]) for m, n in self.pairs), strict=True)
        return self.config.beta * matching_loss(of_teacher, of_student, self.bridges, weights)

    def maps(self, net: Network, x: Tensor) -> list[Tensor]:
        """Return the maps [B,C,h,w] of a network's last stages."""
        return net.tapped(x)[1][-self.config.num_stages :]

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count the unrolled steps too, threefold as they are differentiated; the teacher judges."""
        return (3 * config.inner_steps + 5) * recipe.batch_size, recipe.batch_size


class WhatWhere(nn.Module):
    """Weights of channels (what) and of pairs (where) for each image, from the teacher's maps.

    Initially all channels of a map have the same weight, and pairs a weight of about one.

    Args:
        widths: C, channels of the teacher's map in each pair.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.what, self.where = nn.ModuleList(), nn.ModuleList()
        for C in widths:
            what, where = nn.Linear(C, C), nn.Linear(C, 1)
            nn.init.zeros_(what.weight)
            nn.init.zeros_(what.bias)
            nn.init.ones_(where.bias)
            self.what.append(what)
            self.where.append(where)

    def forward(self, teacher_maps: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return channel weights [B,C] and pair weights [B], 0 to 6, for a map [B,C,h,w] of each pair."""
        weights = []
        for what, where, map_ in zip(self.what, self.where, teacher_maps, strict=True):
            mean_BC = map_.mean((2, 3))
            weights.append((what(mean_BC).softmax(1), F.relu6(where(mean_BC))[:, 0]))
        return weights


def connectors(widths: list[tuple[int, int]]) -> nn.ModuleList:
    """Build a 1x1 convolution from the student's D channels to the teacher's C, for each pair (C, D)."""
    return nn.ModuleList(nn.Conv2d(D, C, 1) for C, D in widths)


def matching_loss(
    teacher_maps: Sequence[Tensor],
    student_maps: Sequence[Tensor],
    bridges: nn.ModuleList,
    weights: list[tuple[Tensor, Tensor]],
) -> Tensor:
    """Return the weighted squared distance [] of maps: mean over places and images, sum over pairs.

    Args:
        teacher_maps: [B,C,·,·], one a pair; resized to the student's.
        student_maps: [B,D,h,w], one a pair.
        bridges: `connectors`.
        weights: weights of channels [B,C] and of the pair [B], one tuple a pair.
    """
    losses = []
    for teacher, student, bridge, (what_BC, where_B) in zip(
        teacher_maps, student_maps, bridges, weights, strict=True
    ):
        if teacher.shape[2:] != student.shape[2:]:
            teacher = F.interpolate(teacher, size=student.shape[2:], mode="bilinear")
        distance_BC = (teacher - bridge(student)).square().mean((2, 3))
        losses.append((where_B * (what_BC * distance_BC).sum(1)).mean())
    return torch.stack(losses).sum()
