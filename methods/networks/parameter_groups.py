"""Groups of parameters with their own learning rate and weight decay, by timm's rules."""

from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

from torch import nn

from ... import InputError

TIMMS_NORMS = ("RmsNorm", "SimpleNorm")  # classes of timm that are of none of torch's


def decayed(net: nn.Module, biases: bool) -> set[int]:
    """Return the ids of the parameters with weight decay: kernels, and biases on demand.

    Norms have none, nor what the encoder's `no_weight_decay` names, as position embeddings.
    """
    spared = {id(p) for m in net.modules() if is_norm(m) for p in m.parameters(recurse=False)}
    for module in net.modules():
        if names := getattr(module, "no_weight_decay", None):
            patterns = names()
            own = module.named_parameters()
            spared |= {id(p) for name, p in own if any(fnmatch(name, pattern) for pattern in patterns)}
    return {id(p) for p in net.parameters() if id(p) not in spared and (p.ndim > 1 or biases)}


def in_heads(net: nn.Module) -> set[int]:
    """Return the ids of the parameters of target heads, or of the module if it is a linear head."""
    heads = [m for name, m in net.named_modules() if name.split(".")[-1] == "target_head"]
    if not heads and isinstance(net, nn.Linear):
        heads = [net]
    return {id(p) for head in heads for p in head.parameters()}


def layer_scales(net: nn.Module, decay: float) -> dict[int, float]:
    """Return a factor of the learning rate for the id of each parameter of the encoders in a module.

    It is `decay` to the power of the number of layers above, of which the head is one, as in timm's
    `param_groups_layer_decay`. Parameters without an entry have the factor 1.

    Raises: InputError for an encoder that does not name its layers.
    """
    if decay == 1:
        return {}
    from timm.models._manipulate import group_with_matcher  # a slow import

    scale: dict[int, float] = {}
    for encoder in _encoders(net):
        if not hasattr(encoder, "group_matcher"):
            raise InputError(
                f"recipe.layer_decay={decay:g}: {type(encoder).__name__} does not name its layers; expected 1"
            )
        named = [*encoder.named_parameters(), ("head of the method", None)]
        layer = group_with_matcher(iter(named), encoder.group_matcher(), reverse=True)
        for name, parameter in encoder.named_parameters():
            scale[id(parameter)] = decay ** (max(layer.values()) - layer[name])
    return scale


def _encoders(net: nn.Module) -> Iterator[Any]:
    """Return the encoders in a module."""
    return (m for name, m in net.named_modules() if name.split(".")[-1] == "encoder")


def is_norm(module: nn.Module) -> bool:
    """Return whether a module is a batch, layer, group or RMS norm, torch's or timm's."""
    known = nn.modules.batchnorm._BatchNorm | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm
    return isinstance(module, known) or any(c.__name__.startswith(TIMMS_NORMS) for c in type(module).__mro__)
