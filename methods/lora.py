"""LoRA: a trained change of low rank is added to each frozen weight, and merged with it for prediction.

Use when: you want nearly what fine-tuning gives, and to store a hundredth of the network for each target.
Source: Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen: LoRA: Low-Rank Adaptation of Large Language Models
(arXiv 2106.09685), section 4.1; `rank` and `alpha` of RoBERTa (table 9); first values of A, and the form for
convolutions, as in the libraries `microsoft/LoRA` and `peft` (A: a convolution with `rank` channels, B: 1x1).
Departs from: the change is added to the weight before each pass, W x + B A x = (W + B A) x: the same function
for every network, with the arithmetic of fine-tuning in the backward pass. All linear layers and ungrouped
convolutions are adapted, where the paper adapts two of attention's (`layers=attn`: those of attention).
Running statistics of batch norms follow `bn` as in fine-tuning.

Shape letters: O outputs, I inputs, R rank, k side of a kernel.
"""

from dataclasses import dataclass
from math import inf, sqrt

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from .. import InputError
from .base import Method, Metrics, Problem, check_ranges, train_step
from .components.partial import folded, train_only
from .networks.predictor import Predictor, name_of


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
    kind = "parameter-efficient"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.recipe = problem.recipe
        self.net = problem.network()
        adapted = layers_of(self.net.encoder, config.layers)
        changes = [LowRank(layer.weight, config.rank, config.alpha / config.rank) for layer in adapted]
        train_only(self.net, ())
        for layer, change in zip(adapted, changes, strict=True):
            register_parametrization(layer, "weight", change)
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)

    def step(self, t: int) -> Metrics:
        """Train the changes and the head on the next target batch."""
        return train_step(self.net.target, self.target, self.optimizer, self.recipe.lr_at(t))

    def predictor(self) -> Predictor:
        """Return the plain encoder with the changes merged into its weights, and the head."""
        merged = folded(self.net.encoder)
        return Predictor(merged, self.net.target_head, autocast=name_of(self.net.autocast)).eval()


class LowRank(nn.Module):
    """A change scale * B A of a weight [O,I] or [O,I,k,k]; zero at first.

    Args:
        weight: the weight that it is for.
        rank: R.
        scale: alpha / R.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        self.A = nn.Parameter(weight.new_empty(rank, *weight.shape[1:]))
        self.B = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        self.scale = scale
        nn.init.kaiming_uniform_(self.A, a=sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with its change, in float32."""
        with torch.autocast(weight.device.type, enabled=False):
            return weight + self.scale * (self.B @ self.A.flatten(1)).view_as(weight)


def layers_of(encoder: nn.Module, text: str) -> list[nn.Module]:
    """Return the linear layers and ungrouped convolutions of an encoder with a text in their names.

    Raises: InputError if there is none.
    """
    known = {
        name: m
        for name, m in encoder.named_modules()
        if isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.groups == 1)
    }
    found = [m for name, m in known.items() if text in name]
    if not found:
        raise InputError(f"method.layers={text}: no such layer; expected a part of a name, as {list(known)[-1]}")
    return found
