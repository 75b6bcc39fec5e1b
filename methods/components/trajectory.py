"""The path that weights take through a task, and the gradient of its length by where it began.

Source: Flennerhag, Moreno, Lawrence, Damianou: Transferring Knowledge across Learning Processes
(arXiv 1812.01054), the meta-gradient and its stabilizer; the order of operations as in the released
code (`amzn/metalearn-leap`).

Shape letters: P parameters, K steps of a path.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum, auto

import torch
from torch import Tensor, nn

from ...datasets.base import Batch
from ..base import update
from ..metrics import classification_loss


class Metric(StrEnum):
    """How far it is from one point of a path to the next."""

    length = auto()
    energy = auto()  # the squared length


class PathGradient:
    """Gathers, as paths are walked, the gradient of their summed length by their common start.

    A point is (weights, loss), one more coordinate than weights. A segment's far end is held fixed,
    and its near end moves as the start does: so each segment pulls the start on towards its far end.

    Args:
        weights: what is trained.
        metric: what is summed over segments.
        stabilised: a loss that rises, as one of another batch may, counts as if it had fallen.
        with_loss: whether the loss is a coordinate; without it, by energy, a path of n segments pulls
            straight at its n-th point, which is Reptile.
    """

    def __init__(
        self,
        weights: Sequence[nn.Parameter],
        metric: Metric = Metric.length,
        stabilised: bool = True,
        with_loss: bool = True,
    ) -> None:
        self.weights, self.metric = weights, metric
        self.stabilised, self.with_loss = stabilised, with_loss
        self.total_P = torch.zeros_like(flat(weights))
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def begin(self) -> None:
        """Start another path."""
        self._last = None

    def add(self, loss: Tensor) -> None:
        """Add the segment that ends here: after the backward pass, before the optimizer's step."""
        point_P = flat(self.weights)
        if self._last is not None:
            last_P, last_loss, slope_P = self._last
            move_P, rise = point_P - last_P, (loss - last_loss) * self.with_loss
            if self.stabilised:
                rise = -rise.abs()
            pull_P = move_P + rise * slope_P
            if self.metric is Metric.length:
                pull_P /= (move_P.square().sum() + rise.square()).sqrt().clamp(min=1e-12)
            self.total_P -= pull_P
        self._last = (point_P, loss, flat_gradients(self.weights))


def walk(
    forward: Callable[[Tensor], Tensor],
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    rate: float,
    path: PathGradient,
) -> Tensor:
    """Train on a task's batches and add the way to a gradient: K-1 segments; gives the losses [K]."""
    path.begin()
    losses = []
    for x, y in batches:
        loss = classification_loss(forward(x), y)
        loss.backward()
        path.add(loss.detach())
        update(optimizer, rate)
        losses.append(loss.detach())
    return torch.stack(losses)


def flat(weights: Sequence[Tensor]) -> Tensor:
    """Copy weights into one vector [P]."""
    return torch.cat([w.detach().flatten() for w in weights])


def flat_gradients(weights: Sequence[Tensor]) -> Tensor:
    """Copy gradients into one vector [P]; zero where there is none."""
    return flat([torch.zeros_like(w) if w.grad is None else w.grad for w in weights])


def put(weights: Sequence[Tensor], vector_P: Tensor) -> None:
    """Set weights from a vector [P]."""
    parts = vector_P.split([w.numel() for w in weights])
    for weight, values in zip(weights, parts, strict=True):
        weight.detach().copy_(values.view_as(weight))
