"""The relationship of target classes to source classes, learned from a source classifier's probabilities.

Shape letters: N images, S source classes, T target classes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..metrics import top1
from .convex import minimize

STRENGTHS = [m * 10.0**e for e in range(-4, 4) for m in (1, 3)] + [1e4]  # C of the logistic regression


def mean_answers(p_NS: Tensor, y: Tensor, num_target: int) -> Tensor:
    """Return the mean of values [N,S] by class [T,S]; zero for a class without images."""
    total_TS = p_NS.new_zeros(num_target, p_NS.shape[1]).index_add(0, y, p_NS)
    return total_TS / torch.bincount(y, minlength=num_target).clamp(min=1)[:, None]


def reverse_relation(p_NS: Tensor, y: Tensor, judged_NS: Tensor, judged_y: Tensor, num_target: int) -> Tensor:
    """Return p(source class | target class) [T,S], from a regression of labels on source probabilities.

    Args:
        p_NS: source probabilities of the images of the fit.
        y: their labels [N].
        judged_NS: source probabilities of the images that select the strength and calibrate.
        judged_y: their labels.
        num_target: T.
    """
    best_TS, best = p_NS.new_zeros(num_target, p_NS.shape[1]), -1.0
    weight_TS = best_TS
    for strength in STRENGTHS:  # each starts from the last; of equal ones the least regularized is kept
        weight_TS = logistic_regression(p_NS, y, strength, weight_TS)
        score = top1(judged_NS @ weight_TS.T, judged_y).item()
        if score >= best:
            best_TS, best = weight_TS, score
    scale = calibration(judged_NS @ best_TS.T, judged_y)
    p_S = torch.cat((p_NS, judged_NS)).mean(0)
    log_joint_ST = p_S.log()[:, None] + (scale * best_TS.T).log_softmax(1)
    return log_joint_ST.T.softmax(1)


def logistic_regression(p_NS: Tensor, y: Tensor, strength: float, start_TS: Tensor) -> Tensor:
    """Return the weights [T,S], no intercept, that minimize strength * sum of losses + |weights|^2 / 2."""
    weight_TS = start_TS.clone().requires_grad_()
    price = 1 / (2 * strength * len(y))
    minimize([weight_TS], lambda: F.cross_entropy(p_NS @ weight_TS.T, y) + price * weight_TS.square().sum())
    return weight_TS.detach()


def calibration(logits: Tensor, y: Tensor) -> Tensor:
    """Return the factor [] of logits [N,T] that minimizes their loss."""
    scale = logits.new_ones((), requires_grad=True)
    minimize([scale], lambda: F.cross_entropy(scale * logits, y))
    return scale.detach()
