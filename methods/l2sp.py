"""L2-SP: fine-tuning with weight decay towards the pre-trained weights, not towards zero.

Use when: fine-tuning on few images overfits. It costs no extra passes.
Source: Li, Grandvalet, Davoine: Explicit Inductive Bias for Transfer Learning with Convolutional
Networks (arXiv 1802.01483), section 3, the penalty named L2-SP; `alpha` and `beta` as in the released
code's script for Stanford Dogs (`holyseven/TransferLearningClassification`).
Departs from: nothing; as in the released code's first mode only kernels have a penalty (`kernels_only`). The
penalty replaces the recipe's weight decay.
"""

from dataclasses import dataclass, field, replace
from math import inf

import torch
from torch import Tensor

from .base import Method, Metrics, Problem, check_ranges, timed, train_step
from .networks.parameter_groups import decayed


@dataclass
class Config:
    """Settings of L2-SP."""

    # Weight of the penalty on the encoder's distance from its start
    alpha: float = field(default=0.1, metadata={"tuned": (1e-3, 1.0)})
    beta: float = 0.01  # weight of the L2 penalty on the new head
    kernels_only: bool = True  # penalty on kernels only; False: on biases and norms too

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"alpha": (0, inf), "beta": (0, inf)})
        return self


class L2SP(Method[Config]):
    """A quadratic penalty on the distance from the pre-trained encoder, and on the head."""

    title = "L2-SP"
    paper = "arXiv 1802.01483"
    data_parallel = True
    trains_in_parts = True
    kind = "regularizer"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.recipe, self.config = problem.recipe, config
        self.net = problem.network()
        kernels = decayed(self.net, biases=False)
        penalized = {p for p in self.net.parameters() if id(p) in kernels or not config.kernels_only}
        self.pulled = [(p, p.detach().clone()) for p in self.net.encoder.parameters() if p in penalized]
        self.shrunk = [p for p in self.net.target_head.parameters() if p in penalized]
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.optimizer = replace(self.recipe, weight_decay=0.0).make_optimizer(self.net)

    def penalty(self) -> Tensor:
        """Return alpha/2 |encoder - start|^2 + beta/2 |head|^2."""
        way = torch.stack([(weight - start).square().sum() for weight, start in self.pulled]).sum()
        size = torch.stack([p.square().sum() for p in self.shrunk]).sum()
        return (self.config.alpha * way + self.config.beta * size) / 2

    def step(self, t: int) -> Metrics:
        """Train on the next target batch, with the penalty."""
        with timed("target"):
            penalty = self.penalty()
            penalty.backward()
        metrics = train_step(self.net.target, self.target, self.optimizer, self.recipe.lr_at(t))
        return {**metrics, "penalty": penalty.detach()}
