"""L2TL's credit by gradients: what each class's images do for the holdout's loss, to first order.

Not in the paper, whose policy sees one reward for all classes; tried in docs/learned-weights.md.
Shape letters: M candidates, B a batch, S source classes, F features.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ... import InputError
from ..base import Problem, classed_source, restore, saved
from ..networks.network import Network
from ..recipe import Precision
from .credit import ClassCredit, Judge, shared_parameters, unit


class GradientCredit:
    """Follows the holdout's gradient, judges source images along it, and says how the policy should lean.

    Args:
        problem: with a source of classes.
        net: whose shared parameters the gradient is taken in.
        config: the settings of L2TL.

    Raises: InputError for a precision that rounds away what is measured.
    """

    def __init__(self, problem: Problem, net: Network, config: Any) -> None:
        precision = problem.recipe.precision
        if precision is not Precision.fp32:
            raise InputError(
                f"method.credit={config.credit}: takes small differences of losses, which "
                f"recipe.precision={precision} rounds away; expected fp32"
            )
        self.config = config
        self.classes = ClassCredit(classed_source(problem).num_classes, problem.device)
        self.heads = Judge(net, config.judge_lr, config.layerwise)
        num_shared = sum(p.numel() for p in shared_parameters(net))
        self.direction = torch.zeros(num_shared, device=problem.device)

    def state_dict(self) -> dict[str, Any]:
        """Give all that changes."""
        return saved(self)

    def load_state_dict(self, state: Any) -> None:
        """Take it back."""
        restore(self, state)

    def judged_least(self, y_M: Tensor, kept: Tensor, most: int) -> Tensor:
        """Give the places of so many candidates at most, not kept, whose classes were judged least."""
        count_M = self.classes.count_S[y_M].index_fill(0, kept, math.inf)
        return torch.argsort(count_M, stable=True)[: min(most, len(y_M) - len(kept))]

    def follow(self, net: Network, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Add a holdout batch's gradient to the fading sum of those before.

        Returns: the sum's direction, flat and of unit length, and the batch's loss [].
        """
        newest, loss = self.heads.direction(net, x, y)
        self.direction = self.config.direction_memory * self.direction + newest
        return unit(self.direction), loss

    def judge(
        self, net: Network, along: Tensor, x: Tensor, y: Tensor, feature_BF: Tensor | None = None
    ) -> None:
        """Take in what source images of classes y [B] are worth along a direction."""
        credit_B = self.heads.credit(net, x, y, feature_BF, along, self.config.relative_credit)
        self.classes.add(credit_B, y)

    def slopes(self, weight_S: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give the slopes of the policy's logits, of classes [S] and scale [], and the mixture's worth [].

        A class leans by how many standard errors it is above a share of what the source is worth as
        weights [S] mix it; the scale by how many the mixture is above zero.
        """
        worth, error = self.classes.mixture(weight_S)
        evidence_S = self.classes.evidence(self.config.credit_bar * worth.clamp(min=0))
        sharp = self.config.credit_sharpness
        return sharp * evidence_S, sharp * worth / error.clamp(min=1e-12), worth
