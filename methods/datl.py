"""DATL: pre-train on a source that is drawn to look like the target, then fine-tune.

Source: Ngiam, Peng, Vasudevan, Kornblith, Le, Pang: Domain Adaptive Transfer Learning with
Specialist Models (arXiv 1811.07056), sections 3 and 4.
Departs from: the specialist starts from the generalist and takes `specialist_share` of its steps
(`init=generalist`), where the paper trains it from random weights for longer (`init=random`);
with `matcher=same` images are drawn without end, not from a fixed draw of 2 million; where the
generalist is of published weights, the specialist learns at the rate of fine-tuning (`specialist_lr`).

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
    """Where the specialist starts."""

    generalist = auto()
    random = auto()


@dataclass
class Config:
    """How the source is drawn, and how the specialist is trained."""

    matcher: Matcher = Matcher.same
    temperature: float = 2.0  # of the softmax, before the average over images
    init: Init = Init.generalist
    specialist_share: float = 0.3  # of the generalist's steps
    specialist_lr: float = 0.0  # 0: source_recipe.lr; of a generalist of published weights, recipe.lr
    num_samples: int = 0  # elastic: size of the drawn set; 0: half of the source

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        shares = {"specialist_share": (1e-6, inf), "specialist_lr": (0, inf)}
        check_ranges(self, {"temperature": (1e-3, inf), "num_samples": (0, inf), **shares})
        return self


class DATL(Method[Config]):
    """Importance weights of source classes by what a source classifier sees in target images."""

    title = "DATL"
    paper = "arXiv 1811.07056"
    data_parallel = True
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
        """Weigh the source classes by the target's images, and pre-train a specialist on them."""
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
    """Average the source classifier's probabilities [S] over the target's images; no labels used."""
    total = torch.zeros(())
    was_training = net.training
    net.eval()
    with torch.no_grad():
        for x, _ in target.batches(batch_size):
            total = total + (net.source(x) / temperature).softmax(1).sum(0).cpu()
    net.train(was_training)
    return total / len(target)


def importance(p_T: Tensor, p_S: Tensor) -> Tensor:
    """Divide the marginals [S]; classes without a source image weigh nothing. Rounded to 6 digits."""
    weight_S = torch.where(p_S > 0, p_T / p_S.clamp(min=1e-12), 0)
    return (weight_S * 1e6).round() / 1e6
