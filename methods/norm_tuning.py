"""Norm tuning: the scales and shifts of norms, and the head, are trained; all other weights stay as they are.

Use when: you want one encoder for many targets, and the images differ in contrast or color.
Source: Mudrakarta, Sandler, Zhmoginov, Howard: K For The Price Of 1: Parameter Efficient Multi-task And
Transfer Learning (arXiv 1810.10703), the patch of scales and biases with a new last layer.
Departs from: nothing; batch norms collect statistics of the target as there (`bn=frozen` keeps those of the
source). Layer and group norms have scales and shifts too, and are trained alike.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from .base import Method, Metrics, Problem, train_step
from .components.partial import train_only
from .networks.parameter_groups import is_norm


@dataclass
class Config:
    """No settings."""


class NormTuning(Method[Config]):
    """Fine-tuning of norms and head."""

    title = "Norm tuning"
    paper = "arXiv 1810.10703"
    data_parallel = True
    trains_in_parts = True
    kind = "parameter-efficient"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.recipe = problem.recipe
        self.net = problem.network()
        train_only(self.net, affine(self.net.encoder))
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return a reason for a network without norms."""
        found = list(affine(problem.network().encoder))
        return "" if found else "it trains the scales and shifts of norms, and the backbone has none"

    def step(self, t: int) -> Metrics:
        """Train on the next target batch."""
        return train_step(self.net.target, self.target, self.optimizer, self.recipe.lr_at(t))


def affine(encoder: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the scales and shifts of the norms of an encoder."""
    return (p for m in encoder.modules() if is_norm(m) for p in m.parameters(recurse=False))
