"""BitFit: the biases and the head are trained; all other weights stay as they are.

Use when: you want one encoder for many targets, and to store a thousandth of it for each.
Source: Ben Zaken, Ravfogel, Goldberg: BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based
Masked Language-models (arXiv 2106.10199), section 3.
Departs from: nothing; the shifts of norms are biases, as there. Running statistics of batch norms
follow `bn` as in fine-tuning. Where convolutions have no bias, only the shifts of norms are left.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from .base import Method, Metrics, Problem, train_step
from .components.partial import train_only


@dataclass
class Config:
    """No settings."""


class BitFit(Method[Config]):
    """Fine-tuning of biases and head."""

    title = "BitFit"
    paper = "arXiv 2106.10199"
    data_parallel = True
    trains_in_parts = True
    kind = "parameter-efficient"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.recipe = problem.recipe
        self.net = problem.network()
        train_only(self.net, biases(self.net.encoder))
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return a reason for a network without biases."""
        found = list(biases(problem.network().encoder))
        return "" if found else "it trains biases, and the backbone has none"

    def step(self, t: int) -> Metrics:
        """Train on the next target batch."""
        return train_step(self.net.target, self.target, self.optimizer, self.recipe.lr_at(t))


def biases(encoder: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the biases of an encoder, those of attention included."""
    return (p for name, p in encoder.named_parameters() if name.endswith("bias"))
