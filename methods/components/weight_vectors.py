"""The weights of a network as one vector, and choices among averages of such vectors on the holdout.

Shape letters: P weights, K models.
"""

from collections.abc import Callable, Sequence
from math import inf, isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from ...datasets.base import Stream
from ..base import Problem
from ..metrics import SCORES, classification_loss, of_scored
from ..networks.network import Network, evaluation_mode

SHARES = tuple(i / 10 for i in range(11))


class Judged(NamedTuple):
    """How good a model is: by its score, and among equals by its loss."""

    score: float
    minus_loss: float


Judge = Callable[[Tensor], Judged]  # of weights [P]


def flat(weights: Sequence[Tensor]) -> Tensor:
    """Return a copy of the weights as one vector [P]."""
    return torch.cat([w.detach().flatten() for w in weights])


def put(weights: Sequence[Tensor], vector_P: Tensor) -> None:
    """Set weights from a vector [P]."""
    parts = vector_P.split([w.numel() for w in weights])
    for weight, values in zip(weights, parts, strict=True):
        weight.detach().copy_(values.view_as(weight))


def predicting(net: Network) -> list[Tensor]:
    """Return what target logits depend on: weights, and running statistics of norms."""
    parts = [t for m in (net.encoder, net.target_head) for t in (*m.parameters(), *m.buffers())]
    return [t for t in parts if t.is_floating_point()]


def judge_of(net: Network, holdout: Stream, problem: Problem) -> Judge:
    """Return the judge of weights [P] by a pass over holdout images; it leaves the network with them."""
    weights = predicting(net)

    def judge(vector_P: Tensor) -> Judged:
        put(weights, vector_P)
        with evaluation_mode(net), torch.no_grad():
            answers = [(net.target(x), y) for x, y in holdout.whole(holdout.batch_size)]
        z, y = (torch.cat(part) for part in zip(*answers, strict=True))
        loss = classification_loss(z, y).item()
        if not isfinite(loss):
            return Judged(-inf, -inf)
        return Judged(SCORES[problem.score](*of_scored(z, y, problem.target.scored_labels)).item(), -loss)

    return judge


def best_share(start_P: Tensor, end_P: Tensor, judge: Judge) -> float:
    """Return the share of the end, among 0, 0.1 ... 1, whose mean with the start is judged best."""
    judged = {share: judge(start_P.lerp(end_P, share)) for share in SHARES}
    return max(judged, key=lambda share: judged[share])  # the first of equals: the nearest to the start


def greedy_soup(models_KP: Tensor, judge: Judge) -> list[int]:
    """Return the numbers of the models whose mean is the greedy soup, the best one first.

    From the best to the worst, a model is added if the mean with it scores no less.
    """
    judged = [judge(model_P) for model_P in models_KP]
    first, *others = sorted(range(len(judged)), key=lambda k: judged[k], reverse=True)
    kept, best = [first], judged[first].score
    for k in others:
        if (score := judge(models_KP[[*kept, k]].mean(0)).score) >= best:
            kept, best = [*kept, k], score
    return kept
