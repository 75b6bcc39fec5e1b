"""Feature decay: fine-tuning with a penalty on the mean square of the features.

Use when: you want an example. Copy this file to `methods/mine.py` and change it.
Source: none. A method from the literature names authors, title, arXiv number and section here.
Departs from: nothing. A method from the literature lists here where it differs from its source.

Shape letters: B images, F features.
"""

from dataclasses import dataclass

from .base import Method, Metrics, Problem, check_ranges, timed, update
from .metrics import classification_loss


@dataclass
class Config:
    """Settings of feature decay: `method.<name>`, with their only defaults."""

    weight: float = 0.01  # weight of the penalty

    def resolved(self) -> "Config":
        """Check the settings. Raises InputError if a value is out of range."""
        check_ranges(self, {"weight": (0, 1e6)})
        return self


class FeatureDecay(Method[Config]):
    """Cross-entropy plus `weight` times the mean square of the features."""

    title = "Feature decay"
    paper = "none"
    kind = "regularizer"
    data_parallel = True  # every loss is a mean over the batch

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config = config
        self.recipe = problem.recipe
        self.net = problem.network()  # starts from the shared source pre-training
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)

    def step(self, t: int) -> Metrics:
        """Train on the next target batch; return scalars that stay on the device."""
        with timed("data"):
            x, y = next(self.target)
        with timed("target"):
            feature_BF = self.net.features(x)
            loss = classification_loss(
                self.net.target_head(feature_BF).float(), y, weight_C=self.target.weight_C
            )
            penalty = feature_BF.square().mean()
            (loss + self.config.weight * penalty).backward()
            update(self.optimizer, self.recipe.lr_at(t))
        return {"loss": loss.detach(), "penalty": penalty.detach()}
