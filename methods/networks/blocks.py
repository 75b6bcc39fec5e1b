"""Blocks of an encoder: modules of several layers that are applied one after another."""

from collections import defaultdict

import torch
from torch import Tensor, nn

Calls = dict[nn.Module, list[tuple[object, object]]]  # first input and output of each call


def find_blocks(encoder: nn.Module, x: Tensor) -> list[nn.Module]:
    """Return the blocks of an encoder, found by a pass of images [B,3,H,W]; none if it has no blocks.

    A chain of modules is divided, as a stage of a ResNet into its residual blocks, until a part has a
    shortcut or consists of single layers. A block is called once, from one tensor [B,...] to another. The
    encoder should be in evaluation mode.
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
    """Return the blocks of a chain, or the module itself if it is not a chain."""
    parts = _parts(module, calls)
    blocks = [part for part in parts if _num_layers(part) > 1]
    layers = [part for part in parts if _num_layers(part) == 1]
    if len(blocks) > len(layers) and _is_chain(module, parts, calls):
        return [block for part in blocks for block in _divided(part, calls)]
    return [module]


def _parts(module: nn.Module, calls: Calls) -> list[nn.Module]:
    """Return the outermost modules in a module that were called; a ModuleList never is."""
    found = [[child] if child in calls else _parts(child, calls) for child in module.children()]
    return [part for parts in found for part in parts]


def _is_chain(module: nn.Module, parts: list[nn.Module], calls: Calls) -> bool:
    """Return whether each part's input is the output of the one before, from end to end of the module."""
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
    """Return the number of modules with parameters."""
    return sum(bool(m._parameters) for m in module.modules())


def _by_image(calls: list[tuple[object, object]], num_images: int) -> bool:
    """Return whether a module was called once, from a tensor [B,...] to another."""
    seen = [thing for call in calls for thing in call]
    return len(seen) == 2 and all(isinstance(t, Tensor) and t.ndim > 0 and len(t) == num_images for t in seen)
