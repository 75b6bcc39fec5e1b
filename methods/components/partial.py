"""Train a part of a network, and freeze the rest."""

from collections.abc import Iterable

from torch import nn

from ..networks.network import Network


def train_only(net: Network, trained: Iterable[nn.Parameter]) -> None:
    """Freeze a network, except for its target head and the given parameters."""
    net.requires_grad_(False)
    for parameter in (*net.target_head.parameters(), *trained):
        parameter.requires_grad_(True)
