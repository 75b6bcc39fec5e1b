"""Logistic regression on the features of a frozen encoder, by L-BFGS.

Use when: you want the strongest cheap baseline; it takes seconds.
Source: Kornblith, Shlens, Le: Do Better ImageNet Models Transfer Better? (arXiv 1805.08974), section 3 and
appendix A.3: multinomial, L2 penalty chosen on validation images, each fit started from the one before.
Departs from: ten penalties where the paper has 45; no second fit with the validation images; features are
centered and divided by one number, their standard deviation over images: the penalties then mean the same for
every encoder.

Shape letters: N training images, B images, C classes, F features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .base import Method, Metrics, Problem, check_ranges
from .components.convex import minimize
from .components.frozen_features import Fold, FrozenFeatures, folds, why_not_frozen
from .metrics import SCORES, balanced_weights, classification_loss
from .networks.predictor import Predictor
from .recipe import ClassWeights

STRENGTHS = tuple(10.0**k for k in range(-6, 4))  # scikit-learn's C, from a strong penalty to a weak one
TOLERANCE, HISTORY = 1e-4, 10  # of L-BFGS, as scikit-learn has them
ABSENT = 30.0  # below the lowest bias: the bias of a class without training images
Fit = tuple[Tensor, Tensor]  # weights [C,F] and biases [C]


@dataclass
class Config:
    """Settings of logistic regression."""

    # scikit-learn's C, or half of it for two classes; 0: the value with the best score on the holdout
    inverse_penalty: float = 0.0
    max_iterations: int = 300  # of L-BFGS for each value

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"inverse_penalty": (0, inf), "max_iterations": (1, inf)})
        return self


class LogisticRegression(Method[Config]):
    """A linear classifier of frozen features, fitted to convergence."""

    title = "Logistic regression"
    paper = "arXiv 1805.08974"
    closed_form = True

    def __init__(self, problem: Problem, config: Config) -> None:
        self.problem, self.config = problem, config
        self.net = problem.network().requires_grad_(False).eval()
        size = problem.recipe.batch_size
        self.target = FrozenFeatures(self.net, problem.target, size)
        self.holdout = FrozenFeatures(self.net, problem.holdout, size) if problem.holdout else None
        self.head = nn.Linear(self.target.width, problem.target.num_classes).to(problem.device)
        self.inverse_penalty = torch.tensor(0.0)

    def step(self, t: int) -> Metrics:
        """Choose the penalty, and fit the classifier."""
        features, labels = self.target.all(), self.target.split.labels
        value, fit = self.config.inverse_penalty, None
        if not value:
            value, fit = self.chosen(features)
        self.inverse_penalty = torch.tensor(value)
        weight, bias = fit or next(self.path(features, labels, [value]))
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)
        return {"loss": classification_loss(self.head(features), labels).detach()}

    def chosen_values(self) -> dict[str, float | list[int]]:
        """Return the inverse penalty."""
        return {"inverse_penalty": self.inverse_penalty.item()}

    def chosen(self, features: Tensor) -> tuple[float, Fit | None]:
        """Return the inverse penalty with the best score on the holdout or in cross-validation, and its fit.

        The fits of a cross-validation lack training images, so there is None.
        """
        on = folds(self.problem, features, self.holdout)
        paths = [self.path(fold.features, fold.labels, STRENGTHS) for fold in on]
        best, value, kept = -inf, STRENGTHS[0], None
        for strength in STRENGTHS:
            fits = [next(path) for path in paths]
            score = sum(self.score(fit, fold) for fit, fold in zip(fits, on, strict=True))
            if score > best:
                best, value, kept = score, strength, fits[0] if self.holdout else None
        return value, kept

    def score(self, fit: Fit, fold: Fold) -> float:
        """Return the score of weights and biases on the held images of a fold."""
        weight, bias = fit
        return SCORES[self.problem.score](fold.held_features @ weight.T + bias, fold.held_labels).item()

    def path(self, features: Tensor, labels: Tensor, values: Sequence[float]) -> Iterator[Fit]:
        """Yield weights [C,F] and biases [C] for each value; each fit starts from the one before."""
        center = features.mean(0)
        turned = (features.shape[1] / self.target.width) ** 0.5  # known features may have fewer axes
        scale = (features - center).square().mean().sqrt().clamp(min=1e-12) * turned
        x_NF = (features - center) / scale
        present, y = labels.unique(return_inverse=True)
        weight = x_NF.new_zeros(len(present), x_NF.shape[1], requires_grad=True)
        bias = x_NF.new_zeros(len(present), requires_grad=True)
        weighs = self.problem.recipe.class_weights is ClassWeights.balanced
        weight_C = balanced_weights(y, len(present)).to(x_NF.dtype) if weighs else None
        for value in values:
            price = 1 / (2 * value * len(y))

            def loss(price: float = price) -> Tensor:
                logits = torch.addmm(bias, x_NF, weight.T)
                return cross_entropy(logits, y, weight_C) + price * weight.square().sum()

            minimize([weight, bias], loss, self.config.max_iterations, TOLERANCE, HISTORY)
            found, shift = weight.detach() / scale, bias.detach()
            weight_CF = torch.zeros_like(self.head.weight).index_copy(0, present, found)
            bias_C = torch.full_like(self.head.bias, float(shift.min()) - ABSENT)
            yield weight_CF, bias_C.index_copy(0, present, shift) - weight_CF @ center

    def predict(self, x: Tensor) -> Tensor:
        """Return logits [B,C_T]."""
        return self.head(self.net.features(x))

    def predictor(self) -> Predictor:
        """Return the encoder with the classifier."""
        return self.predictor_with(self.head)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return why not: images with several labels have no class."""
        return why_not_frozen(problem)

    def reused_seconds(self) -> float:
        """Return the seconds of the passes over the images, if another run has done them."""
        return self.target.found_seconds + (self.holdout.found_seconds if self.holdout else 0.0)
