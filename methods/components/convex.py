"""Minimize a convex loss of a few tensors by L-BFGS."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def minimize(
    parameters: Sequence[Tensor],
    loss: Callable[[], Tensor],
    max_iterations: int = 200,
    tolerance: float = 1e-7,
    history: int = 100,
) -> None:
    """Change leaf tensors to the minimum of a loss.

    Args:
        parameters: the tensors.
        loss: returns the loss [] at their present values.
        max_iterations: largest number of iterations.
        tolerance: largest absolute value of a gradient at the minimum.
        history: steps that the curvature is estimated from; each needs twice the memory of the tensors.
    """
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=max_iterations,
        tolerance_grad=tolerance,
        tolerance_change=1e-12,
        history_size=history,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
