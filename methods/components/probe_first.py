"""A linear probe on the frozen encoder, then fine-tuning of all weights from its head.

Source: Kumar, Raghunathan, Jones, Ma, Liang (arXiv 2202.10054), section 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...datasets.base import Stream
from ..base import Metrics, check_ranges, train_step
from ..networks.network import Network
from ..recipe import Recipe


@dataclass
class ProbeSettings:
    """Settings of both stages."""

    probe_share: float = 0.5  # share of the steps for the linear probe, 0 to 1
    probe_lr: float = 0.0  # learning rate of the probe; 0: that of the head
    frozen_norms: bool = True  # batch norms keep the pre-trained statistics throughout

    def resolved(self) -> Any:
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"probe_share": (0, 1), "probe_lr": (0, 100)})
        return self


class ProbeFirst:
    """The two stages, each with the recipe's whole schedule; the state is that of both optimizers."""

    def __init__(self, net: Network, target: Stream, recipe: Recipe, settings: ProbeSettings) -> None:
        self.net, self.target, self.settings = net, target, settings
        self.num_probe_steps = round(settings.probe_share * recipe.steps)
        own: dict[str, Any] = {"lr": settings.probe_lr, "head_lr_factor": 1.0} if settings.probe_lr else {}
        self.probe_recipe = replace(recipe, **own).shortened(self.num_probe_steps)
        self.recipe = recipe.shortened(recipe.steps - self.num_probe_steps)
        self.probe_optimizer = self.probe_recipe.make_optimizer(net.target_head)
        self.optimizer = recipe.make_optimizer(net)
        self.train_mode()

    def step(self, t: int) -> Metrics:
        """Train on the next target batch: the head in the first stage, all weights in the second."""
        if t < self.num_probe_steps:
            return train_step(self.probed, self.target, self.probe_optimizer, self.probe_recipe.lr_at(t))
        return self.tune(self.recipe.lr_at(t - self.num_probe_steps))

    def tune(self, rate: float) -> Metrics:
        """Train all weights on the next target batch."""
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
            norm.train(norm.training and not self.settings.frozen_norms)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both optimizers."""
        return {name: getattr(self, name).state_dict() for name in ("probe_optimizer", "optimizer")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        for name, own in state.items():
            getattr(self, name).load_state_dict(own)


def images_per_step(settings: ProbeSettings, recipe: Recipe) -> tuple[int, int]:
    """Count the probe's images as judged: the encoder is frozen. See `Method.images_per_step`."""
    num_judged = round(settings.probe_share * recipe.batch_size)
    return recipe.batch_size - num_judged, num_judged
