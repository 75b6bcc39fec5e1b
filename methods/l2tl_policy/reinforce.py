"""A policy over the class weights and the scale of the source loss, learned by REINFORCE. It has no input.

Source: Zhu, Arik, Yang, Pfister: Learning to Transfer Learn (arXiv 1908.11406), section 4;
Williams 1992 for the gradient. Shape letters: C source classes, n weight actions, m scale actions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...datasets.base import derive_seed
from ...datasets.device import moved
from ..base import restore, saved
from ..components.early_epsilon import add_epsilon_early
from ..recipe import EARLY_EPSILON, OptimizerName

Actions = tuple[Tensor, Tensor]  # of each class [C], and of the scale [1]


@dataclass(frozen=True)
class PolicyConfig:
    """The levels of a policy, and the constants of REINFORCE as in `L2TL.Config`."""

    weight_levels: tuple[float, ...]
    scale_levels: tuple[float, ...]
    learns_weights: bool = True
    learns_scale: bool = True
    lr: float = 1e-4
    lr_decay_step: int = 0
    logp_mean: bool = False
    baseline_momentum: float = 0.95
    baseline_first: bool = False
    baseline_debiased: bool = True
    tf_adam: bool = False


class Policy:
    """A categorical distribution for each source class and one for the scale; all start uniform.

    Args:
        num_classes: C.
        config: levels and constants.
        seed: sample k depends on the seed and on k only.
        device: device of the logits.
    """

    def __init__(self, num_classes: int, config: PolicyConfig, seed: int, device: torch.device) -> None:
        self.config = config
        self.seed = seed
        self.device = device
        self.weight_levels = torch.tensor(config.weight_levels, device=device)
        self.scale_levels = torch.tensor(config.scale_levels, device=device)
        self.weight_logits = torch.zeros(num_classes, len(self.weight_levels), device=device)
        self.scale_logits = torch.zeros(len(self.scale_levels), device=device)
        learned = [
            logits.requires_grad_()
            for logits, learns in (
                (self.weight_logits, config.learns_weights),
                (self.scale_logits, config.learns_scale),
            )
            if learns
        ]
        self.optimizer = torch.optim.Adam(learned, lr=config.lr, fused=True) if learned else None
        if self.optimizer and config.tf_adam:
            add_epsilon_early(self.optimizer, EARLY_EPSILON[OptimizerName.adam_tf])
        self.num_samples = torch.zeros((), dtype=torch.long)
        self.num_updates = torch.zeros((), dtype=torch.long)
        self.reward_sum = torch.zeros((), device=device)  # N of the moving average N / D
        self.reward_share = torch.zeros((), device=device)  # D

    def state_dict(self) -> dict[str, Any]:
        """Return the state: logits, optimizer, baseline and counts."""
        return saved(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state."""
        restore(self, state)

    def sample(self) -> tuple[Tensor, Tensor, Actions]:
        """Sample weights [C] and a scale []; return the actions too."""
        seed = derive_seed(self.seed, "policy", int(self.num_samples))
        u = torch.rand(len(self.weight_logits) + 1, generator=torch.Generator().manual_seed(seed))
        u = moved(u, self.device)
        self.num_samples += 1
        action_C = _inverse_cdf(self.weight_logits, u[:-1])
        action = _inverse_cdf(self.scale_logits[None], u[-1:])
        return (
            self.weight_levels[action_C],
            self.scale_levels[action][0],  # indexing by a number would wait for the device
            (action_C, action),
        )

    def log_prob(self, actions: Actions, judged_C: Tensor | None = None) -> Tensor:
        """Return the log-probability [] of actions: sum or mean over the classes, plus that of the scale.

        Args:
            actions: from `sample`.
            judged_C: which classes count [C]; None: all.
        """
        action_C, action = actions
        total = torch.zeros((), device=self.device)
        if self.config.learns_weights:
            logp_C = self.weight_logits.log_softmax(1).gather(1, action_C[:, None])[:, 0]
            counts_C = torch.ones_like(logp_C) if judged_C is None else judged_C.to(logp_C.dtype)
            sum_C = (counts_C * logp_C).sum()
            total = total + (sum_C / counts_C.sum() if self.config.logp_mean else sum_C)
        if self.config.learns_scale:
            total = total + self.scale_logits.log_softmax(0)[action][0]
        return total

    def advantage(self, reward: Tensor) -> Tensor:
        """Return the reward minus its moving average, and update the average.

        With `baseline_first` the average is updated before it is subtracted (released code), else after
        (paper, section 4). The advantage of the first reward is zero.
        """
        m = self.config.baseline_momentum
        new_sum = m * self.reward_sum + (1 - m) * reward
        if self.config.baseline_debiased:
            new_share = m * self.reward_share + (1 - m)
        else:
            new_share = torch.ones_like(self.reward_share)
        is_first = self.reward_share == 0
        if not self.config.baseline_debiased:
            new_sum = torch.where(is_first, reward, new_sum)
        old = torch.where(is_first, reward, self.reward_sum / self.reward_share.clamp(min=1e-12))
        self.reward_sum, self.reward_share = new_sum, new_share
        return reward - (new_sum / new_share if self.config.baseline_first else old)

    def reinforce(self, log_prob: Tensor, reward: Tensor) -> Tensor:
        """Take one step of Adam along the policy gradient; return the advantage []."""
        advantage = self.advantage(reward.detach())
        if self.optimizer is not None:
            decays = self.config.lr_decay_step
            late = 0 < decays < int(self.num_updates)
            self.optimizer.param_groups[0]["lr"] = self.config.lr * (0.1 if late else 1)
            (-advantage * log_prob).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.num_updates += 1
        return advantage

    def tilt(self, slope_C: Tensor, scale_slope: Tensor) -> None:
        """Set logits that rise linearly with the levels: slopes [C], [] from level 0 to the highest."""
        with torch.no_grad():
            if self.config.learns_weights:
                top = self.weight_levels.max().clamp(min=1e-12)
                self.weight_logits.copy_(slope_C[:, None] * self.weight_levels / top)
            if self.config.learns_scale:
                top = self.scale_levels.max().clamp(min=1e-12)
                self.scale_logits.copy_(scale_slope * self.scale_levels / top)
        self.num_updates += 1

    def freeze(self, controls: Mapping[str, Tensor]) -> None:
        """Load learned logits and stop learning; sampling goes on."""
        with torch.no_grad():
            self.weight_logits.copy_(controls["weight_logits"])
            self.scale_logits.copy_(controls["scale_logits"])
        self.optimizer = None

    def controls(self) -> dict[str, Tensor]:
        """Return the logits, for `freeze` in a second stage."""
        return {
            "weight_logits": self.weight_logits.detach().cpu(),
            "scale_logits": self.scale_logits.detach().cpu(),
        }

    def expected(self) -> tuple[Tensor, Tensor]:
        """Return the mean weights [C] and the mean scale []."""
        with torch.no_grad():
            weight_C = self.weight_logits.softmax(1) @ self.weight_levels
            return weight_C, self.scale_logits.softmax(0) @ self.scale_levels

    def mean_weights(self, num_samples: int = 10_000) -> Tensor:
        """Return the weights [C], averaged over many samples (paper, section 5.1: 10,000)."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "mean weights"))
        with torch.no_grad():
            logits = self.weight_logits.cpu()
            actions = torch.multinomial(logits.softmax(1), num_samples, replacement=True, generator=generator)
            return self.weight_levels.cpu()[actions].mean(1)


def _inverse_cdf(logits: Tensor, u: Tensor) -> Tensor:
    """Return the actions [C] of categorical distributions [C,n] at uniform numbers [C]."""
    with torch.no_grad():
        cumulative = logits.softmax(1).cumsum(1)
        return torch.searchsorted(cumulative, u[:, None])[:, 0].clamp(max=logits.shape[1] - 1)
