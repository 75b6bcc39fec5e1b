"""Scores of logits against labels: each serves as a reward and as a result.

Shape letters: B images, C classes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def top1(logits: Tensor, y: Tensor) -> Tensor:
    """Give the share of images [B,C] whose largest logit is the label's."""
    return (logits.argmax(1) == y).float().mean()


def top5(logits: Tensor, y: Tensor) -> Tensor:
    """Give the share of images whose label is among the five largest logits."""
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices
    return (best == y[:, None]).any(1).float().mean()


def mean_per_class(logits: Tensor, y: Tensor) -> Tensor:
    """Give the accuracy of each class, averaged over the classes that have an image."""
    hit = (logits.argmax(1) == y).float()
    count = torch.bincount(y, minlength=logits.shape[1])
    hits = torch.zeros(logits.shape[1], device=logits.device).index_add(0, y, hit)
    present = count > 0
    return torch.where(present, hits / count.clamp(min=1), 0).sum() / present.sum()


def auroc(logits: Tensor, y: Tensor) -> Tensor:
    """Give the area under the ROC curve, one class against the rest, averaged over classes.

    Classes without an image, or with all of them, have no curve and are left out; where none
    is left the area is 0.5, as of a guess. Ties count half (the Mann-Whitney form).
    """
    score = logits.double().log_softmax(1)  # probabilities near 1 would tie in float32
    positive = F.one_hot(y, logits.shape[1]).bool()
    num_positive = positive.sum(0)
    num_negative = len(y) - num_positive
    rank_sum = torch.where(positive, _ranks(score), 0).sum(0)
    wins = rank_sum - num_positive * (num_positive + 1) / 2
    valid = (num_positive > 0) & (num_negative > 0)
    area = torch.where(valid, wins / (num_positive * num_negative).clamp(min=1), 0)
    return torch.where(valid.any(), area.sum() / valid.sum().clamp(min=1), 0.5).float()


def _ranks(score: Tensor) -> Tensor:
    """Rank each column [B,C] from 1, ties by their mean rank."""
    ordered = score.T.contiguous()
    sorted_ = ordered.sort(1).values
    below = torch.searchsorted(sorted_, ordered, right=False)
    upto = torch.searchsorted(sorted_, ordered, right=True)
    return ((below + upto + 1).double() / 2).T


SCORES = {"top1": top1, "top5": top5, "mean_per_class": mean_per_class, "auroc": auroc}
