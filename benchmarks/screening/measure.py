"""Score one encoder on the labeled images of a target, from one pass over them.

Shape letters: N images, F features.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import InputError
from ...methods import catalog as methods
from ...methods.base import Problem
from ...methods.components.frozen_features import NUM_FOLDS, FrozenFeatures, KnownFeatures, held_images
from ...methods.metrics import SCORES
from ...methods.networks.network import Network
from ...methods.transferability.gbc import gbc
from ...methods.transferability.hscore import hscore
from ...methods.transferability.logme import logme
from ...methods.transferability.nleep import nleep
from ...methods.transferability.transrate import transrate

FITTED = ("knn", "ncm", "logistic")  # rows that are fitted to the features, in cross-validation
OF_FEATURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "logme": logme,
    "nleep": nleep,
    "hscore": hscore,
    "transrate": transrate,
    "gbc": gbc,
}


def check_folds(problem: Problem) -> None:
    """Check that each fold has an image to judge. Raises InputError."""
    most = int(problem.target.labels.bincount().max())
    if len(problem.target) < NUM_FOLDS or most < NUM_FOLDS:
        raise InputError(
            f"{problem.target.name}: at most {most} labeled images in a class; cross-validation in {NUM_FOLDS} "
            f"folds expected {NUM_FOLDS} or more"
        )


def scored(problem: Problem, net: Network) -> dict[str, Any]:
    """Return the scores of an encoder, and the seconds of each."""
    frozen = FrozenFeatures(net, problem.target, problem.recipe.batch_size)
    begin = time.perf_counter()
    features = frozen.all()
    seconds = {"features": frozen.found_seconds or time.perf_counter() - begin}
    scores: dict[str, Any] = {}
    for name in FITTED:
        begin = time.perf_counter()
        scores[name] = cross_validated(name, problem, net, features)
        seconds[name] = time.perf_counter() - begin
    feature_NF, label_N = features.cpu().numpy(), problem.target.labels.cpu().numpy()
    for name, score in OF_FEATURES.items():
        begin = time.perf_counter()
        scores[name] = score(feature_NF, label_N)
        seconds[name] = time.perf_counter() - begin
    return {"scores": scores, "seconds": seconds}


def cross_validated(name: str, problem: Problem, net: Network, features: Tensor) -> list[float]:
    """Return the score of a row on each fold; it chooses its settings on the other folds alone."""
    cls, found = methods.load(name), []
    for held in held_images(problem.target, problem.seed):
        part = problem.target.subset(torch.nonzero(~held)[:, 0])
        own = replace(problem, target=part, holdout=None, network=lambda: net)
        method: Any = cls(own, cls.Config())
        method.target = KnownFeatures(features[~held], part)
        method.step(0)
        with torch.no_grad():
            logits = method.predictor().head(features[held])
        found.append(SCORES[problem.score](logits, problem.target.labels[held]).item())
    return found
