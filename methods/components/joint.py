"""Joint training on source and target: the step, and streams of chosen source images.

Shape letters: B images of a batch, N images of the source, S source classes.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ...datasets.base import Batch, Split
from ..base import Metrics, timed, update
from ..metrics import classification_loss
from ..networks.network import Network


def joint_step(
    net: Network,
    target: Iterator[Batch],
    source: Iterator[Batch],
    optimizer: torch.optim.Optimizer,
    rate: float,
    weigh: Callable[[Tensor, Tensor], Tensor],
) -> Metrics:
    """Take one step on the target's loss plus the source's, each in a forward pass of its own.

    Args:
        net: with a source head.
        target: its batches.
        source: its batches.
        optimizer: of the network.
        rate: learning rate.
        weigh: brings the source losses [B] and labels [B] down to the loss that is added.
    """
    with timed("data"):
        (x_T, y_T), (x_S, y_S) = next(target), next(source)
    with timed("target"):
        target_loss = classification_loss(net.target(x_T), y_T)
        target_loss.backward()
    with timed("source"):
        source_loss = weigh(classification_loss(net.source(x_S), y_S, reduction="none"), y_S)
        source_loss.backward()
        update(optimizer, rate)
    return {"loss": target_loss.detach(), "source_loss": source_loss.detach()}


class Chosen:
    """Batches without end of chosen images of a split; the choice is saved with the place.

    Until something is chosen it draws from the whole split.
    """

    def __init__(self, split: Split, batch_size: int, seed: int) -> None:
        self.whole, self.seed = split, seed
        self.rows = torch.arange(len(split))
        self.stream = split.stream(batch_size, seed)

    def choose(self, rows: Tensor) -> None:
        """Draw from these rows [N] alone from now on; batches and images count on."""
        before, self.rows = self.stream, rows
        self.stream = self.whole.subset(rows).stream(before.batch_size, self.seed)
        self.stream.load_state_dict(before.state_dict())

    def choose_classes(self, weight_S: Tensor) -> None:
        """Draw from the classes that weigh more than nothing [S] alone."""
        self.choose(torch.nonzero(weight_S.cpu()[self.whole.labels.cpu()] > 0)[:, 0])

    def __iter__(self) -> "Chosen":
        return self

    def __next__(self) -> Batch:
        return next(self.stream)

    @property
    def num_images(self) -> int:
        """How many images were drawn."""
        return self.stream.num_images

    def state_dict(self) -> dict[str, Any]:
        """Return the choice and the place."""
        return {"rows": self.rows.clone(), "stream": self.stream.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Choose again and go to the place."""
        self.choose(state["rows"])
        self.stream.load_state_dict(state["stream"])
