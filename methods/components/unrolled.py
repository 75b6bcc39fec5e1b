"""Differentiable SGD steps that leave the module unchanged.

A step on a loss with gradient g, for weights w, momentum m and weight decay d: v' = m v + g + d w;
w' = w - lr v', or with Nesterov's momentum w' = w - lr (g + d w + m v').
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..base import Problem
from ..metrics import classification_loss
from ..networks.network import Network, frozen_statistics

Loss = Callable[[], Tensor]


class _Caller(nn.Module):
    """A module that calls a loss; `functional_call` can run it with other weights of the inner module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, loss: Loss) -> Tensor:
        return loss()


class Unrolled:
    """Weights after steps that a module's optimizer would take; module and optimizer do not change.

    A parameter that a loss does not use has a gradient of zero: momentum and weight decay still move it.
    Losses must be computed inside `frozen_statistics` and `twice_differentiable`.

    Args:
        module: holds all parameters that a loss uses.
        optimizer: SGD with its present learning rates, weight decay and momentum buffers.
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.caller = _Caller(module)
        names = {p: name for name, p in self.caller.named_parameters()}
        self.weights: dict[str, Tensor] = {}
        self.velocities: dict[str, Tensor | None] = {}
        self.settings: dict[str, dict[str, Any]] = {}
        for group in optimizer.param_groups:
            for p in group["params"]:
                name = names[p]
                self.weights[name], self.settings[name] = p, group
                self.velocities[name] = optimizer.state.get(p, {}).get("momentum_buffer")

    def at(self, loss: Loss) -> Tensor:
        """Return a loss [] of the module with these weights."""
        return functional_call(self.caller, self.weights, (loss,))

    def step(self, loss: Loss) -> None:
        """Take one step on a loss."""
        before = list(self.weights.items())
        gradients = torch.autograd.grad(
            self.at(loss), [w for _, w in before], create_graph=True, materialize_grads=True
        )
        groups = self.settings.values()
        for (name, w), gradient in zip(before, clipped(gradients, groups), strict=True):
            group, old = self.settings[name], self.velocities[name]
            decayed = gradient + group["weight_decay"] * w
            velocity = decayed if old is None else group["momentum"] * old + decayed
            change = decayed + group["momentum"] * velocity if group["nesterov"] else velocity
            self.weights[name], self.velocities[name] = w - group["lr"] * change, velocity


def clipped(gradients: Sequence[Tensor], groups: Iterable[dict[str, Any]]) -> Sequence[Tensor]:
    """Return gradients with the largest norm that an optimizer with these groups lets through."""
    largest = max((group.get("clip_grad", 0.0) for group in groups), default=0.0)
    if not largest:
        return gradients
    square = torch.stack([gradient.square().sum() for gradient in gradients]).sum()
    share = (largest / (square + 1e-12).sqrt()).clamp(max=1)
    return [share * gradient for gradient in gradients]


class _Target(nn.Module):
    """The target part of a network as a module."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.target(x)


def loss_after_step(
    net: Network,
    loss: Tensor,
    rate: float,
    x: Tensor,
    y: Tensor,
    optimizer: torch.optim.Optimizer | None = None,
) -> Tensor:
    """Return the target loss [] after one step of plain gradient descent; the network does not change.

    The step's gradient is that of `loss` plus the gradients already in `grad`. Norms use batch statistics;
    running ones do not change.

    Args:
        net: the network.
        loss: computed inside `twice_differentiable`.
        rate: learning rate of the step.
        x: target images [B,3,H,W].
        y: their labels [B], or [B,C] for several labels an image.
        optimizer: what its groups multiply the rate with, and to what norm they clip. None: neither is done.
    """
    groups = optimizer.param_groups if optimizer else []
    scale = {p: group.get("lr_scale", 1.0) for group in groups for p in group["params"]}
    now = [p for p in net.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, now, create_graph=True, materialize_grads=True)
    whole = [g if p.grad is None else p.grad + g for p, g in zip(now, gradients, strict=True)]
    steps = zip(now, clipped(whole, groups), strict=True)
    then = {p: p.detach() - rate * scale.get(p, 1.0) * gradient for p, gradient in steps}
    target = _Target(net)
    weights = {name: then[p] for name, p in target.named_parameters() if p in then}
    with frozen_statistics(net):
        return classification_loss(functional_call(target, weights, (x,)), y)


def twice_differentiable() -> AbstractContextManager[None]:
    """Return a context in which attention has second derivatives: its fused kernels have none."""
    return sdpa_kernel(SDPBackend.MATH)


def why_no_second_derivative(problem: Problem) -> str:
    """Return why a problem's network has no second derivatives; empty if it has."""
    if problem.recipe.compile:
        return "second derivatives do not go through a compiled encoder"
    if problem.recipe.grad_checkpointing:
        return "second derivatives do not go through recomputed activations"
    modules = problem.network(pretrained=False).encoder.modules()
    hard = any(isinstance(m, nn.Hardsigmoid) or type(m).__name__ == "HardSigmoid" for m in modules)
    return "a hard sigmoid, as in this backbone, has no second derivative" if hard else ""
