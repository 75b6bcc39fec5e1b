"""The choice of taps: which layers' vectors, side by side, classify target images best in cross-validation.

Shape letters: N images, L layers, F features, T target classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..datasets.base import derive_seed
from .components.class_relationship import logistic_regression, mean_answers

NUM_FOLDS = 5
STRENGTHS = (1e-2, 1e-1, 1.0, 1e1, 1e2)  # C of the logistic regression

Judge = Callable[[tuple[int, ...]], float]  # the accuracy of a set of layers


def folds(y: Tensor, seed: int) -> Tensor:
    """Deal the images of each class out to five folds [N]; or each image is one, where no class has five."""
    if torch.bincount(y).max() < NUM_FOLDS:
        return torch.arange(len(y), device=y.device)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(derive_seed(seed, "folds")))
    order = order.to(y.device)
    order = order[torch.argsort(y[order], stable=True)]
    fold_N = torch.empty_like(order)
    fold_N[order] = torch.arange(len(y), device=y.device) % NUM_FOLDS
    return fold_N


def centroid_judge(vectors: list[Tensor], y: Tensor, fold_N: Tensor, num_classes: int) -> Judge:
    """Judge sets of layers by the nearest class mean of the other folds.

    Distances of vectors side by side are the sums of theirs: they are measured once for each layer.
    """
    distance_LNT = torch.stack([held_out_distances(v, y, fold_N, num_classes) for v in vectors])
    return lambda taps: accuracy(-distance_LNT[list(taps)].sum(0), y)


def held_out_distances(vector_NF: Tensor, y: Tensor, fold_N: Tensor, num_classes: int) -> Tensor:
    """Give squared distances [N,T] from class means without the image's fold; infinite where none is left."""
    distance_NT = vector_NF.new_full((len(y), num_classes), torch.inf, dtype=torch.double)
    for fold in fold_N.unique().tolist():
        held = fold_N == fold
        rest = y[~held]
        mean_TF = mean_answers(vector_NF[~held].double(), rest, num_classes)
        distance = torch.cdist(vector_NF[held].double(), mean_TF).square()
        absent = torch.bincount(rest, minlength=num_classes) == 0
        distance_NT[held] = distance.masked_fill(absent, torch.inf)
    return distance_NT


def logistic_judge(vectors: list[Tensor], y: Tensor, fold_N: Tensor, num_classes: int) -> Judge:
    """Judge sets of layers by logistic regression on the other folds, each at the strength that suits it."""

    def judge(taps: tuple[int, ...]) -> float:
        vector_NF = torch.cat([vectors[tap] for tap in taps], dim=1).double()
        logits_CNT = vector_NF.new_zeros(len(STRENGTHS), len(y), num_classes)
        for fold in fold_N.unique().tolist():
            held = fold_N == fold
            weight_TF = vector_NF.new_zeros(num_classes, vector_NF.shape[1])
            for c, strength in enumerate(STRENGTHS):
                weight_TF = logistic_regression(vector_NF[~held], y[~held], strength, weight_TF)
                logits_CNT[c, held] = vector_NF[held] @ weight_TF.T
        return max(accuracy(logits_NT, y) for logits_NT in logits_CNT)

    return judge


def accuracy(score_NT: Tensor, y: Tensor) -> float:
    """Give the share of images whose highest score is their class's."""
    return (score_NT.argmax(1) == y).double().mean().item()


def forward_selection(judge: Judge, num_taps: int, max_taps: int, least_gain: float) -> tuple[int, ...]:
    """Take the best single layer, then the one that adds most, and so on while it adds enough.

    The deeper one of equals.
    """
    chosen: tuple[int, ...] = ()
    best = -torch.inf
    while len(chosen) < min(max_taps, num_taps):
        scores = {tap: judge((*chosen, tap)) for tap in range(num_taps) if tap not in chosen}
        tap = max(scores, key=lambda tap: (scores[tap], tap))
        if scores[tap] <= best or scores[tap] - best < least_gain:
            break
        chosen, best = (*chosen, tap), scores[tap]
    return chosen
