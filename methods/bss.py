"""BSS: fine-tuning that shrinks the smallest singular values of each batch's features.

Use when: plain fine-tuning suffers from negative transfer with few images.
Source: Chen, Wang, Fu, Long, Wang: Catastrophic Forgetting Meets Negative Transfer: Batch Spectral
Shrinkage for Safe Transfer Learning (NeurIPS 2019), the penalty L_bss; `k` and `eta` as in the released
code (`thuml/Batch-Spectral-Shrinkage`).
Departs from: the squared singular values are taken as eigenvalues of the features' smaller Gram matrix, in
float64, whose gradient is stable; combined with the recipe's weight decay alone, not with L2-SP or DELTA;
encoder and head share one learning rate.

Shape letters: B images, F features.
"""

from dataclasses import dataclass, field
from math import inf

import torch
from torch import Tensor

from .base import Method, Metrics, Problem, check_ranges, timed, update
from .metrics import classification_loss


@dataclass
class Config:
    """Settings of BSS."""

    k: int = 1  # number of singular values in the penalty
    # Weight of the penalty
    eta: float = field(default=1e-3, metadata={"tuned": (1e-5, 0.1)})

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"k": (1, inf), "eta": (0, inf)})
        return self


class BSS(Method[Config]):
    """A penalty on the k smallest singular values of the batch's feature matrix."""

    title = "BSS"
    paper = "NeurIPS 2019"
    kind = "regularizer"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config = config
        self.net = problem.network()
        self.recipe = problem.recipe
        self.optimizer = self.recipe.make_optimizer(self.net)
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)

    def step(self, t: int) -> Metrics:
        """Train on the next target batch, with the penalty on its features."""
        with timed("data"):
            x, y = next(self.target)
        with timed("target"):
            feature_BF = self.net.features(x)
            loss = classification_loss(
                self.net.target_head(feature_BF).float(), y, weight_C=self.target.weight_C
            )
            penalty = self.config.eta * spectral_tail(feature_BF, self.config.k)
            (loss + penalty).backward()
            update(self.optimizer, self.recipe.lr_at(t))
        return {"loss": loss.detach(), "penalty": penalty.detach()}


def spectral_tail(feature_BF: Tensor, k: int) -> Tensor:
    """Return the sum [] of the squares of the k smallest singular values, or of all if there are fewer."""
    tall = feature_BF.double() if len(feature_BF) <= feature_BF.shape[1] else feature_BF.double().T
    return torch.linalg.eigvalsh(tall @ tall.T)[:k].sum().clamp(min=0).to(feature_BF.dtype)
