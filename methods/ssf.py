"""SSF: a scale and a shift of each channel after every layer are trained, and folded into the frozen weights.

Use when: you want to adapt every layer, and a network that is not larger afterwards.
Source: Lian, Zhou, Feng, Wang: Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning
(arXiv 2210.08823), section 3.2; first values as in the released code (`dongzelian/SSF`).
Departs from: scale and shift are folded in training, too: scale (W x + b) + shift = (scale W) x + (scale b +
shift), the same function with the arithmetic of fine-tuning in the backward pass. A layer without a bias has
no shift; mostly a norm follows, whose shift does the same. A convolution that standardizes its kernel has its
scale on the gain that multiplies it; without such a gain it has neither, as the norm that follows has both.
Running statistics of batch norms follow `bn` as in fine-tuning.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .base import Method, Metrics, Problem, check_ranges, train_step
from .components.partial import train_only
from .networks.parameter_groups import is_norm
from .networks.predictor import Predictor, name_of

# timm's convolutions that standardize their kernel; those named Scaled have a gain
STANDARDIZING = ("StdConv2d", "StdConv2dSame", "ScaledStdConv2d", "ScaledStdConv2dSame")


@dataclass
class Config:
    """Settings of SSF."""

    init_std: float = (
        0.02  # standard deviation of the first scales around 1, and of the first shifts around 0
    )

    def resolved(self) -> "Config":
        """Check the range. Raises: InputError."""
        check_ranges(self, {"init_std": (0, 1)})
        return self


class SSF(Method[Config]):
    """Scales and shifts of all layers of a frozen encoder."""

    title = "SSF"
    paper = "arXiv 2210.08823"
    data_parallel = True
    trains_in_parts = True
    kind = "parameter-efficient"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.recipe = problem.recipe
        self.net = problem.network()
        train_only(self.net, ())
        scale_and_shift(self.net.encoder, config.init_std)
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)

    def step(self, t: int) -> Metrics:
        """Train scales, shifts and the head on the next target batch."""
        return train_step(self.net.target, self.target, self.optimizer, self.recipe.lr_at(t))

    def predictor(self) -> Predictor:
        """Return the plain encoder with scales and shifts in its weights, and the head."""
        encoder = folded(self.net.encoder)
        return Predictor(encoder, self.net.target_head, autocast=name_of(self.net.autocast)).eval()


class Scaled(nn.Module):
    """A weight [O,...] with a scale of each output."""

    def __init__(self, scale: nn.Parameter) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight times the scale."""
        return weight * self.scale.view(-1, *[1] * (weight.ndim - 1))


class Shifted(Scaled):
    """A bias [O] with a scale, which is that of the weight, and a shift."""

    def __init__(self, scale: nn.Parameter, shift: nn.Parameter) -> None:
        super().__init__(scale)
        self.shift = shift

    def forward(self, bias: Tensor) -> Tensor:
        """Return the bias times the scale, plus the shift."""
        return bias * self.scale + self.shift


def _drawn(weight: Tensor, mean: float, std: float) -> nn.Parameter:
    """Return a number for each channel of a weight, drawn on the CPU: the same on every device."""
    return nn.Parameter(nn.init.normal_(torch.empty(len(weight)), mean, std).to(weight))


def scale_and_shift(encoder: nn.Module, std: float) -> None:
    """Add scale and shift to all linear layers, convolutions and norms of an encoder that have weights."""
    for layer in list(encoder.modules()):
        name = scaled_parameter(layer)
        weight, bias = getattr(layer, name, None), getattr(layer, "bias", None)
        if weight is None or not (isinstance(layer, nn.Linear | nn.Conv2d) or is_norm(layer)):
            continue
        scale = _drawn(weight, 1.0, std)
        parametrize.register_parametrization(layer, name, Scaled(scale))
        if bias is not None:
            parametrize.register_parametrization(layer, "bias", Shifted(scale, _drawn(weight, 0.0, std)))


def scaled_parameter(layer: nn.Module) -> str:
    """Return the name of the parameter that scales a layer's output; it is missing if there is none."""
    return "gain" if type(layer).__name__ in STANDARDIZING else "weight"


def folded(encoder: nn.Module) -> nn.Module:
    """Return a copy of an encoder, in which scales and shifts are in plain weights and biases.

    `remove_parametrizations` of torch would change the class that copy and original share.
    """
    copy = deepcopy(encoder)
    for module in list(copy.modules()):
        if parametrize.is_parametrized(module):
            changed: Any = module.parametrizations
            values = {name: getattr(module, name).detach() for name in changed}
            module.__class__ = parametrize.type_before_parametrizations(module)
            del module.parametrizations
            for name, value in values.items():
                module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return copy
