"""Gradual unfreezing: the head is trained first, then one more part of the encoder at a time, the last first.

Use when: fine-tuning on few images forgets what the first layers knew.
Source: Howard, Ruder: Universal Language Model Fine-tuning for Text Classification (arXiv 1801.06146),
section 3.3, gradual unfreezing.
Departs from: a part is a quarter of the encoder, not a layer, and is added after a share of the steps, not
after an epoch. The paper's rates by layer and slanted schedule are not used: the recipe has one rate and one
schedule for all methods. Running statistics of batch norms follow `bn`, in frozen parts too.
"""

from dataclasses import dataclass
from math import inf

from .base import Method, Metrics, Problem, check_ranges, train_step
from .components.partial import train_only
from .components.stages import by_depth


@dataclass
class Config:
    """Settings of gradual unfreezing."""

    share: float = 0.5  # share of the steps after which all is trained, 0 to 1; 0: plain fine-tuning
    num_parts: int = 4  # number of parts of the encoder

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"share": (0, 1), "num_parts": (1, inf)})
        return self


class Gradual(Method[Config]):
    """Fine-tuning from the head down."""

    title = "Gradual unfreezing"
    paper = "arXiv 1801.06146"
    data_parallel = True
    trains_in_parts = True

    def __init__(self, problem: Problem, config: Config) -> None:
        self.recipe = problem.recipe
        self.net = problem.network()
        self.parts = by_depth(self.net.encoder, config.num_parts)
        self.num_steps = config.share * self.recipe.steps
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)

    def num_trained(self, t: int) -> int:
        """Return the number of parts that step t trains, counted from the last."""
        return len(self.parts) if t >= self.num_steps else int(len(self.parts) * t / self.num_steps)

    def step(self, t: int) -> Metrics:
        """Train the parts of this step and the head on the next target batch."""
        trained = self.parts[len(self.parts) - self.num_trained(t) :]
        train_only(self.net, (weight for part in trained for weight in part))
        return train_step(self.net.target, self.target, self.optimizer, self.recipe.lr_at(t))
