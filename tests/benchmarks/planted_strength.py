"""Fine-tuning whose strength has a planted best value: 0.1. Elsewhere, labels of its batches are wrong."""

from dataclasses import dataclass, field
from math import log10

import torch

from .base import Method, Metrics, Problem, timed, update
from .metrics import classification_loss


@dataclass
class Config:
    """Settings of the planted method."""

    strength: float = field(default=0.01, metadata={"tuned": (0.001, 1.0)})
    share: float = 0.9  # largest share of wrong labels, a decade from the best strength

    def resolved(self) -> "Config":
        return self


class Planted(Method[Config]):
    """Fine-tuning with wrong labels, except at one strength."""

    title = "Planted strength"
    paper = "none"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.recipe = problem.recipe
        self.net = problem.network()
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)
        self.wrong = config.share * min(1.0, abs(log10(config.strength / 0.1)))

    def step(self, t: int) -> Metrics:
        with timed("target"):
            x, y = next(self.target)
            z = self.net.target(x)
            num_wrong = round(self.wrong * len(y))
            y = torch.cat([(y[:num_wrong] + 1) % z.shape[1], y[num_wrong:]])
            loss = classification_loss(z, y)
            loss.backward()
            update(self.optimizer, self.recipe.lr_at(t))
        return {"loss": loss.detach()}
