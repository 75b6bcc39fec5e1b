"""First-order credit: how much training on each source image lowers the holdout's loss.

One step of rate r on image j with weight w changes the holdout's loss by -r w <gradient of j, gradient of the
holdout> to first order (Ren et al., arXiv 1803.09050; Wang et al., DDS, arXiv 1911.10088). The product is a
derivative of the image's loss along one direction, so a single forward pass away from the network gives it
for a whole batch, where the gradient of each image would take as many backward passes.

Shape letters: B images of a batch, S source classes.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..base import restore, saved
from ..metrics import classification_loss
from ..networks.network import Network, frozen_statistics

DISTANCE = 1e-4  # that weights are moved by, as a norm; float32 still tells the losses apart
SOFTENING = 0.5  # nats added to a loss that a credit is relative to


def shared_parameters(net: Network) -> list[Tensor]:
    """List what source and target share: the trainable parameters of the encoder."""
    return [p for p in net.encoder.parameters() if p.requires_grad]


class Judge:
    """Heads that judge and serve nothing else, each learning from a batch after it has judged by it.

    The target head learns from the holdout: the network's knows the few images that it is trained on,
    and a class that the encoder would need may look harmful through it. The source head learns from
    every image that is judged: in the network's, a class that is turned down is pushed away by all
    others, and would look harmful for good.

    Args:
        net: whose heads they are shaped as. The target's starts at zero, the source's as the network's.
        rate: of Adam; 0: the network's own heads judge.
        layerwise: whether each tensor of the gradient is brought to the length of its weights, so that
            no layer drowns the others (as in LARS, You et al., arXiv 1708.03888).
    """

    def __init__(self, net: Network, rate: float, layerwise: bool = False) -> None:
        self.layerwise = layerwise
        self.heads = copy.deepcopy(nn.ModuleDict({"source": net.source_head, "target": net.target_head}))
        for parameter in self.heads["target"].parameters():
            nn.init.zeros_(parameter)
        self.optimizer = torch.optim.Adam(self.heads.parameters(), lr=rate) if rate else None

    def state_dict(self) -> dict[str, Any]:
        """Give the heads and their optimiser."""
        return saved(self)

    def load_state_dict(self, state: Any) -> None:
        """Take them back."""
        restore(self, state)

    def direction(self, net: Network, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Give the gradient of the holdout's loss in what is shared, flat and of unit length; and the loss.

        Norms take the batch's statistics, and move none.
        """
        head = net.target_head if self.optimizer is None else self.heads["target"]
        with frozen_statistics(net):
            feature_BF = net.features(x)
        loss = classification_loss(head(feature_BF).float(), y)
        wanted = shared_parameters(net)
        shared = torch.autograd.grad(loss, wanted)
        self._learn("target", feature_BF.detach(), y)
        if self.layerwise:
            shared = tuple(unit(g) * p.detach().norm() for g, p in zip(shared, wanted, strict=True))
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
        """Judge source images x of classes y [B] by a direction; see `image_credit`."""
        head = net.source_head if self.optimizer is None else self.heads["source"]
        if feature_BF is None:
            with torch.no_grad(), frozen_statistics(net):
                feature_BF = net.features(x)
        credit_B = image_credit(net, head, x, y, feature_BF, direction, relative)
        self._learn("source", feature_BF, y)
        return credit_B

    def _learn(self, domain: str, feature_BF: Tensor, y: Tensor) -> None:
        if self.optimizer is not None:
            classification_loss(self.heads[domain](feature_BF).float(), y).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()


def unit(vector: Tensor) -> Tensor:
    """Bring a vector to length one; zero stays zero."""
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
    """Differentiate the source loss of each image [B] along a direction of the shared parameters.

    Args:
        net: in training mode; it stays as it is.
        head: from its features to source classes.
        x: source images.
        y: their labels [B].
        feature_BF: their features where the network is.
        direction: flat, of unit length.
        relative: to the loss itself; images of a large loss have large gradients of any sign, and
            without it few of them make up a class's mean.
    """
    parameters = shared_parameters(net)
    with torch.no_grad(), frozen_statistics(net):
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
    """The credit of each class over all its images so far.

    Args:
        num_classes: S.
        device: where it lies.
    """

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.total_S, self.square_S, self.count_S = torch.zeros(3, num_classes, device=device)

    def state_dict(self) -> dict[str, Any]:
        """Give the sums."""
        return saved(self)

    def load_state_dict(self, state: Any) -> None:
        """Take them back."""
        restore(self, state)

    def add(self, credit_B: Tensor, y: Tensor) -> None:
        """Take in the credit of a batch's images [B] of classes y [B]."""
        self.total_S = self.total_S.index_add(0, y, credit_B)
        self.square_S = self.square_S.index_add(0, y, credit_B**2)
        self.count_S = self.count_S.index_add(0, y, torch.ones_like(credit_B))

    def mean(self) -> Tensor:
        """Give the mean credit of each class [S]; zero for a class not seen."""
        return self.total_S / self.count_S.where(self.count_S > 0, 1)

    def deviation(self) -> Tensor:
        """Give the standard deviation [] of an image's credit around its class's mean."""
        within = self.square_S.sum() - (self.count_S * self.mean() ** 2).sum()
        return (within / self.count_S.sum().clamp(min=1)).clamp(min=1e-12).sqrt()

    def mixture(self, weight_S: Tensor) -> tuple[Tensor, Tensor]:
        """Give the mean credit [] of the source as weights [S] mix it, and its standard error []."""
        share_S = weight_S * self.count_S
        total = share_S.sum().clamp(min=1e-8)
        return (share_S * self.mean()).sum() / total, self.deviation() * (
            weight_S * share_S
        ).sum().sqrt() / total

    def evidence(self, baseline: Tensor) -> Tensor:
        """Give by how many standard errors each class's mean is above a bar [S]; zero for one not seen."""
        return (self.mean() - baseline) * self.count_S.sqrt() / self.deviation()
