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
OF_FEATURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "logme": logme,
    "nleep": nleep,
    "hscore": hscore,
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
            f"needs {NUM_FOLDS} or more"
        )


def features_of(net: Network, problem: Problem, of_source: bool = False) -> tuple[Tensor, float]:
    """Return features [N,F] of the target or source, and the seconds that they took, here or before."""
    split = problem.source if of_source else problem.target
    assert split is not None
    frozen = FrozenFeatures(net, split, problem.recipe.batch_size)
    begin = time.perf_counter()
    features = frozen.all()
    return features, frozen.found_seconds or time.perf_counter() - begin


def feature_scores(problem: Problem, net: Network, features: Tensor, classifier: nn.Module | None) -> Timed:
    """Return the scores of an encoder; a row's are a list, one of each fold.

    Args:
        problem: the target.
        net: the network with the encoder.
        features: its features of the target images [N,F].
        classifier: from features to logits of source classes, for LEEP; None: there is none.
    """
    scores = Timed()
    for name in FITTED:
        scores.add(name, lambda name=name: cross_validated(name, problem, net, features))  # type: ignore[misc]
    feature_NF, label_N = features.cpu().numpy(), problem.target.labels.cpu().numpy()
    if classifier is not None:
        scores.add("leep", lambda: leep(probabilities(classifier, features), label_N))
    for name, score in OF_FEATURES.items():
        scores.add(name, lambda score=score: score(feature_NF, label_N))  # type: ignore[misc]
    return scores


def probabilities(classifier: nn.Module, features: Tensor) -> np.ndarray:
    """Return a classifier's probabilities of features [N,F] for its classes [N,S]."""
    with torch.no_grad():
        return classifier(features).double().softmax(1).cpu().numpy()


def cross_validated(name: str, problem: Problem, net: Network, features: Tensor) -> list[float]:
    """Return the score of a row on each fold; it chooses its settings on the other folds alone."""
    cls, found = methods.load(name), []
    for held in held_images(problem.target, problem.seed):
        part = problem.target.subset(torch.nonzero(~held)[:, 0])
        method = fitted(cls, replace(problem, target=part, holdout=None), net, features[~held], cls.Config())
        with torch.no_grad():
            logits = method.predictor().head(features[held])
        found.append(SCORES[problem.score](logits, problem.target.labels[held]).item())
    return found


def fitted(cls: type[Any], problem: Problem, net: Network, features: Tensor, settings: Any) -> Any:
    """Return a method in closed form, fitted to known features [N,F] of the target of a problem."""
    method = cls(replace(problem, network=lambda: net), settings)
    method.target = KnownFeatures(features, problem.target)
    method.step(0)
    return method
