"""StochNorm: fine-tuning that normalizes each channel by running or by batch statistics, at random.

Use when: the network has batch norms, and few target images give noisy statistics.
Source: Kou, You, Long, Wang: Stochastic Normalization (NeurIPS 2020); `probability` as in the released code
(`thuml/StochNorm`).
Departs from: optimizer, schedule and length are the recipe's. Not followed: a library version
(`thuml/Transfer-Learning-Library`) passes the probability in the position of another argument, so it has no
effect there.

Shape letters: C channels.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ..datasets.base import derive_seed
from .base import Method, Metrics, Problem, check_ranges, train_step


@dataclass
class Config:
    """Settings of StochNorm."""

    probability: float = 0.5  # probability of batch statistics, 0 to 1; 1: plain fine-tuning

    def resolved(self) -> "Config":
        """Check the range. Raises: InputError."""
        check_ranges(self, {"probability": (0, 1)})
        return self


class StochNorm(Method[Config]):
    """Two branches of every batch norm; one is sampled for each channel and pass."""

    title = "StochNorm"
    paper = "NeurIPS 2020"
    data_parallel = True
    trains_in_parts = True
    own_norms = True
    kind = "regularizer"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.seed = problem.seed
        self.generator = torch.Generator(problem.device)
        self.net = problem.network()
        for norm in self.net.norms:
            make_stochastic(norm, config.probability, self.generator)
        self.recipe = problem.recipe
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return a reason for a network without batch norms."""
        net = problem.network()
        if net.frozen_norms:
            return "it needs batch statistics, which bn=frozen leaves unused"
        return "" if net.norms else "it needs batch norms, and the backbone has none"

    def step(self, t: int) -> Metrics:
        """Train on the next target batch, with newly sampled branches."""
        self.generator.manual_seed(derive_seed(self.seed, "branches", t))
        return train_step(self.net.target, self.target, self.optimizer, self.recipe.lr_at(t))


class Stochastic(_BatchNorm):
    """A batch norm with a second branch in training mode; evaluation does not change."""

    probability: float
    generator: torch.Generator

    def forward(self, x: Tensor) -> Tensor:
        """Normalize each channel by batch statistics with `probability`, else by running ones.

        The running branch uses the statistics from before this batch; the other branch updates them.
        """
        if not self.training:
            return super().forward(x)
        running = self._by_running(x)
        draw_C = torch.rand(x.shape[1], generator=self.generator, device=x.device)
        by_batch = (draw_C < self.probability).view(1, -1, *[1] * (x.ndim - 2))
        return torch.where(by_batch, super().forward(x), running)

    def _by_running(self, x: Tensor) -> Tensor:
        """Normalize as in evaluation mode, by copies: the originals change before the backward pass."""
        own = self._buffers
        self._buffers = {name: None if b is None else b.clone() for name, b in own.items()}
        self.training = False
        try:
            return super().forward(x)
        finally:
            self._buffers, self.training = own, True


def make_stochastic(norm: Any, probability: float, generator: torch.Generator) -> None:
    """Change the class of a batch norm, or of a subclass of one, to its stochastic form."""
    norm.__class__ = type(f"Stochastic{type(norm).__name__}", (Stochastic, type(norm)), {})
    norm.probability, norm.generator = probability, generator
