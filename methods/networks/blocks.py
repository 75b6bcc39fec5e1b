"""Blocks of an encoder: the modules of several layers that images pass one after another."""

from collections import defaultdict

import torch
from torch import Tensor, nn

Calls = dict[nn.Module, list[tuple[object, object]]]  # what a module was given first, and what it gave


def find_blocks(encoder: nn.Module, x: Tensor) -> list[nn.Module]:
    """Find the blocks of an encoder by the way of images [B,3,H,W]; none where it has single layers alone.

    A chain of modules is taken apart, as a stage of a ResNet into its residual blocks, until what is
    left has a shortcut or consists of single layers. A block meets every image once, on its own: it is
    called once, with a tensor [B,...], and gives one. The encoder should be in evaluation mode.
    """
    calls: Calls = defaultdict(list)
    handles = [
        module.register_forward_hook(lambda m, given, gave: calls[m].append((next(iter(given), None), gave)))
        for module in encoder.modules()
    ]
    with torch.no_grad():
        encoder(x)
    for handle in handles:
        handle.remove()
    found = [block for part in _parts(encoder, calls) for block in _divided(part, calls)]
    return [b for b in found if _num_layers(b) > 1 and _by_image(calls[b], len(x))]


def _divided(module: nn.Module, calls: Calls) -> list[nn.Module]:
    """Take a chain of blocks apart; gives the module itself where it is none."""
    parts = _parts(module, calls)
    blocks = [part for part in parts if _num_layers(part) > 1]
    layers = [part for part in parts if _num_layers(part) == 1]
    if len(blocks) > len(layers) and _is_chain(module, parts, calls):
        return [block for part in blocks for block in _divided(part, calls)]
    return [module]


def _parts(module: nn.Module, calls: Calls) -> list[nn.Module]:
    """Return the outermost modules in a module that were called: a list of modules never is."""
    found = [[child] if child in calls else _parts(child, calls) for child in module.children()]
    return [part for parts in found for part in parts]


def _is_chain(module: nn.Module, parts: list[nn.Module], calls: Calls) -> bool:
    """Return whether each part is given what the one before gave, from the module's input to its output."""
    if any(len(calls[m]) != 1 for m in (module, *parts)):
        return False
    ((x, end),) = calls[module]
    for part in parts:
        ((given, gave),) = calls[part]
        if given is not x:
            return False
        x = gave
    return x is end


def _num_layers(module: nn.Module) -> int:
    """Count the modules that hold weights themselves."""
    return sum(bool(m._parameters) for m in module.modules())


def _by_image(calls: list[tuple[object, object]], num_images: int) -> bool:
    """Return whether a module was called once, from a tensor [B,...] to another."""
    seen = [thing for call in calls for thing in call]
    return len(seen) == 2 and all(isinstance(t, Tensor) and t.ndim > 0 and len(t) == num_images for t in seen)
