"""Joint training on source and target: the step, and streams of selected source images.

Shape letters: B images of a batch, N images of the source, S source classes.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ...datasets.base import Batch, Split, Stream
from ..base import Metrics, timed, update
from ..metrics import classification_loss
from ..networks.network import Network


def joint_step(
    net: Network,
    target: Stream,
    source: Iterator[Batch],
    optimizer: torch.optim.Optimizer,
    rate: float,
    weigh: Callable[[Tensor, Tensor], Tensor],
) -> Metrics:
    """Take one step on the sum of target and source loss, with separate forward passes.

    Args:
        net: with a source head.
        target: target batches.
        source: source batches.
        optimizer: optimizer of the network.
        rate: learning rate.
        weigh: function from source losses [B] and labels [B] to the added loss [].
    """
    with timed("data"):
        (x_T, y_T), (x_S, y_S) = next(target), next(source)
    with timed("target"):
        target_loss = classification_loss(net.target(x_T), y_T, weight_C=target.weight_C)
        target_loss.backward()
    with timed("source"):
        source_loss = weigh(classification_loss(net.source(x_S), y_S, reduction="none"), y_S)
        source_loss.backward()
        update(optimizer, rate)
    return {"loss": target_loss.detach(), "source_loss": source_loss.detach()}


class Chosen:
    """Endless batches of selected images of a split; the state holds the selection.

    Before a selection it draws from the whole split.
    """

    def __init__(self, split: Split, batch_size: int, seed: int) -> None:
        self.whole, self.seed = split, seed
        self.rows = torch.arange(len(split))
        self.stream = split.stream(batch_size, seed)

    def choose(self, rows: Tensor) -> None:
        """Draw from these rows [N] only from now on; the counts of batches and images continue."""
        before, self.rows = self.stream, rows
        self.stream = self.whole.subset(rows).stream(before.batch_size, self.seed)
        self.stream.load_state_dict(before.state_dict())

    def choose_classes(self, weight_S: Tensor) -> None:
        """Draw from the classes with a weight [S] above zero only from now on."""
        self.choose(torch.nonzero(weight_S.cpu()[self.whole.labels.cpu()] > 0)[:, 0])

    def __iter__(self) -> "Chosen":
        return self

    def __next__(self) -> Batch:
        return next(self.stream)

    @property
    def num_images(self) -> int:
        """Number of images drawn so far."""
        return self.stream.num_images

    def state_dict(self) -> dict[str, Any]:
        """Return the selection and the state of the stream."""
        return {"rows": self.rows.clone(), "stream": self.stream.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        self.choose(state["rows"])
        self.stream.load_state_dict(state["stream"])
