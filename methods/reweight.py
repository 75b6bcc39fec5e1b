"""Learning to reweight: joint training with source image weights from the holdout's gradient.

Use when: single source images are mislabeled or useless, and a step may cost second passes.
Source: Ren, Zeng, Yang, Urtasun: Learning to Reweight Examples for Robust Deep Learning (arXiv 1803.09050),
equations 4 to 9 and algorithm 1.

Departs from: (1) the weighted images are the source's, and the target's loss is added with weight 1; (2) the
unrolled step uses source images only, with weights of zero: the gradients are compared at the network's
present weights; (3) if the holdout is trained on (`protocol=trainval`), other batches of the target judge.

Shape letters: B images of a batch, S source classes.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from ..datasets.base import derive_seed
from .base import Method, Metrics, Problem, check_ranges, classed_source, timed, update
from .components.unrolled import loss_after_step, twice_differentiable, why_no_second_derivative
from .metrics import classification_loss
from .recipe import Recipe


@dataclass
class Config:
    """Settings of learning to reweight."""

    scale: float = 1.0  # weight of the source loss; image weights sum to one

    def resolved(self) -> "Config":
        """Check the range. Raises: InputError."""
        check_ranges(self, {"scale": (0, inf)})
        return self


class Reweight(Method[Config]):
    """Weights of source images by the agreement of their gradients with the holdout's."""

    title = "Learning to reweight"
    paper = "arXiv 1803.09050"
    kind = "meta"
    needs_source = True

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config, self.recipe = config, problem.recipe
        source = classed_source(problem)
        self.net = problem.network()
        size, judge = self.recipe.batch_size, problem.holdout or problem.target
        self.source = source.stream(self.recipe.source_size, problem.seed)
        self.target = problem.target.stream(size, problem.seed)
        own = {"augmented": problem.holdout is None, "mixed": False}
        self.holdout = judge.stream(size, derive_seed(problem.seed, "judge"), **own)
        self.optimizer = self.recipe.make_optimizer(self.net)
        self.total_S, self.count_S = torch.zeros(2, source.num_classes, device=problem.device)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return a reason for a network without second derivatives."""
        return why_no_second_derivative(problem)

    def step(self, t: int) -> Metrics:
        """Compute the weights of source images, then train on them and on the target."""
        with timed("data"):
            (x_S, y_S), (x_T, y_T) = next(self.source), next(self.target)
        with timed("source"), twice_differentiable():
            loss_B = classification_loss(self.net.source(x_S), y_S, reduction="none")
        weight_B, judged = self.weigh(loss_B)
        with timed("source"):
            source_loss = self.config.scale * (weight_B * loss_B).sum()
            source_loss.backward()
        with timed("target"):
            target_loss = classification_loss(self.net.target(x_T), y_T, weight_C=self.target.weight_C)
            target_loss.backward()
            update(self.optimizer, self.recipe.lr_at(t))
        self.total_S.index_add_(0, y_S, len(y_S) * weight_B)
        self.count_S.index_add_(0, y_S, torch.ones_like(weight_B))
        kept = (weight_B > 0).float().mean()
        return {"loss": target_loss.detach(), "source_loss": source_loss.detach(), "kept": kept, **judged}

    def weigh(self, loss_B: Tensor) -> tuple[Tensor, Metrics]:
        """Return source image weights [B] that sum to one, or all zero if no image helps; and metrics."""
        with timed("data"):
            x, y = next(self.holdout)
        with timed("policy"), twice_differentiable():
            none_B = torch.zeros_like(loss_B, requires_grad=True)
            loss = loss_after_step(self.net, (none_B * loss_B).sum(), 1.0, x, y)
            (slope_B,) = torch.autograd.grad(loss, [none_B])
        helpful_B = (-slope_B).clamp(min=0)
        total = helpful_B.sum()
        return helpful_B / total.where(total > 0, 1), {"holdout_loss": loss.detach()}

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count the images of a step: source and target are trained on, the holdout judges."""
        return recipe.batch_size + recipe.source_size, recipe.batch_size

    def class_weights(self) -> Tensor | None:
        """Return the mean weight of each class's images so far [S]; 1 is the uniform weight."""
        return self.total_S / self.count_S.clamp(min=1)
