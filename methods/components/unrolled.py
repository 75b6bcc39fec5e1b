"""Steps of momentum SGD that are only thought: the weights they lead to, as functions of what losses hold.

A step on a loss with gradient g, for weights w, momentum m and decay d: v' = m v + g + d w; w' = w - rate v',
or with Nesterov's momentum w' = w - rate (g + d w + m v').
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

Loss = Callable[[], Tensor]


class _Place(nn.Module):
    """A module in whose place other weights stand while something runs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, loss: Loss) -> Tensor:
        return loss()


class Unrolled:
    """Weights that walk on from a module's own as its optimiser would; module and optimiser stay as they are.

    A parameter that a loss does not reach has a gradient of zero: momentum and decay still move it.
    Norms have to be held by `frozen_statistics`, and attention by `twice_differentiable`.

    Args:
        module: holds all parameters that a loss uses.
        optimizer: SGD, whose rates, decay and velocities are taken as they are.
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.place = _Place(module)
        names = {p: name for name, p in self.place.named_parameters()}
        self.weights: dict[str, Tensor] = {}
        self.velocities: dict[str, Tensor | None] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        for group in optimizer.param_groups:
            for p in group["params"]:
                name = names[p]
                self.weights[name], self.settings[name] = p, group
                self.velocities[name] = optimizer.state.get(p, {}).get("momentum_buffer")

    def at(self, loss: Loss) -> Tensor:
        """Give a loss of the module at these weights."""
        return functional_call(self.place, self.weights, (loss,))

    def step(self, loss: Loss) -> None:
        """Walk a step down a loss."""
        before = list(self.weights.items())
        gradients = torch.autograd.grad(
            self.at(loss), [w for _, w in before], create_graph=True, materialize_grads=True
        )
        for (name, w), gradient in zip(before, gradients, strict=True):
            group, old = self.settings[name], self.velocities[name]
            pull = gradient + group["weight_decay"] * w
            velocity = pull if old is None else group["momentum"] * old + pull
            way = pull + group["momentum"] * velocity if group["nesterov"] else velocity
            self.weights[name], self.velocities[name] = w - group["lr"] * way, velocity
