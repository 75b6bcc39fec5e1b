"""UOT: joint training on the target and on the source classes nearest to it by optimal transport.

Use when: the source is large, and you want a subset for joint training without a search.
Source: Liu, Xu, Xu, Qian, Li, Ji, Chan, Jin: Improved Fine-Tuning by Better Leveraging Pre-Training
Data (NeurIPS 2022); constants from its released code (`ziquanliu/NeurIPS2022_UOT_fine_tuning`).

Departs from: (1) a tenth of the source's classes is kept, which is the paper's 100 of ImageNet's 1,000; (2)
source and target go through the network one after the other, with norms by domain (`bn=shared` shares them),
not as one batch; (3) the source head starts as it was pre-trained, not from random weights; (4) one learning
rate for encoder and heads, by the recipe. Not followed: the released code picks its best epoch on the images
that it then reports.

Shape letters: S source classes, T target classes.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import Method, Metrics, Problem, check_ranges, classed_source
from .components.class_means import best_classes, class_means
from .components.joint import Chosen, joint_step
from .recipe import Recipe

TEMPERATURE = 0.1  # temperature of the cost
ENTROPY, SOURCE_RELAXED, TARGET_RELAXED = 1.0, 1.0, 100.0


@dataclass
class Config:
    """Settings of UOT selection."""

    kept_share: float = 0.1  # share of the source classes that is kept, 0 to 1
    scale: float = 0.3  # weight of the source loss

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"kept_share": (1e-6, 1), "scale": (0, inf)})
        return self


class UOT(Method[Config]):
    """Source classes selected by unbalanced optimal transport to the target's class means."""

    title = "UOT selection"
    paper = "NeurIPS 2022"
    data_parallel = True
    kind = "source selection"
    needs_source = True

    def __init__(self, problem: Problem, config: Config) -> None:
        source = classed_source(problem)
        self.config = config
        self.recipe = problem.recipe
        self.net = problem.network()
        self.optimizer = self.recipe.make_optimizer(self.net)
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.source = Chosen(source, self.recipe.source_size, problem.seed)
        self.weight_S = torch.zeros(source.num_classes)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Refuse a target without classes."""
        return "it needs classes, and target images have several labels" if problem.target.multi_label else ""

    def prepare(self) -> None:
        """Select the source classes."""
        self.weight_S.copy_(best_classes(self.importance(), self.config.kept_share))
        self.source.choose_classes(self.weight_S)

    def importance(self) -> Tensor:
        """Return the mass of each source class [S] in the transport to the target's class means."""
        size = self.recipe.batch_size
        mean_S, count_S = class_means(self.net, self.source.whole, size)
        mean_T, count_T = class_means(self.net, self.target.split, size)
        return transport(mean_S, count_S, mean_T, count_T)[0]

    def step(self, t: int) -> Metrics:
        """Train on the next batches of the target and of the selected classes."""
        weigh = lambda loss_B, y: self.config.scale * loss_B.mean()  # noqa: E731
        rate = self.recipe.lr_at(t)
        return joint_step(self.net, self.target, self.source, self.optimizer, rate, weigh)

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count the images of a step: both batches are trained on."""
        return recipe.batch_size + recipe.source_size, 0

    def class_weights(self) -> Tensor | None:
        """Return 1 for the source classes that are kept [S], else 0."""
        return self.weight_S


def transport(mean_S: Tensor, count_S: Tensor, mean_T: Tensor, count_T: Tensor) -> tuple[Tensor, float]:
    """Return the mass that each source class sends to the target [S], and the mean cosine distance of a unit.

    Args:
        mean_S: mean features of the source classes [S,F].
        count_S: their numbers of images [S].
        mean_T: mean features of the target classes [T,F].
        count_T: their numbers of images [T].
    """
    distance_ST = 1 - F.normalize(mean_S) @ F.normalize(mean_T).T
    plan_ST = unbalanced_plan(distance_ST / TEMPERATURE, (count_S > 0).double(), (count_T > 0).double())
    mean = float((plan_ST * distance_ST).sum() / plan_ST.sum())
    return plan_ST.sum(1).where(count_S > 0, -inf), mean


def unbalanced_plan(cost_ST: Tensor, mass_S: Tensor, mass_T: Tensor, tolerance: float = 1e-9) -> Tensor:
    """Return the plan of unbalanced optimal transport [S,T] between masses [S] and [T].

    The plan P [S,T] minimizes <cost, P> + ENTROPY sum P (log P - 1) + SOURCE_RELAXED KL(P 1, mass_S)
    + TARGET_RELAXED KL(P^T 1, mass_T), found by scaling rows and columns in turn (Chizat et al. 2018).
    """
    kernel_ST = (-cost_ST / ENTROPY).exp()
    power_S = SOURCE_RELAXED / (SOURCE_RELAXED + ENTROPY)
    power_T = TARGET_RELAXED / (TARGET_RELAXED + ENTROPY)
    row_S, column_T = torch.ones_like(mass_S), torch.ones_like(mass_T)
    for _ in range(10_000):
        before_S = row_S
        row_S = (mass_S / (kernel_ST @ column_T)) ** power_S
        column_T = (mass_T / (kernel_ST.T @ row_S)) ** power_T
        if (row_S - before_S).abs().max() <= tolerance * row_S.max():
            break
    return row_S[:, None] * kernel_ST * column_T
