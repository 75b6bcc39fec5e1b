"""Scores of logits against labels, used as rewards and as results; and the loss.

Labels are class numbers [B]; if images have several labels, float 0 or 1 [B,C].
Shape letters: B images, C classes or labels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import InputError
from ..datasets import distributed
from ..datasets.device import moved


def top1(logits: Tensor, y: Tensor) -> Tensor:
    """Return the share of images whose largest logit [B,C] is that of the label."""
    return (logits.argmax(1) == y).float().mean()


def top5(logits: Tensor, y: Tensor) -> Tensor:
    """Return the share of images whose label is among the five largest logits."""
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices
    return (best == y[:, None]).any(1).float().mean()


def mean_per_class(logits: Tensor, y: Tensor) -> Tensor:
    """Return the accuracy of each class, averaged over the classes with an image."""
    hit = (logits.argmax(1) == y).float()
    zeros = torch.zeros(logits.shape[1], device=logits.device)
    count, hits = (
        zeros.index_add(0, y, torch.ones_like(hit)),
        zeros.index_add(0, y, hit),
    )  # bincount would wait for the device
    present = count > 0
    return torch.where(present, hits / count.clamp(min=1), 0).sum() / present.sum()


def auroc(logits: Tensor, y: Tensor) -> Tensor:
    """Return the mean area under the ROC curve of the classes or labels that have a curve.

    If none has a curve it is 0.5, the value of a guess.
    """
    area = areas(logits, y)
    valid = ~area.isnan()
    return torch.where(valid.any(), area.nansum() / valid.sum().clamp(min=1), 0.5).float()


def areas(logits: Tensor, y: Tensor) -> Tensor:
    """Return the area under the ROC curve of each class against the rest, or of each label [C].

    Without a positive or a negative image there is no curve: nan. Ties count half (Mann-Whitney).
    """
    score, positive = logits.double(), y.bool()
    if y.ndim == 1:
        score = score.log_softmax(1)  # probabilities near 1 would tie in float32
        positive = F.one_hot(y, logits.shape[1]).bool()
    num_positive = positive.sum(0)
    num_negative = len(y) - num_positive
    rank_sum = torch.where(positive, _ranks(score), 0).sum(0)
    wins = rank_sum - num_positive * (num_positive + 1) / 2
    num_pairs = num_positive * num_negative
    return torch.where(num_pairs > 0, wins / num_pairs.clamp(min=1), torch.nan)


def _ranks(score: Tensor) -> Tensor:
    """Return the rank of each value within its column [B,C], from 1; ties have their mean rank."""
    ordered = score.T.contiguous()
    sorted_ = ordered.sort(1).values
    below = torch.searchsorted(sorted_, ordered, right=False)
    upto = torch.searchsorted(sorted_, ordered, right=True)
    return ((below + upto + 1).double() / 2).T


SCORES = {"top1": top1, "top5": top5, "mean_per_class": mean_per_class, "auroc": auroc}


def of_scored(logits: Tensor, y: Tensor, scored: list[int]) -> tuple[Tensor, Tensor]:
    """Return logits and labels of the scored labels, if images have several; class numbers are unchanged."""
    if y.ndim == 1:
        return logits, y
    place = moved(torch.tensor(scored), logits.device)  # the host would wait for the copy of a list
    return logits[:, place], y[:, place]


def check_score(setting: str, name: str, multi_label: bool) -> None:
    """Check that a score fits the labels.

    Raises: InputError for other scores than AUROC if images have several labels.
    """
    if multi_label and name != "auroc":
        raise InputError(
            f"{setting}={name}: the target's images have several labels; expected {setting}=auroc"
        )


def balanced_weights(y: Tensor, num_classes: int) -> Tensor:
    """Return the weight of each class [C] that gives all classes of some images the same sum.

    It is n / (C n_c) for n images, n_c of the class, and C classes with an image; 0 without one.

    Args:
        y: class numbers [n].
        num_classes: number of weights.
    """
    count_C = y.bincount(minlength=num_classes)
    num_present = (count_C > 0).sum()
    return torch.where(count_C > 0, len(y) / (num_present * count_C.clamp(min=1)), 0.0)


def classification_loss(
    logits: Tensor, y: Tensor, reduction: str = "mean", weight_C: Tensor | None = None
) -> Tensor:
    """Return the cross-entropy; if images have several labels, the mean binary cross-entropy over labels.

    Args:
        logits: [B,C].
        y: class numbers [B], or labels [B,C]; with `weight_C`, class numbers [B] or probabilities [B,C].
        reduction: `mean` over images, or `none`: [B].
        weight_C: weight of each class in the mean [C]; None: all are equal. Not for images of several labels.
    """
    if weight_C is not None:
        return F.cross_entropy(logits, y, weight_C, reduction="sum") / total_weight(y, weight_C)
    if y.ndim == 1:
        return F.cross_entropy(logits, y, reduction=reduction)
    loss_B = F.binary_cross_entropy_with_logits(logits, y.to(logits.dtype), reduction="none").mean(1)
    return loss_B if reduction == "none" else loss_B.mean()


def total_weight(y: Tensor, weight_C: Tensor | None) -> Tensor | int:
    """Return what a weighted mean divides by: the sum of the weights of some images, the mean of processes.

    Args:
        y: class numbers [B], probabilities [B,C], or labels [B,C].
        weight_C: weight of each class [C]; None: that of each image is 1.
    """
    if weight_C is None:
        return len(y)
    return distributed.mean((weight_C[y] if y.ndim == 1 else y @ weight_C).sum())
