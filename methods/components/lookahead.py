"""A step that is only thought: the loss after it, differentiable in what the step's loss depends on."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..base import Problem
from ..metrics import classification_loss
from ..networks.network import Network, frozen_statistics


class _Target(nn.Module):
    """The target's side of a network, as something that is called."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net.target(x)


def lookahead(net: Network, loss: Tensor, rate: float, x: Tensor, y: Tensor) -> Tensor:
    """Give the target loss on x, y [B] after a plain gradient step; the network stays as it is.

    The step's gradient is that of `loss`, plus what the parameters have gathered in `grad`. Its loss has to
    come from a forward pass inside `twice_differentiable`. Norms take the batch's statistics, and
    move none.
    """
    target = _Target(net)
    now = {name: p for name, p in target.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss, list(now.values()), create_graph=True, allow_unused=True)
    then = {}
    for (name, p), gradient in zip(now.items(), gradients, strict=True):
        known = [g for g in (p.grad, gradient) if g is not None]
        then[name] = p.detach() - rate * sum(known, torch.zeros_like(p))
    with frozen_statistics(net):
        return classification_loss(functional_call(target, then, (x,)), y)


def twice_differentiable() -> AbstractContextManager[None]:
    """Let attention run in plain arithmetic: its fused kernels have no second derivative."""
    return sdpa_kernel(SDPBackend.MATH)


def why_not(problem: Problem) -> str:
    """Say why second derivatives cannot be had; empty where they can."""
    if problem.recipe.compile:
        return "second derivatives do not go through a compiled encoder"
    modules = problem.network(pretrained=False).encoder.modules()
    hard = any(isinstance(m, nn.Hardsigmoid) or type(m).__name__ == "HardSigmoid" for m in modules)
    return "a hard sigmoid, as in this backbone, has no second derivative" if hard else ""
