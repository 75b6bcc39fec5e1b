"""LP-FT: a linear probe, then fine-tuning of all weights that starts from the probe's head.

Use when: the test images may differ from the training images of the target.
Source: Kumar, Raghunathan, Jones, Ma, Liang: Fine-Tuning can Distort Pretrained Features and
Underperform Out-of-Distribution (arXiv 2202.10054), section 4; norms as in the released code's usual
variant (`AnanyaKumar/transfer_learning`).
Departs from: both stages share the steps of one run (`probe_share`), each with the recipe's whole schedule,
where the paper trains the probe to convergence first; the recipe's weight decay, not zero.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .base import Method, Metrics, Problem, check_ranges, train_step


@dataclass
class Config:
    """Settings of LP-FT."""

    probe_share: float = 0.5  # share of the steps for the linear probe, 0 to 1
    probe_lr: float = 0.0  # learning rate of the probe; 0: that of the head
    frozen_norms: bool = True  # batch norms keep the pre-trained statistics throughout

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"probe_share": (0, 1), "probe_lr": (0, 100)})
        return self


class LPFT(Method[Config]):
    """A linear probe before fine-tuning, so the features change less."""

    title = "LP-FT"
    paper = "arXiv 2202.10054"
    data_parallel = True
    own_norms = True
    kind = "initialization"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config, recipe = config, problem.recipe
        self.num_probe_steps = round(config.probe_share * recipe.steps)
        probe = replace(recipe, lr=config.probe_lr, head_lr_factor=1.0) if config.probe_lr else recipe
        self.probe_recipe = probe.shortened(self.num_probe_steps)
        self.recipe = recipe.shortened(recipe.steps - self.num_probe_steps)
        self.net = problem.network()
        self.target = problem.target.stream(recipe.batch_size, problem.seed)
        self.probe_optimizer = self.probe_recipe.make_optimizer(self.net.target_head)
        self.optimizer = recipe.make_optimizer(self.net)
        self.train_mode()

    def step(self, t: int) -> Metrics:
        """Train on the next target batch: the head in the first stage, all weights in the second."""
        if t < self.num_probe_steps:
            return train_step(self.probed, self.target, self.probe_optimizer, self.probe_recipe.lr_at(t))
        rate = self.recipe.lr_at(t - self.num_probe_steps)
        return train_step(self.net.target, self.target, self.optimizer, rate)

    def probed(self, x: Tensor) -> Tensor:
        """Return target logits [B,C_T] with the frozen encoder in evaluation mode."""
        self.net.eval()
        with torch.no_grad():
            feature_BF = self.net.features(x)
        self.train_mode()
        return self.net.target_head(feature_BF).float()

    def train_mode(self) -> None:
        """Set training mode, except for frozen norms."""
        self.net.train()
        for norm in self.net.norms:
            norm.train(norm.training and not self.config.frozen_norms)

    @classmethod
    def images_per_step(cls, config: Config, batch_size: int) -> tuple[int, int]:
        """Count the probe's images as judged: the encoder is frozen."""
        num_judged = round(config.probe_share * batch_size)
        return batch_size - num_judged, num_judged
