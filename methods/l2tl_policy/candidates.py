"""Selection of source images from a larger set of candidates (L2TL, appendix A)."""

import torch
from torch import Tensor

from ...datasets.device import moved


def select(weight_M: Tensor, num_kept: int, tie_seed: int | None) -> Tensor:
    """Return the places [num_kept] of the candidates with the largest weights.

    Args:
        weight_M: a weight for each candidate.
        num_kept: how many are kept.
        tie_seed: equal weights are ordered at random by this seed; None: in the order of the candidates.
    """
    order = torch.arange(len(weight_M))
    if tie_seed is not None:
        order = torch.randperm(len(weight_M), generator=torch.Generator().manual_seed(tie_seed))
    order = moved(order, weight_M.device)
    return order[torch.argsort(weight_M[order], descending=True, stable=True)[:num_kept]]
