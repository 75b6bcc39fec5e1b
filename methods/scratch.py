"""From scratch: the same training as fine-tuning, from random weights.

Use when: you want to know what pre-training gains.
Source: the row "Random Init" of Zhu et al. (arXiv 1908.11406), table 6.
Departs from: nothing. The number of steps is that of the other methods; more would narrow the gap
(`recipe.steps`).
"""

from dataclasses import dataclass, replace

from .base import Method, Metrics, Problem, train_step


@dataclass
class Config:
    """No settings."""


class Scratch(Method[Config]):
    """Training on the target from random weights."""

    title = "From scratch"
    paper = "arXiv 1908.11406"
    data_parallel = True
    trains_in_parts = True
    uses_pretraining = False

    def __init__(self, problem: Problem, config: Config) -> None:
        self.recipe = problem.recipe
        self.net = problem.network(pretrained=False)
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = replace(self.recipe, layer_decay=1.0).make_optimizer(self.net)

    def step(self, t: int) -> Metrics:
        """Train on the next target batch."""
        return train_step(self.net.target, self.target, self.optimizer, self.recipe.lr_at(t))
