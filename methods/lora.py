"""LoRA: a trained change of low rank is added to each frozen weight, and merged with it for prediction.

Use when: you want nearly what fine-tuning gives, and to store a hundredth of the network for each target.
Source: Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen: LoRA: Low-Rank Adaptation of Large Language Models
(arXiv 2106.09685), section 4.1; `rank` and `alpha` of RoBERTa (table 9); first values of A, and the form for
convolutions, as in the libraries `microsoft/LoRA` and `peft` (A: a convolution with `rank` channels, B: 1x1).
Departs from: all linear layers and ungrouped convolutions are adapted, where the paper adapts two matrices of
attention (`layers=attn`: the layers of attention). Convolutions that standardize their kernel are left out.
Running statistics of batch norms follow `bn` as in fine-tuning.

Shape letters: B images.
"""

from copy import deepcopy
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .. import InputError
from .base import Method, Metrics, Problem, check_ranges, train_step
from .components.partial import train_only
from .networks.predictor import Predictor, name_of

PLAIN = ("Linear", "Conv2d", "Conv2dSame")  # classes of layers that apply their weight as it is


@dataclass
class Config:
    """Settings of LoRA."""

    rank: int = 8  # rank of each change
    alpha: float = 8.0  # scale of the changes, times `rank`
    layers: str = ""  # layers that are adapted: those with this text in their name, as `attn`; empty: all

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"rank": (1, inf), "alpha": (0, inf)})
        return self


class LoRA(Method[Config]):
    """Changes of low rank on frozen weights."""

    title = "LoRA"
    paper = "arXiv 2106.09685"
    data_parallel = True
    trains_in_parts = True
    kind = "parameter-efficient"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.recipe = problem.recipe
        self.net = problem.network()
        train_only(self.net, ())
        layers = layers_of(self.net.encoder, config.layers)
        if config.rank > (largest := max(map(full_rank, layers.values()))):
            raise InputError(f"method.rank={config.rank}: no layer has this rank; expected 1 to {largest}")
        for name, layer in layers.items():
            self.net.encoder.set_submodule(name, Adapted(layer, config.rank, config.alpha / config.rank))
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return a reason for a network without layers that can be adapted."""
        found = adaptable(problem.network().encoder)
        return "" if found else "it changes plain linear layers and convolutions, and the backbone has none"

    def step(self, t: int) -> Metrics:
        """Train the changes and the head on the next target batch."""
        return train_step(self.net.target, self.target, self.optimizer, self.recipe.lr_at(t))

    def predictor(self) -> Predictor:
        """Return the plain encoder with the changes merged into its weights, and the head."""
        return Predictor(
            merged(self.net.encoder), self.net.target_head, autocast=name_of(self.net.autocast)
        ).eval()


class Adapted(nn.Module):
    """A frozen layer with a change of low rank, which is zero at first.

    Args:
        layer: a linear layer or an ungrouped convolution.
        rank: rank of the change.
        scale: alpha / rank.
    """

    def __init__(self, layer: Any, rank: int, scale: float) -> None:
        super().__init__()
        self.layer, self.scale = layer, scale
        if isinstance(layer, nn.Linear):
            self.A: Any = nn.Linear(layer.in_features, rank, bias=False)
            self.B: Any = nn.Linear(rank, layer.out_features, bias=False)
        else:
            kernel = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
            self.A = type(layer)(layer.in_channels, rank, *kernel, bias=False)
            self.B = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        nn.init.kaiming_uniform_(self.A.weight, a=sqrt(5))
        nn.init.zeros_(self.B.weight)
        self.to(layer.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        """Return W x + scale * B A x for images or tokens [B,...]; in evaluation mode (W + scale * B A) x."""
        if self.training:
            return self.layer(x) + self.scale * self.B(self.A(x))
        return functional_call(self.layer, {"weight": self.weight}, (x,))

    @property
    def weight(self) -> Tensor:
        """Return W + scale * B A in float32; some networks use a layer's weight without its call."""
        with torch.autocast(self.layer.weight.device.type, enabled=False):
            change = self.B.weight.flatten(1) @ self.A.weight.flatten(1)
        return self.layer.weight + self.scale * change.view_as(self.layer.weight)

    def __getattr__(self, name: str) -> Any:
        """Return a part, or else the layer's attribute, as `bias`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def merged(self) -> nn.Module:
        """Return a copy of the layer with the change in its weight."""
        layer = deepcopy(self.layer)
        layer.weight.data = self.weight.detach()
        return layer


def merged(encoder: nn.Module) -> nn.Module:
    """Return a copy of an encoder with merged layers."""
    copy = deepcopy(encoder)
    for name, module in list(copy.named_modules()):
        if isinstance(module, Adapted):
            copy.set_submodule(name, module.merged())
    return copy


def adaptable(encoder: nn.Module) -> dict[str, Any]:
    """Return the linear layers and ungrouped convolutions of an encoder that apply their weight as it is."""
    return {
        name: m
        for name, m in encoder.named_modules()
        if type(m).__name__ in PLAIN and getattr(m, "groups", 1) == 1
    }


def layers_of(encoder: nn.Module, text: str) -> dict[str, Any]:
    """Return the adaptable layers of an encoder with a text in their names, by name.

    Raises: InputError if there is none.
    """
    known = adaptable(encoder)
    found = {name: m for name, m in known.items() if text in name}
    if not found:
        raise InputError(
            f"method.layers={text}: no such layer; expected a part of a name, as {list(known)[-1]}"
        )
    return found


def full_rank(layer: Any) -> int:
    """Return the largest rank that a change of a layer's weight can have."""
    return min(layer.weight.flatten(1).shape)
