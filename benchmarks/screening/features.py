"""Score one encoder by its features of the labeled target images, from one pass over them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ... import InputError
from ...methods import catalog as methods
from ...methods.base import Problem
from ...methods.components.frozen_features import NUM_FOLDS, FrozenFeatures, KnownFeatures, held_images
from ...methods.metrics import SCORES
from ...methods.networks.network import Network
from ...methods.transferability.gbc import gbc
from ...methods.transferability.hscore import hscore
from ...methods.transferability.leep import leep
from ...methods.transferability.logme import logme
from ...methods.transferability.nleep import nleep
from ...methods.transferability.transrate import transrate

FITTED = ("logistic", "knn", "ncm")  # rows that are fitted to the features, in cross-validation
ROTATED: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {  # the same for features that are turned
    "logme": logme,
    "nleep": nleep,
    "transrate": transrate,
    "gbc": gbc,
}


@dataclass
class Timed:
    """Values by name, and the seconds that each took."""

    values: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, compute: Callable[[], Any]) -> Any:
        """Compute a value, keep it with its seconds, and return it."""
        begin = time.perf_counter()
        self.values[name] = compute()
        self.seconds[name] = time.perf_counter() - begin
        return self.values[name]


def check_folds(problem: Problem) -> None:
    """Check that each fold has images to judge. Raises InputError."""
    target = problem.target
    if (most := int(target.labels.bincount().max())) < NUM_FOLDS:
        raise InputError(
            f"{target.name}: at most {most} labeled images in a class; cross-validation in {NUM_FOLDS} folds "
            f"needs {NUM_FOLDS} or more; expected shots={NUM_FOLDS} or more, or more labeled images"
        )


def features_of(net: Network, problem: Problem, of_source: bool = False) -> tuple[Tensor, float]:
    """Return features [N,F] of the target or source, and the seconds that they took, here or before."""
    split = problem.source if of_source else problem.target
    assert split is not None
    frozen = FrozenFeatures(net, split, problem.recipe.batch_size)
    begin = time.perf_counter()
    features = frozen.all()
    return features, frozen.found_seconds or time.perf_counter() - begin


def feature_scores(problem: Problem, features: Tensor, classifier: nn.Module | None) -> Timed:
    """Return the scores of an encoder; a row's are a list, one of each fold.

    Args:
        problem: the target.
        features: the encoder's features of the target images [N,F].
        classifier: from features to logits of source classes, for LEEP; None: there is none.
    """
    scores = Timed()
    turned = in_their_span(features)
    for name in FITTED:
        scores.add(name, lambda name=name: cross_validated(name, problem, turned, features.shape[1]))  # type: ignore[misc]
    label_N = problem.target.labels.cpu().numpy()
    if classifier is not None:
        scores.add("leep", lambda: leep(probabilities(classifier, features), label_N))
    scores.add("hscore", lambda: hscore(features.cpu().numpy(), label_N))
    for name, score in ROTATED.items():
        scores.add(name, lambda score=score: score(turned.cpu().numpy(), label_N))  # type: ignore[misc]
    return scores


def in_their_span(features: Tensor) -> Tensor:
    """Return features [N,F] turned into the space that they span [N,min(N,F)], where fits are cheaper.

    Lengths and angles stay, so a nearest neighbor, a class mean or a penalized fit is the same.
    """
    if len(features) >= features.shape[1]:
        return features
    left, singular, _ = torch.linalg.svd(features.double(), full_matrices=False)
    return (left * singular).to(features.dtype)


def probabilities(classifier: nn.Module, features: Tensor) -> np.ndarray:
    """Return a classifier's probabilities of features [N,F] for its classes [N,S]."""
    with torch.no_grad():
        return classifier(features).double().softmax(1).cpu().numpy()


def cross_validated(name: str, problem: Problem, features: Tensor, width: int) -> list[float]:
    """Return the score of a row on each fold; it chooses its settings on the other folds alone.

    Args:
        name: the row's method.
        problem: the target.
        features: features of its images, of `width` axes or turned into fewer.
        width: width of the encoder's features.
    """
    cls, found = methods.load(name), []
    for held in held_images(problem.target, problem.seed):
        part = problem.target.subset(torch.nonzero(~held)[:, 0])
        own = replace(problem, target=part, holdout=None)
        method = fitted(cls, own, features[~held], width, cls.Config())
        with torch.no_grad():
            logits = method.predictor().head(features[held])
        found.append(SCORES[problem.score](logits, problem.target.labels[held]).item())
    return found


def fitted(cls: type[Any], problem: Problem, features: Tensor, width: int, settings: Any) -> Any:
    """Return a method in closed form, fitted to known features of the target of a problem."""
    nothing: Any = nn.Identity()
    nothing.num_features = features.shape[1]
    net = Network(nothing, 0, problem.target.num_classes).to(problem.device)
    method = cls(replace(problem, network=lambda: net), settings)
    method.target = KnownFeatures(features, problem.target, width)
    method.step(0)
    return method
