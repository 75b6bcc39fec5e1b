"""EMD: pre-training on the source classes nearest to the target by earth mover's distance, then fine-tuning.

Use when: the source is large, and a few of its classes resemble the target.
Source: Cui, Song, Sun, Howard, Belongie: Large Scale Fine-Grained Categorization and Domain-Specific
Transfer Learning (arXiv 1806.06193), section 4; the similarity's constants from its released code.

Departs from: (1) features are those of the shared source pre-training, not of a network trained on JFT-300M,
whose weights are not public; `gamma` then has another meaning, and does not affect the selection; (2) a share
of the source's classes is kept, not a number found for each target; (3) the subset's pre-training starts from
the shared one and takes `specialist_share` of its steps, as for DATL (`init=random`: from random weights).
Classes with few images are not excluded.

Shape letters: S source classes, T target classes, F features.
"""

from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.sparse import eye_array, kron, vstack
from torch import Tensor

from .base import Method, Metrics, Problem, check_ranges, classed_source, train_step
from .components.class_means import best_classes, class_means
from .datl import Init
from .pretrain import Matcher


@dataclass
class Config:
    """Settings of EMD selection."""

    kept_share: float = 0.2  # share of the source classes that is kept, 0 to 1
    gamma: float = 0.01  # of the reported similarity exp(-gamma EMD)
    init: Init = Init.generalist  # initial weights of the specialist
    specialist_share: float = 0.3  # steps of the specialist, as a share of the generalist's
    specialist_lr: float = 0.0  # learning rate; 0: source_recipe.lr, or recipe.lr with published weights

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        shares = {"specialist_share": (1e-6, inf), "specialist_lr": (0, inf)}
        check_ranges(self, {"kept_share": (1e-6, 1), "gamma": (1e-9, inf), **shares})
        return self


class EMD(Method[Config]):
    """Source classes ranked by the earth mover's distance of each to the target."""

    title = "EMD selection"
    paper = "arXiv 1806.06193"
    data_parallel = True
    trains_in_parts = True
    kind = "source selection"
    needs_source = True
    pretrains = True

    def __init__(self, problem: Problem, config: Config) -> None:
        source = classed_source(problem)
        self.problem, self.config, self.recipe = problem, config, problem.recipe
        self.net = problem.network()
        self.optimizer = self.recipe.make_optimizer(self.net)
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.weight_S = torch.zeros(source.num_classes)
        self.similarity = torch.zeros(
            2, device=problem.device
        )  # to the target: of the whole source, and of the kept classes

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Refuse a target without classes."""
        return "it needs classes, and target images have several labels" if problem.target.multi_label else ""

    def prepare(self) -> None:
        """Rank the source classes, and pre-train on the nearest ones."""
        size = self.recipe.batch_size
        source = class_means(self.net, classed_source(self.problem), size)
        target = class_means(self.net, self.problem.target, size)
        chosen, emds = nearest_classes(*source, *target, self.config.kept_share)
        self.weight_S.copy_(chosen)
        self.similarity.copy_((-self.config.gamma * torch.tensor(emds)).exp())
        self.problem.pretrain(
            self.net,
            class_weights=self.weight_S.tolist(),
            matcher=Matcher.same,
            num_samples=0,
            from_generalist=self.config.init is Init.generalist,
            steps_share=self.config.specialist_share,
            lr=self.config.specialist_lr,
        )

    def step(self, t: int) -> Metrics:
        """Fine-tune on the next target batch."""
        whole, kept = self.similarity.clone()
        metrics = train_step(self.net.target, self.target, self.optimizer, self.recipe.lr_at(t))
        return {**metrics, "source_similarity": whole, "kept_similarity": kept}

    def class_weights(self) -> Tensor | None:
        """Return 1 for the source classes that are kept [S], else 0."""
        return self.weight_S


def nearest_classes(
    mean_S: Tensor, count_S: Tensor, mean_T: Tensor, count_T: Tensor, share: float
) -> tuple[Tensor, list[float]]:
    """Return 1 for the share of source classes nearest to the target, else 0 [S], and two distances.

    Args:
        mean_S: mean features of the source classes [S,F].
        count_S: their numbers of images [S].
        mean_T: mean features of the target classes [T,F].
        count_T: their numbers of images [T].
        share: share of the source classes that is kept.

    Returns:
        The weights, and the earth mover's distances of the whole source and of the kept classes.
    """
    distance_ST = torch.cdist(mean_S, mean_T, compute_mode="donot_use_mm_for_euclid_dist")
    alone_S = (distance_ST @ (count_T / count_T.sum())).where(count_S > 0, inf)
    weight_S = best_classes(-alone_S, share)
    masses = (count_S, count_S * weight_S)
    return weight_S, [earth_movers_distance(distance_ST, mass_S, count_T) for mass_S in masses]


def earth_movers_distance(distance_ST: Tensor, mass_S: Tensor, mass_T: Tensor) -> float:
    """Return the earth mover's distance of two domains, given the distances of their classes [S,T].

    Masses [S] and [T] are normalized to a sum of one.

    Raises: RuntimeError if the solver fails.
    """
    rows, columns = torch.nonzero(mass_S)[:, 0], torch.nonzero(mass_T)[:, 0]
    distance = distance_ST[rows][:, columns].double().numpy()
    masses = [m.double().numpy() / float(m.sum()) for m in (mass_S[rows], mass_T[columns])]
    num_S, num_T = distance.shape
    leaves = kron(eye_array(num_S), np.ones((1, num_T)))
    arrives = kron(np.ones((1, num_S)), eye_array(num_T))
    flow = linprog(distance.ravel(), A_eq=vstack([leaves, arrives]).tocsr(), b_eq=np.concatenate(masses))
    if not flow.success:
        raise RuntimeError(f"earth mover's distance of {num_S} to {num_T} classes: {flow.message}")
    return float(flow.fun)
