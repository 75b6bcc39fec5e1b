"""LwF: fine-tuning with distillation of the pre-trained network's source predictions on target images.

Use when: the network has to keep its answers on source classes.
Source: Li & Hoiem: Learning without Forgetting (arXiv 1606.09282), section 3, equation 2; `weight` and
`temperature` as in the Transfer-Learning-Library (`thuml`), where the paper has 1 and 2.
Departs from: the old network predicts on each training batch; the library stores its predictions once, for
another random crop than the one that is trained on. No first stage for the new head alone (its weights start
small), and as in the library no factor T^2.

Shape letters: B images, F features, S source classes.
"""

from dataclasses import dataclass, field
from math import inf

import torch
from torch import Tensor

from .base import Method, Metrics, Problem, check_ranges, timed, update
from .metrics import classification_loss
from .recipe import Recipe


@dataclass
class Config:
    """Settings of LwF."""

    # Weight of the distillation loss
    weight: float = field(default=4.0, metadata={"tuned": (0.05, 20.0)})
    temperature: float = 3.0  # temperature of the distillation

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"weight": (0, inf), "temperature": (1e-3, inf)})
        return self


class LwF(Method[Config]):
    """Distillation from the pre-trained network's source head, on target images."""

    title = "LwF"
    paper = "arXiv 1606.09282"
    data_parallel = True
    kind = "regularizer"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config = config
        self.recipe = problem.recipe
        self.old = problem.network().requires_grad_(False).eval()
        self.net = problem.network()
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return a reason if there is no source, or a source without classes."""
        return no_source_classes(problem)

    def step(self, t: int) -> Metrics:
        """Train on the next target batch: its labels, and the old network's source predictions."""
        with timed("data"):
            x, y = next(self.target)
        with timed("source"), torch.no_grad():
            old_BS = self.old.source(x)
        with timed("target"):
            feature_BF = self.net.features(x)
            loss = classification_loss(
                self.net.target_head(feature_BF).float(), y, weight_C=self.target.weight_C
            )
            kept = distillation(self.net.source_head(feature_BF).float(), old_BS, self.config.temperature)
            (loss + self.config.weight * kept).backward()
            update(self.optimizer, self.recipe.lr_at(t))
        return {"loss": loss.detach(), "distillation": kept.detach()}

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count the old network's pass too."""
        return recipe.batch_size, recipe.batch_size


def distillation(logits_BS: Tensor, old_BS: Tensor, temperature: float) -> Tensor:
    """Return the mean Kullback-Leibler divergence [] of the softened predictions from the old ones."""
    new_BS, old_BS = (logits_BS / temperature).log_softmax(1), (old_BS / temperature).log_softmax(1)
    return (old_BS.exp() * (old_BS - new_BS)).sum(1).mean()


def no_source_classes(problem: Problem) -> str:
    """Return why there is no softmax over source classes; empty if there is."""
    if problem.source is None:
        return "it needs a classifier of the source, and there is no source"
    several = problem.source.multi_label
    return "it needs source classes, and source images have several labels" if several else ""
