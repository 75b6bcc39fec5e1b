"""Layers of an encoder's stages, and the loss without each of their filters.

Shape letters: B images, C channels of a layer, G filters in one forward pass.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..metrics import classification_loss
from .network import Network
from .predictor import Predictor

IMAGES_AT_ONCE = 512  # images of a forward pass without filters


def layers_of_stages(net: Network, x: Tensor, num_stages: int) -> list[str]:
    """Return the name of a layer for each of the encoder's last stages; fewer if it has fewer stages.

    It is the last convolution before the stage's map with as many channels and no fewer places; without one,
    as after parallel branches, the module whose output is the map. Empty if maps are not outputs of modules,
    as in a transformer.
    """
    ran: list[tuple[str, bool, Any]] = []

    def note(module: nn.Module, _: Any, out: Any, name: str) -> None:
        ran.append((name, isinstance(module, nn.Conv2d), out))

    with torch.no_grad(), hooked(net, {name: partial(note, name=name) for name in modules_of(net)}):
        maps = net.stages(x)[-num_stages:]
    found, start = [], 0
    for made in maps:
        end = max((i for i, (_, _, out) in enumerate(ran) if out is made), default=-1)
        fitting = [name for name, is_conv, out in ran[start : end + 1] if is_conv and _covers(out, made)]
        if end >= 0:
            found.append(fitting[-1] if fitting else ran[end][0])
        start = max(start, end + 1)
    return found


def _covers(out: Tensor, made: Tensor) -> bool:
    return out.shape[1] == made.shape[1] and out.shape[-1] >= made.shape[-1]


def modules_of(net: Network) -> list[str]:
    """Return the names of all modules of the encoder."""
    return [name for name, _ in net.encoder.named_modules() if name]


@contextmanager
def hooked(net: Network | Predictor, hooks: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Register forward hooks, by the names of the encoder's modules, for the passes inside."""
    handles = [net.encoder.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def features_and_maps(net: Network, layers: list[str], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return features [B,F], and the maps [B,C,h,w] of the layers in float32, from one pass."""
    maps: dict[str, Tensor] = {}
    keep = {name: lambda m, _, out, name=name: maps.update({name: out}) for name in layers}
    with hooked(net, keep):
        feature_BF = net.features(x)
    return feature_BF, [maps[name].float() for name in layers]


@torch.no_grad()
def losses_without(net: Network, head: nn.Module, layer: str, x: Tensor, y: Tensor) -> Tensor:
    """Return the loss of a batch without each filter of a layer [C]: its channel is set to zero.

    The network should be in evaluation mode. Modules before the layer run once.
    """
    num_filters = features_and_maps(net, [layer], x)[1][0].shape[1]
    before = outputs_before(net, layer, x)
    losses = []
    for kept_GC in (1 - torch.eye(num_filters, device=x.device)).split(max(1, IMAGES_AT_ONCE // len(x))):
        size = len(kept_GC)
        mask = kept_GC.repeat_interleave(len(x), 0)[:, :, None, None]
        off = {layer: lambda m, _, out, mask=mask: out * mask.to(out.dtype)}
        with hooked(net, off), replayed(net, before, size):
            logits = head(net.features(_copies(x, size))).float()
        losses.append(classification_loss(logits, _copies(y, size), reduction="none").view(size, -1).mean(1))
    return torch.cat(losses)


def outputs_before(net: Network, layer: str, x: Tensor) -> dict[str, Tensor]:
    """Return the outputs of the outermost modules that end before a layer begins."""
    done: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()
    began: list[bool] = []

    def note(module: nn.Module, _: Any, out: Any, name: str) -> None:
        calls[name] += 1
        if not began and isinstance(out, Tensor) and len(out) == len(x):
            for inner in [n for n in done if n.startswith(f"{name}.")]:
                del done[inner]
            done[name] = out.clone()  # later modules may change it in place

    start = net.encoder.get_submodule(layer).register_forward_pre_hook(lambda *_: began.append(True))
    with hooked(net, {name: partial(note, name=name) for name in modules_of(net)}):
        net.features(x)
    start.remove()
    return {name: out for name, out in done.items() if calls[name] == 1}


@contextmanager
def replayed(net: Network, outputs: dict[str, Tensor], times: int) -> Iterator[None]:
    """Replace modules by these outputs, repeated for so many copies of the batch, for the passes inside."""
    own = [(net.encoder.get_submodule(name).__dict__, out) for name, out in outputs.items()]
    for attributes, out in own:
        attributes["forward"] = lambda *_, out=out, **__: _copies(out, times)
    try:
        yield
    finally:
        for attributes, _ in own:
            del attributes["forward"]


def _copies(x: Tensor, times: int) -> Tensor:
    return x.repeat(times, *[1] * (x.ndim - 1))


def attention_of(loss_C: Tensor) -> Tensor:
    """Return weights [C] with a sum of one, given the losses without each filter."""
    deviation = loss_C.std(correction=0).clamp(min=1e-12)
    return ((loss_C - loss_C.mean()) / deviation / 5).softmax(0)
