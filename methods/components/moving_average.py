"""The exponential moving average of weights and statistics that evaluation uses."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """An average of floating-point parameters and buffers.

    The decay warms up, as in TensorFlow: after n steps it is the smaller of `decay` and (1 + n) / (10 + n),
    so that the start does not dominate a short training.

    Args:
        tensors: those that are trained in place, and others; whole numbers are left out.
        decay: the largest decay.
    """

    def __init__(self, tensors: Iterable[Tensor], decay: float) -> None:
        self.trained = [t.detach() for t in tensors if t.is_floating_point()]
        self.mean = [t.clone() for t in self.trained]
        self.decay, self.num_steps = decay, 0

    def restart(self) -> None:
        """Begin again with the weights as they are."""
        self.num_steps = 0
        for mean, trained in zip(self.mean, self.trained, strict=True):
            mean.copy_(trained)

    def update(self) -> None:
        """Add the weights after a step."""
        decay = min(self.decay, (1 + self.num_steps) / (10 + self.num_steps))
        get_ema_multi_avg_fn(decay)(self.mean, self.trained, self.num_steps)
        self.num_steps += 1

    def swap(self) -> None:
        """Exchange trained weights and average."""
        with torch.no_grad():
            for trained, mean in zip(self.trained, self.mean, strict=True):
                kept = trained.clone()
                trained.copy_(mean)
                mean.copy_(kept)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Put the average in the place of the trained weights inside."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state_dict(self) -> dict[str, Any]:
        """Return the average, and the number of steps."""
        return {"mean": [t.clone() for t in self.mean], "num_steps": self.num_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        self.num_steps = state["num_steps"]
        for own, kept in zip(self.mean, state["mean"], strict=True):
            own.copy_(kept)
