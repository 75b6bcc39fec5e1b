"""DATL: pre-training on source images sampled by their classes' similarity to the target, then fine-tuning.

Use when: the source is large and only a part of it resembles the target, and extra pre-training is
affordable.
Source: Ngiam, Peng, Vasudevan, Kornblith, Le, Pang: Domain Adaptive Transfer Learning with
Specialist Models (arXiv 1811.07056), sections 3 and 4.
Departs from: the specialist starts from the generalist and takes `specialist_share` of its steps
(`init=generalist`), where the paper trains it from random weights for longer (`init=random`); with
`matcher=same` images are sampled in each step, not once into a set of 2 million; if the generalist has
published weights, the specialist uses the learning rate of fine-tuning (`specialist_lr`).

Shape letters: S source classes.
"""

from dataclasses import dataclass
from enum import StrEnum, auto
from math import inf

import torch
from torch import Tensor

from ..datasets.base import Split
from .base import Method, Metrics, Problem, check_ranges, classed_source, train_step
from .networks.network import Network
from .pretrain import Matcher


class Init(StrEnum):
    """The initial weights of the specialist."""

    generalist = auto()  # the shared source pre-training
    random = auto()


@dataclass
class Config:
    """Settings of DATL."""

    matcher: Matcher = Matcher.same  # sampling with (same) or without (elastic) replacement
    temperature: float = 2.0  # temperature of the source classifier's softmax on target images
    init: Init = Init.generalist  # initial weights of the specialist
    specialist_share: float = 0.3  # steps of the specialist, as a share of the generalist's
    specialist_lr: float = 0.0  # learning rate; 0: source_recipe.lr, or recipe.lr with published weights
    num_samples: int = 0  # matcher=elastic: number of sampled images; 0: half of the source

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        shares = {"specialist_share": (1e-6, inf), "specialist_lr": (0, inf)}
        check_ranges(self, {"temperature": (1e-3, inf), "num_samples": (0, inf), **shares})
        return self


class DATL(Method[Config]):
    """Importance weights of source classes, from a source classifier's predictions on target images."""

    title = "DATL"
    paper = "arXiv 1811.07056"
    data_parallel = True
    trains_in_parts = True
    kind = "source selection"
    needs_source = True
    pretrains = True

    def __init__(self, problem: Problem, config: Config) -> None:
        source = classed_source(problem)
        self.config = config
        self.problem = problem
        self.recipe = problem.recipe
        self.net = problem.network()
        self.weight_S = torch.zeros(source.num_classes)
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)

    def prepare(self) -> None:
        """Compute the weights of the source classes, and pre-train a specialist with them."""
        source, target = classed_source(self.problem), self.problem.target
        p_T = label_marginal(self.net, target, self.config.temperature, self.recipe.batch_size)
        p_S = torch.bincount(source.labels.cpu(), minlength=source.num_classes) / len(source)
        self.weight_S = importance(p_T, p_S)
        self.problem.pretrain(
            self.net,
            class_weights=self.weight_S.tolist(),
            matcher=self.config.matcher,
            num_samples=self.config.num_samples,
            from_generalist=self.config.init is Init.generalist,
            steps_share=self.config.specialist_share,
            lr=self.config.specialist_lr,
        )

    def step(self, t: int) -> Metrics:
        """Fine-tune the specialist on the next target batch."""
        return train_step(self.net.target, self.target, self.optimizer, self.recipe.lr_at(t))

    def class_weights(self) -> Tensor | None:
        """Return the importance weights [S]."""
        return self.weight_S


def label_marginal(net: Network, target: Split, temperature: float, batch_size: int) -> Tensor:
    """Return the source classifier's mean probabilities [S] on target images; labels are not used."""
    total = torch.zeros(())
    was_training = net.training
    net.eval()
    with torch.no_grad():
        for x, _ in target.batches(batch_size):
            total = total + (net.source(x) / temperature).softmax(1).sum(0).cpu()
    net.train(was_training)
    return total / len(target)


def importance(p_T: Tensor, p_S: Tensor) -> Tensor:
    """Return the ratio of the marginals [S] to 6 decimals; zero for a class without source images."""
    weight_S = torch.where(p_S > 0, p_T / p_S.clamp(min=1e-12), 0)
    return (weight_S * 1e6).round() / 1e6
