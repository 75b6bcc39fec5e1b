"""First-order credit: how much training on each source image lowers the holdout's loss.

One step of learning rate r on image j with weight w changes the holdout's loss by
-r w <gradient of j, gradient of the holdout> to first order (Ren et al., arXiv 1803.09050; Wang et al., DDS,
arXiv 1911.10088). This inner product is the derivative of the image's loss along one direction. A finite
difference gives it for a whole batch by one forward pass with moved weights. The gradients of single images
would take one backward pass each.

Shape letters: B images of a batch, S source classes.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...datasets import distributed
from ..base import restore, saved
from ..metrics import classification_loss
from ..networks.network import Network, frozen_statistics

DISTANCE = 1e-4  # norm of the move of the weights; in float32 the two losses still differ
SOFTENING = 0.5  # nats; added to the loss by which a relative credit is divided
LEAST = 0.01  # share of the helpful classes' credit; below zero, evidence alone ranks classes
ENOUGH = 8  # images of a class from which on its weight follows its mean credit


def shared_parameters(net: Network) -> list[Tensor]:
    """Return the parameters that source and target share: the trainable ones of the encoder."""
    return [p for p in net.encoder.parameters() if p.requires_grad]


class Judge:
    """A source head and a target head that only measure credit; each learns from a batch after it was used.

    The target head learns from the holdout. The network's target head has learned its few training images by
    heart, and a class that the encoder needs may look harmful through it. The source head learns from every
    image that is judged. In the network's source head a class of weight zero is pushed away by all other
    classes, and would look harmful forever.

    Args:
        net: gives the shapes. The target head starts at zero, the source head as a copy.
        rate: Adam's learning rate; 0: the network's own heads are used.
        layerwise: scale the gradient of each tensor to the norm of its weights, as in LARS (You et al., arXiv
            1708.03888), for else a few layers dominate.
    """

    def __init__(self, net: Network, rate: float, layerwise: bool = False) -> None:
        self.layerwise = layerwise
        self.heads = copy.deepcopy(nn.ModuleDict({"source": net.source_head, "target": net.target_head}))
        for parameter in self.heads["target"].parameters():
            nn.init.zeros_(parameter)
        self.optimizer = torch.optim.Adam(self.heads.parameters(), lr=rate) if rate else None

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the heads and their optimizer."""
        return saved(self)

    def load_state_dict(self, state: Any) -> None:
        """Restore a state."""
        restore(self, state)

    def direction(self, net: Network, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient of the holdout's loss, flat and of unit length, and the loss [].

        The gradient is that of the shared parameters. Norms use batch statistics; running ones do not change.
        """
        head = net.target_head if self.optimizer is None else self.heads["target"]
        with frozen_statistics(net):
            feature_BF = net.features(x)
        loss = classification_loss(head(feature_BF).float(), y)
        wanted = shared_parameters(net)
        shared = distributed.means(torch.autograd.grad(loss, wanted))
        self._learn("target", feature_BF.detach(), y)
        if self.layerwise:
            shared = [unit(g) * p.detach().norm() for g, p in zip(shared, wanted, strict=True)]
        return unit(torch.cat([g.flatten() for g in shared])), loss.detach()

    def credit(
        self,
        net: Network,
        x: Tensor,
        y: Tensor,
        feature_BF: Tensor | None,
        direction: Tensor,
        relative: bool,
    ) -> Tensor:
        """Return the credit [B] of source images x with labels y [B]; see `image_credit`."""
        head = net.source_head if self.optimizer is None else self.heads["source"]
        if feature_BF is None or is_rounded(net, x):
            with torch.no_grad(), frozen_statistics(net), full_precision(net):
                feature_BF = net.features(x)
        credit_B = image_credit(net, head, x, y, feature_BF, direction, relative)
        self._learn("source", feature_BF, y)
        return credit_B

    def _learn(self, domain: str, feature_BF: Tensor, y: Tensor) -> None:
        if self.optimizer is not None:
            classification_loss(self.heads[domain](feature_BF).float(), y).backward()
            distributed.average_gradients(self.optimizer)
            self.optimizer.step()
            self.optimizer.zero_grad()


@contextmanager
def full_precision(net: Network) -> Iterator[None]:
    """Compute in float32 inside: without autocast, and without TF32, to which a GPU rounds convolutions.

    TF32 has 10 bits of mantissa and bfloat16 has 7: a difference of two losses at DISTANCE would be noise.
    """
    holders: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before, autocast = [holder.allow_tf32 for holder in holders], net.autocast
    net.autocast = None
    for holder in holders:
        holder.allow_tf32 = False
    try:
        yield
    finally:
        net.autocast = autocast
        for holder, allowed in zip(holders, before, strict=True):
            holder.allow_tf32 = allowed


def is_rounded(net: Network, x: Tensor) -> bool:
    """Return whether a usual forward pass rounds to fewer bits than float32 has."""
    return net.autocast is not None or (x.is_cuda and torch.backends.cudnn.allow_tf32)


def unit(vector: Tensor) -> Tensor:
    """Return the vector scaled to length one; zero stays zero."""
    return vector / vector.norm().clamp(min=1e-12)


def image_credit(
    net: Network,
    head: nn.Module,
    x: Tensor,
    y: Tensor,
    feature_BF: Tensor,
    direction: Tensor,
    relative: bool = False,
) -> Tensor:
    """Return the derivative of each image's source loss [B] along a direction of the shared parameters.

    Args:
        net: in training mode; it does not change.
        head: from features to source classes.
        x: source images [B,3,H,W].
        y: their labels [B].
        feature_BF: their features, at the network's present weights.
        direction: flat, of unit length.
        relative: divide by the loss. Images with a large loss have large gradients of either sign, and a few
            of them would dominate the mean of a class.
    """
    parameters = shared_parameters(net)
    with torch.no_grad(), frozen_statistics(net), full_precision(net):
        loss_B = classification_loss(head(feature_BF).float(), y, reduction="none")
        before = [p.clone() for p in parameters]
        for p, v in zip(parameters, direction.split([p.numel() for p in parameters]), strict=True):
            p.add_(v.view(p.shape), alpha=DISTANCE)
        moved_B = classification_loss(head(net.features(x)).float(), y, reduction="none")
        for p, old in zip(parameters, before, strict=True):
            p.copy_(old)
    credit_B = (moved_B - loss_B) / DISTANCE
    return credit_B / (loss_B + SOFTENING) if relative else credit_B


class ClassCredit:
    """Mean and spread of the credit of each class, over its images so far.

    Args:
        num_classes: S.
        device: device of the sums.
        memory: images of a class that count; older ones fade, because the credit of a class changes as the
            network learns. 0: all count.
    """

    def __init__(self, num_classes: int, device: torch.device, memory: int = 0) -> None:
        self.memory = memory
        self.total_S, self.square_S, self.count_S = torch.zeros(3, num_classes, device=device)

    def state_dict(self) -> dict[str, Any]:
        """Return the sums."""
        return saved(self)

    def load_state_dict(self, state: Any) -> None:
        """Restore a state."""
        restore(self, state)

    def add(self, credit_B: Tensor, y: Tensor) -> None:
        """Add the credit of a batch's images [B] with labels y [B]; of several processes, that of all."""
        before = (self.total_S, self.square_S, self.count_S)
        values = (credit_B, credit_B**2, torch.ones_like(credit_B))
        after = [old.index_add(0, y, own) for old, own in zip(before, values, strict=True)]
        sums = distributed.added_by_all(before, after)
        if self.memory:
            kept_S = (self.memory / sums[2].clamp(min=1)).clamp(max=1)
            sums = [kept_S * own for own in sums]
        self.total_S, self.square_S, self.count_S = sums

    def mean(self) -> Tensor:
        """Return the mean credit of each class [S]; zero for a class without images."""
        return self.total_S / self.count_S.where(self.count_S > 0, 1)

    def deviation(self) -> Tensor:
        """Return the standard deviation [] of the images' credit around the means of their classes."""
        within = self.square_S.sum() - (self.count_S * self.mean() ** 2).sum()
        return (within / self.count_S.sum().clamp(min=1)).clamp(min=1e-12).sqrt()

    def mixture(self, weight_S: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean credit [] of the source, weighted by class [S], and its standard error []."""
        share_S = weight_S * self.count_S
        total = share_S.sum().clamp(min=1e-8)
        return (share_S * self.mean()).sum() / total, self.deviation() * (
            weight_S * share_S
        ).sum().sqrt() / total

    def share(self) -> Tensor:
        """Return the mean credit of each class relative to that of the helpful ones, LEAST to 1 [S].

        Theirs is the mean of all positive ones, weighted by themselves. A class with few images has 1.
        """
        mean_S = self.mean().clamp(min=0)
        helpful = (mean_S**2).sum() / mean_S.sum().clamp(min=1e-8)
        share_S = (mean_S / helpful.clamp(min=1e-8)).clamp(LEAST, 1)
        return share_S.where(self.count_S >= ENOUGH, 1)

    def evidence(self, baseline: Tensor) -> Tensor:
        """Return by how many standard errors each class exceeds a bar [S]; 0 for a class without images."""
        return (self.mean() - baseline) * self.count_S.sqrt() / self.deviation()
