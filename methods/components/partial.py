"""Train a part of a network: freeze the rest, and add trained changes to weights that stay as they are."""

from collections.abc import Iterable
from copy import deepcopy

from torch import nn
from torch.nn.utils import parametrize

from ..networks.network import Network


def train_only(net: Network, trained: Iterable[nn.Parameter]) -> None:
    """Freeze a network, except for its target head and the given parameters."""
    net.requires_grad_(False)
    for parameter in (*net.target_head.parameters(), *trained):
        parameter.requires_grad_(True)


def folded(encoder: nn.Module) -> nn.Module:
    """Return a copy of an encoder, in which parametrized weights are plain ones of the same values.

    `remove_parametrizations` of torch would change the class that copy and original share.
    """
    copy = deepcopy(encoder)
    for module in list(copy.modules()):
        if parametrize.is_parametrized(module):
            values = {name: getattr(module, name).detach() for name in module.parametrizations}
            module.__class__ = parametrize.type_before_parametrizations(module)
            del module.parametrizations
            for name, value in values.items():
                module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return copy
