"""Paths of gradient descent on tasks, and the gradient of their length in the initial weights.

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
from .weight_vectors import flat


class Metric(StrEnum):
    """The distance between neighboring points of a path."""

    length = auto()
    energy = auto()  # the squared length


class PathGradient:
    """The gradient of the summed length of paths in their common start, accumulated during training.

    A point is (weights, loss). The far end of a segment is a constant, and the near end moves with the start,
    so each segment moves the start towards its far end.

    Args:
        weights: trained parameters.
        metric: distance that is summed over segments.
        stabilized: count a rise of the loss, as between batches, as a fall.
        with_loss: whether the loss is a coordinate. Without it, and with energy, a path moves the start
            straight towards its last point, which is Reptile.
    """

    def __init__(
        self,
        weights: Sequence[nn.Parameter],
        metric: Metric = Metric.length,
        stabilized: bool = True,
        with_loss: bool = True,
    ) -> None:
        self.weights, self.metric = weights, metric
        self.stabilized, self.with_loss = stabilized, with_loss
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
            if self.stabilized:
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
    """Train on K batches of a task, add K-1 segments to a path gradient, and return the losses [K]."""
    path.begin()
    losses = []
    for x, y in batches:
        loss = classification_loss(forward(x), y)
        loss.backward()
        path.add(loss.detach())
        update(optimizer, rate)
        losses.append(loss.detach())
    return torch.stack(losses)


def flat_gradients(weights: Sequence[Tensor]) -> Tensor:
    """Return a copy of the gradients as one vector [P]; zero for parameters without one."""
    return flat([torch.zeros_like(w) if w.grad is None else w.grad for w in weights])
