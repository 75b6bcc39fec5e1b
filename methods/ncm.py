"""Nearest class mean: each image gets the class whose mean feature is nearest, on a frozen encoder.

Use when: a class has very few images, or you want the baseline without any setting.
Source: Mensink, Verbeek, Perronnin, Csurka: Distance-Based Image Classification (TPAMI 2013); features of
unit length as in Wang et al.: SimpleShot (arXiv 1911.04623).
Departs from: no learned metric.

Shape letters: B images, C classes, F features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from .base import Method, Metrics, Problem
from .components.frozen_features import FrozenFeatures, why_not_frozen
from .metrics import classification_loss
from .networks.predictor import Predictor


@dataclass
class Config:
    """Settings of the nearest class mean."""

    unit_length: bool = True  # scale features to unit length first; false: plain Euclidean distance


class ClassMeans(nn.Module):
    """A head: negative squared distances to the means of the classes."""

    mean_CF: Tensor
    has_images_C: Tensor

    def __init__(self, num_classes: int, num_features: int, unit_length: bool) -> None:
        super().__init__()
        self.options = {
            "num_classes": num_classes,
            "num_features": num_features,
            "unit_length": unit_length,
        }
        self.unit_length = unit_length
        self.register_buffer("mean_CF", torch.zeros(num_classes, num_features))
        self.register_buffer("has_images_C", torch.zeros(num_classes))

    def scaled(self, features: Tensor) -> Tensor:
        """Return features [B,F], of unit length unless the setting says otherwise."""
        return normalize(features) if self.unit_length else features

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [B,C] of features [B,F]; the lowest for a class without images."""
        distance_BC = squared_distances(self.scaled(features), self.mean_CF)
        return torch.where(self.has_images_C > 0, -distance_BC, -distance_BC.max() - 1)


class NearestClassMean(Method[Config]):
    """The nearest mean of the training features of a class."""

    title = "Nearest class mean"
    paper = "TPAMI 2013"
    closed_form = True
    weighs_classes = False
    head_class = ClassMeans

    def __init__(self, problem: Problem, config: Config) -> None:
        self.net = problem.network().requires_grad_(False).eval()
        self.target = FrozenFeatures(self.net, problem.target, problem.recipe.batch_size)
        head = ClassMeans(problem.target.num_classes, self.target.width, config.unit_length)
        self.head = head.to(problem.device)

    def step(self, t: int) -> Metrics:
        """Compute the means."""
        head, features, labels = self.head, self.target.all(), self.target.split.labels
        count_C = torch.zeros_like(head.has_images_C).index_add(
            0, labels, torch.ones(len(labels)).to(labels.device)
        )
        total_CF = torch.zeros_like(head.mean_CF).index_add(0, labels, head.scaled(features))
        head.mean_CF = total_CF / count_C.clamp(min=1)[:, None]
        head.has_images_C = (count_C > 0).float()
        return {"loss": classification_loss(head(features), labels)}

    def predict(self, x: Tensor) -> Tensor:
        """Return logits [B,C_T]."""
        return self.head(self.net.features(x))

    def predictor(self) -> Predictor:
        """Return the encoder with the means."""
        return self.predictor_with(self.head)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return why not: images with several labels have no class."""
        return why_not_frozen(problem)

    def reused_seconds(self) -> float:
        """Return the seconds of the pass over the images, if another run has done it."""
        return self.target.found_seconds


def squared_distances(a_BF: Tensor, b_CF: Tensor) -> Tensor:
    """Return the squared distance of each pair [B,C]."""
    if torch.compiler.is_exporting():  # ONNX has no cdist
        return a_BF.square().sum(1, keepdim=True) - 2 * a_BF @ b_CF.T + b_CF.square().sum(1)
    return torch.cdist(a_BF, b_CF).square()
