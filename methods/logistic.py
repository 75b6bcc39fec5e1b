"""Logistic regression on the features of a frozen encoder, by L-BFGS.

Use when: you want the strongest cheap baseline; it takes seconds.
Source: Kornblith, Shlens, Le: Do Better ImageNet Models Transfer Better? (arXiv 1805.08974), section 3 and
appendix A.3: multinomial, L2 penalty chosen on validation images, each fit started from the one before.
Departs from: ten penalties where the paper has 45; no second fit with the validation images; features are
centered and divided by one number, their standard deviation over images: the penalties then mean the same for
every encoder.

Shape letters: N training images, B images, C classes, F features.
"""

import warnings
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .base import Method, Metrics, Problem, check_ranges
from .components.frozen_features import Fold, FrozenFeatures, folds, why_not_frozen
from .metrics import SCORES, classification_loss

STRENGTHS = tuple(10.0**k for k in range(-6, 4))  # scikit-learn's C, from a strong penalty to a weak one
ABSENT = 30.0  # below the lowest bias: the bias of a class without training images


@dataclass
class Config:
    """Settings of logistic regression."""

    inverse_penalty: float = 0.0  # scikit-learn's C; 0: the value with the best score on the holdout
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
        self.head = nn.Linear(self.target.width, problem.target.num_classes, device=problem.device)
        self.inverse_penalty = torch.tensor(0.0)

    def step(self, t: int) -> Metrics:
        """Choose the penalty, and fit the classifier."""
        features, labels = self.target.all(), self.target.split.labels
        self.inverse_penalty = torch.tensor(self.config.inverse_penalty or self.chosen(features))
        weight, bias = next(self.path(features, labels, [float(self.inverse_penalty)]))
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)
        return {"loss": classification_loss(self.head(features), labels).detach()}

    def chosen(self, features: Tensor) -> float:
        """Return the inverse penalty with the best score on the holdout, or by cross-validation."""
        on = folds(self.problem, features, self.holdout)
        paths = [self.path(fold.features, fold.labels, STRENGTHS) for fold in on]
        found = [
            sum(self.score(next(path), fold) for path, fold in zip(paths, on, strict=True)) for _ in STRENGTHS
        ]
        return STRENGTHS[int(np.argmax(found))]

    def score(self, fitted: tuple[Tensor, Tensor], fold: Fold) -> float:
        """Return the score of weights and biases on the held images of a fold."""
        weight, bias = fitted
        return SCORES[self.problem.score](fold.held_features @ weight.T + bias, fold.held_labels).item()

    def path(self, features: Tensor, labels: Tensor, values: Any) -> Any:
        """Yield weights [C,F] and biases [C] for each value; each fit starts from the one before."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression as Fitted
        from threadpoolctl import threadpool_limits

        center = features.mean(0)
        scale = (features - center).square().mean().sqrt().clamp(min=1e-12)
        x, y = ((features - center) / scale).cpu().numpy(), labels.cpu().numpy()
        model = Fitted(max_iter=self.config.max_iterations, warm_start=True)
        for value in values:
            with warnings.catch_warnings(), threadpool_limits(1):  # equal digits for any number of threads
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.set_params(C=value).fit(x, y)
            yield self.of_all_classes(model.coef_, model.intercept_, model.classes_, center, scale)

    def of_all_classes(
        self, coef: Any, intercept: Any, classes: Any, center: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return weights [C,F] and biases [C] for the features as they are."""
        if len(classes) == 2:  # scikit-learn has one row for two classes
            coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
        weight, bias = torch.zeros_like(self.head.weight), torch.zeros_like(self.head.bias)
        rows = torch.from_numpy(classes).to(bias.device)
        weight[rows] = torch.from_numpy(coef).to(weight) / scale
        bias += float(intercept.min()) - ABSENT
        bias[rows] = torch.from_numpy(intercept).to(bias)
        return weight.detach(), (bias - weight @ center).detach()

    def predict(self, x: Tensor) -> Tensor:
        """Return logits [B,C_T]."""
        return self.head(self.net.features(x))

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return why not: images with several labels have no class."""
        return why_not_frozen(problem)

    def reused_seconds(self) -> float:
        """Return the seconds of the passes over the images, if another run has done them."""
        return self.target.found_seconds + (self.holdout.found_seconds if self.holdout else 0.0)
