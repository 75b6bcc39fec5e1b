"""Fine-tuning: all weights of the source-pre-trained network are trained on the target.

Use when: you want the reference. Run it in every comparison.
Source: Zhu et al.: Learning to Transfer Learn (arXiv 1908.11406), sections 3 and A.
Departs from: nothing.
"""

from dataclasses import dataclass

from .base import Method, Metrics, Problem, train_step


@dataclass
class Config:
    """No settings."""


class FineTune(Method[Config]):
    """Fine-tuning of all weights; the reference of every comparison."""

    title = "Fine-tuning"
    paper = "arXiv 1908.11406"
    data_parallel = True
    trains_in_parts = True

    def __init__(self, problem: Problem, config: Config) -> None:
        self.recipe = problem.recipe
        self.net = problem.network()
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)

    def step(self, t: int) -> Metrics:
        """Train on the next target batch."""
        return train_step(self.net.target, self.target, self.optimizer, self.recipe.lr_at(t))
