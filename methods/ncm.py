"""Nearest class mean: each image gets the class whose mean feature is nearest, on a frozen encoder.

Use when: a class has very few images, or you want the baseline without any setting.
Source: Mensink, Verbeek, Perronnin, Csurka: Distance-Based Image Classification (TPAMI 2013); features of
unit length as in Wang et al.: SimpleShot (arXiv 1911.04623).
Departs from: no learned metric.

Shape letters: B images, C classes, F features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .base import Method, Metrics, Problem
from .components.frozen_features import FrozenFeatures, why_not_frozen
from .metrics import classification_loss


@dataclass
class Config:
    """Settings of the nearest class mean."""

    unit_length: bool = True  # scale features to unit length first; false: plain Euclidean distance


class NearestClassMean(Method[Config]):
    """The nearest mean of the training features of a class."""

    title = "Nearest class mean"
    paper = "TPAMI 2013"
    closed_form = True
    weighs_classes = False

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config = config
        self.net = problem.network().requires_grad_(False).eval()
        self.target = FrozenFeatures(self.net, problem.target, problem.recipe.batch_size)
        self.num_classes = problem.target.num_classes
        self.mean_CF = torch.zeros(self.num_classes, self.target.width, device=problem.device)
        self.has_images_C = torch.zeros(self.num_classes, device=problem.device)

    def step(self, t: int) -> Metrics:
        """Compute the means."""
        features, labels = self.scaled(self.target.all()), self.target.split.labels
        count_C = torch.zeros_like(self.has_images_C).index_add(
            0, labels, torch.ones(len(labels)).to(labels.device)
        )
        total_CF = torch.zeros_like(self.mean_CF).index_add(0, labels, features)
        self.mean_CF = total_CF / count_C.clamp(min=1)[:, None]
        self.has_images_C = (count_C > 0).float()
        return {"loss": classification_loss(self.logits(features), labels)}

    def scaled(self, features: Tensor) -> Tensor:
        """Return features [B,F], of unit length unless the setting says otherwise."""
        return normalize(features) if self.config.unit_length else features

    def logits(self, features: Tensor) -> Tensor:
        """Return the negative squared distances to the means [B,C]; the lowest for a class without images."""
        distance_BC = torch.cdist(features, self.mean_CF).square()
        return torch.where(self.has_images_C > 0, -distance_BC, -distance_BC.max() - 1)

    def predict(self, x: Tensor) -> Tensor:
        """Return logits [B,C_T]."""
        return self.logits(self.scaled(self.net.features(x)))

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return why not: images with several labels have no class."""
        return why_not_frozen(problem)

    def reused_seconds(self) -> float:
        """Return the seconds of the pass over the images, if another run has done it."""
        return self.target.found_seconds
