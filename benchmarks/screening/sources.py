"""Compare a source with a target by an encoder's features, as DATL, EMD and UOT do.

Shape letters: N images, F features, S source classes.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from ...datasets.base import Split, derive_seed
from ...methods import datl, emd, uot
from ...methods.base import Problem
from ...methods.components.class_means import class_sums, means_of
from ...methods.components.frozen_features import by_class
from ...methods.logistic import LogisticRegression
from ...methods.transferability.leep import leep
from .features import Timed, fitted, probabilities

PENALTY, ITERATIONS = 0.01, 100  # of the source classifier: scikit-learn's C, and L-BFGS's steps
NAMED = 3  # nearest classes that are named


def drawn(source: Split, most: int) -> Split:
    """Return at most so many images of a source, as many of each class as there are; 0: all."""
    if not most or len(source) <= most:
        return source
    order, place = by_class(source, derive_seed(0, "screen"))
    first = order[torch.argsort(place, stable=True)[:most]]  # the first of each class, then the second
    return source.subset(first.sort().values)


def closeness(problem: Problem, of_source: Tensor, of_target: Tensor) -> Timed:
    """Return how close a source is to a target.

    Args:
        problem: source and target.
        of_source: features of the source images [N,F].
        of_target: features of the target images [N,F].

    Returns:
        `emd` and `emd_kept` are similarities of the whole source and of the classes that EMD keeps, in [0,
        1]; `uot` is the mean cosine distance of the plan of UOT; `datl` the divergence in nats of the classes
        that target images get from those that the source has; `nearest` are the names of the nearest classes.
    """
    source, target = problem.source, problem.target
    assert source is not None
    head = _head(problem, of_source)
    mean_S, count_S = means_of(class_sums(of_source, source.labels, source.num_classes), source)
    mean_T, count_T = means_of(class_sums(of_target, target.labels, target.num_classes), target)
    settings, found = emd.Config(), Timed()
    _, distances = emd.nearest_classes(mean_S, count_S, mean_T, count_T, settings.kept_share)
    for name, distance in zip(("emd", "emd_kept"), distances, strict=True):
        found.values[name] = math.exp(-settings.gamma * distance)
    mass_S, found.values["uot"] = uot.transport(mean_S, count_S, mean_T, count_T)
    found.add("datl", lambda: _divergence(head, source, of_target))
    found.add("leep", lambda: leep(probabilities(head, of_target), target.labels.cpu().numpy()))
    nearest = mass_S.argsort(descending=True, stable=True)[:NAMED].tolist()
    found.values["nearest"] = [source.classes[c] for c in nearest]
    return found


def _head(problem: Problem, features: Tensor) -> nn.Module:
    """Return a linear classifier of the source's classes, fitted to features [N,F]."""
    assert problem.source is not None
    own = replace(problem, target=problem.source, holdout=None)
    settings = LogisticRegression.Config(inverse_penalty=PENALTY, max_iterations=ITERATIONS)
    head: nn.Module = fitted(LogisticRegression, own, features, features.shape[1], settings).head
    return head


def _divergence(head: nn.Module, source: Split, of_target: Tensor) -> float:
    """Return the divergence in nats of the target's mean prediction from the source's classes."""
    with torch.no_grad():
        p_T = (head(of_target) / datl.Config().temperature).softmax(1).mean(0).double().cpu()
    count_S = torch.bincount(source.labels.cpu(), minlength=source.num_classes).double()
    weight_S = datl.importance(p_T, count_S / count_S.sum())
    return float(torch.xlogy(p_T, weight_S).sum())
