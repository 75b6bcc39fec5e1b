"""Taps: one vector an image from each layer of a frozen encoder.

Shape letters: B images, C channels, F features of a layer.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import find_blocks
from .channel_attention import hooked
from .network import Network
from .predictor import Predictor


class Taps:
    """The tapped layers of an encoder, in the order they run, and its features.

    Args:
        net: a network in evaluation mode; its encoder is tapped.
        names: names of the layers, as modules of the encoder.
        target_size: number of values of a layer after pooling, about; 0: one a channel.
    """

    def __init__(self, net: Network | Predictor, names: Sequence[str], target_size: int = 0) -> None:
        self.net, self.names, self.target_size = net, list(names), target_size

    @classmethod
    def found(cls, net: Network, x: Tensor, *, all_layers: bool = False, target_size: int = 0) -> "Taps":
        """Find the layers of a network.

        Args:
            net: a network in evaluation mode.
            x: two or more images [B,3,H,W].
            all_layers: tap the inputs of convolutions and linear layers too, not only the outputs of blocks.
            target_size: number of values of a layer after pooling, about; 0: one a channel.
        """
        net.__dict__["_run"] = net.encoder  # not compiled: hooks read the layers
        blocks = {id(block) for block in find_blocks(net.encoder, x)}
        names = [
            name
            for name, module in net.encoder.named_modules()
            if id(module) in blocks or (all_layers and is_layer(module))
        ]
        return cls(net, cls(net, names, target_size)._of_their_own(x), target_size)

    def widths(self, x: Tensor) -> list[int]:
        """Return the number of values of each vector, found with images [B,3,H,W]."""
        return [vector.shape[1] for vector in self(x)]

    def _of_their_own(self, x: Tensor) -> list[str]:
        """Return the names of layers whose values differ from the images, other layers and the features."""
        seen: dict[str, Tensor] = {}
        feature_BF = self._run(x, seen.setdefault)
        names, values = [], [x]
        for name, value in seen.items():
            if not any(value is other for other in values):
                names.append(name)
                values.append(value)
        last = self.vector(names[-1], values[-1]) if names else x
        same = last.shape == feature_BF.shape and last.allclose(feature_BF, atol=1e-5)
        return names[:-1] if same else names

    @torch.no_grad()
    def __call__(self, x: Tensor) -> list[Tensor]:
        """Return the vectors [B,F] of the layers, then the encoder's features, for images [B,3,H,W]."""
        vectors: dict[str, Tensor] = {}
        feature_BF = self._run(x, lambda name, value: vectors.setdefault(name, self.vector(name, value)))
        return [*(vectors[name] for name in self.names), feature_BF]

    def _run(self, x: Tensor, see: Callable[[str, Tensor], Any]) -> Tensor:
        """Call `see` with the input of each layer or the output of each block; return the features."""

        def hook(module: nn.Module, given: tuple[Any, ...], out: Any, name: str) -> None:
            value = given[0] if is_layer(module) else out
            if isinstance(value, Tensor) and 2 <= value.ndim <= 4 and value.shape[0] == x.shape[0]:
                see(name, value)

        with hooked(self.net, {name: partial(hook, name=name) for name in self.names}):
            return self.net.features(x)

    def vector(self, name: str, value: Tensor) -> Tensor:
        """Return a layer's value [B,F], [B,T,C], [B,C,h,w] or [B,h,w,C], pooled to [B,F] in float32."""
        module = self.net.encoder.get_submodule(name)
        of_block = not is_layer(module) and getattr(self.net.encoder, "output_fmt", "NCHW") == "NHWC"
        if value.ndim == 3 or isinstance(module, nn.Linear) or of_block:
            value = value.movedim(-1, 1)
        return pooled(value.float(), self.target_size)


def is_layer(module: nn.Module) -> bool:
    """Return whether a module is a convolution or a linear layer; its input is tapped."""
    return isinstance(module, nn.Conv2d | nn.Linear)


def pooled(value: Tensor, target_size: int) -> Tensor:
    """Return a map [B,C,h,w] or sequence [B,C,T], averaged over windows to about `target_size` values [B,F].

    It is averaged over all places if there are at least as many channels. Places outside of full windows are
    left out.
    """
    if value.ndim == 2:
        return value
    channels, side = value.shape[1], value.shape[-1]
    if channels >= target_size:
        return value.flatten(2).mean(2)
    if value.ndim == 3:
        return F.avg_pool1d(value, max(1, side * channels // target_size)).flatten(1)
    return F.avg_pool2d(value, max(1, side // isqrt(target_size // channels))).flatten(1)


def unit_vectors(vectors: Iterable[Tensor], weights: Iterable[Tensor]) -> Tensor:
    """Return the weighted vectors of all layers, each scaled to unit length, concatenated [B,·].

    The weights of a layer are [F] or [1]. A vector of zeros stays zero.
    """
    return torch.cat([F.normalize(v * w) for v, w in zip(vectors, weights, strict=True)], dim=1)
