"""k nearest neighbors: the classes of the most similar training images vote, on a frozen encoder.

Use when: you want to see what the features know, without any training.
Source: Wu, Xiong, Yu, Lin: Unsupervised Feature Learning via Non-Parametric Instance Discrimination
(arXiv 1805.01978), section 3.4: cosine similarity, and votes weighted by exp(similarity / temperature).
Departs from: k is chosen on the holdout, where the paper has k = 200.

Shape letters: N training images, B images, C classes, F features.
"""

from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from .base import Method, Metrics, Problem, check_ranges
from .components.frozen_features import Fold, FrozenFeatures, best_value, folds, why_not_frozen
from .metrics import SCORES, classification_loss
from .networks.predictor import Predictor

NUM_NEIGHBORS = (1, 3, 5, 10, 20, 50, 100, 200)  # the values that are tried
BLOCK = 2**26  # similarities that are in memory at a time
JUDGED = 1000  # training images of which the loss is reported
Near = tuple[Tensor, Tensor]  # similarities [B,k] and rows [B,k] of the nearest training images


@dataclass
class Config:
    """Settings of k nearest neighbors."""

    num_neighbors: int = 0  # neighbors that vote; 0: the number with the best score on the holdout
    temperature: float = 0.07  # of the votes; a small one makes the nearest neighbor count most

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"num_neighbors": (0, inf), "temperature": (1e-3, inf)})
        return self


class Neighbors(nn.Module):
    """A head: the vote of the nearest training images."""

    feature_NF: Tensor
    label_N: Tensor

    def __init__(
        self, num_images: int, num_features: int, num_classes: int, temperature: float, k: int = 1
    ) -> None:
        super().__init__()
        self.num_classes, self.temperature, self.k = num_classes, temperature, k
        self.register_buffer("feature_NF", torch.zeros(num_images, num_features))
        self.register_buffer("label_N", torch.zeros(num_images, dtype=torch.long))

    @property
    def options(self) -> dict[str, Any]:
        """Return the arguments that build it again."""
        num_images, num_features = self.feature_NF.shape
        sizes = {"num_images": num_images, "num_features": num_features, "num_classes": self.num_classes}
        return {**sizes, "temperature": self.temperature, "k": self.k}

    def votes(self, near: Near, labels_N: Tensor, k: int) -> Tensor:
        """Return the logarithm of the smoothed share of the votes of k neighbors for each class [B,C]."""
        similarity, row = near
        weight = (similarity[:, :k] / self.temperature).softmax(1)
        share_BC = weight.new_zeros(weight.shape[0], self.num_classes)
        share_BC.scatter_add_(1, labels_N[row[:, :k]], weight)
        return (share_BC + 1e-6).log()

    def classified(self, features: Tensor, k: int) -> Tensor:
        """Return logits [B,C] of features [B,F] by k neighbors."""
        return self.votes(nearest(normalize(features), self.feature_NF, k), self.label_N, k)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [B,C] of features [B,F]."""
        return self.classified(features, self.k)


class NearestNeighbors(Method[Config]):
    """A vote of the nearest training images."""

    title = "k nearest neighbors"
    paper = "arXiv 1805.01978"
    closed_form = True
    weighs_classes = False
    head_class = Neighbors

    def __init__(self, problem: Problem, config: Config) -> None:
        self.problem, self.config = problem, config
        self.net = problem.network().requires_grad_(False).eval()
        size = problem.recipe.batch_size
        self.target = FrozenFeatures(self.net, problem.target, size)
        self.holdout = FrozenFeatures(self.net, problem.holdout, size) if problem.holdout else None
        sizes = len(problem.target), self.target.width, problem.target.num_classes
        self.head = Neighbors(*sizes, config.temperature).to(problem.device)
        self.k = torch.tensor(1)

    def step(self, t: int) -> Metrics:
        """Store the features of unit length, and choose the number of neighbors."""
        head, features = self.head, self.target.all()
        head.label_N = self.target.split.labels.clone()
        head.feature_NF = normalize(features)
        self.k = torch.tensor(self.config.num_neighbors or self.chosen(features))
        count = min(JUDGED, len(features))
        some = torch.arange(count, device=features.device) * len(features) // count
        return {"loss": classification_loss(self.classified(features[some]), head.label_N[some])}

    def chosen_values(self) -> dict[str, float | list[int]]:
        """Return the number of neighbors."""
        return {"num_neighbors": self.k.item()}

    def chosen(self, features: Tensor) -> int:
        """Return the number of neighbors with the best score on the holdout, or by cross-validation."""
        values = [k for k in NUM_NEIGHBORS if k <= len(self.target.split)]
        on = folds(self.problem, features, self.holdout)
        found = [nearest(normalize(f.held_features), normalize(f.features), values[-1]) for f in on]

        def score(k: float, one: tuple[Fold, Near]) -> Tensor:
            fold, near = one
            return SCORES[self.problem.score](self.head.votes(near, fold.labels, int(k)), fold.held_labels)

        return int(best_value(values, score, list(zip(on, found, strict=True))))

    def classified(self, features: Tensor) -> Tensor:
        """Return logits [B,C] of features [B,F]."""
        return self.head.classified(features, int(self.k))

    def predict(self, x: Tensor) -> Tensor:
        """Return logits [B,C_T]."""
        return self.classified(self.net.features(x))

    def predictor(self) -> Predictor:
        """Return the encoder with the training features and labels."""
        self.head.k = int(self.k)
        return self.predictor_with(self.head)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return why not: images with several labels have no class."""
        return why_not_frozen(problem)

    def reused_seconds(self) -> float:
        """Return the seconds of the passes over the images, if another run has done them."""
        return self.target.found_seconds + (self.holdout.found_seconds if self.holdout else 0.0)


def nearest(feature_BF: Tensor, known_NF: Tensor, k: int) -> Near:
    """Return the similarities and rows [B,k] of the k nearest of N known features, nearest first."""
    k, at_once = min(k, len(known_NF)), max(1, BLOCK // len(known_NF))
    blocks = (feature_BF,) if torch.compiler.is_exporting() else feature_BF.split(at_once)
    similarity, row = zip(*((block @ known_NF.T).topk(k, dim=1) for block in blocks), strict=True)
    return torch.cat(similarity), torch.cat(row)
