"""Surgical fine-tuning: one part of the encoder is trained, with the head; trials on the holdout choose it.

Use when: source and target differ in one respect, as in noise (first part) or in classes (last part).
Source: Lee, Chen, Tajwar, Kumar, Yao, Liang, Finn: Surgical Fine-Tuning Improves Adaptation to Distribution
Shifts (arXiv 2210.11466), section 2: the best of the blocks by held-out images.
Departs from: the trials are a share of the steps of the run (`trial_share`), not whole runs: each part is
trained from the start with a whole schedule, and that of the smallest holdout loss is trained from the start
again in the other steps. The head is trained along, as the target has other classes. Running statistics of
batch norms follow `bn`, in frozen parts too.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor

from .. import InputError
from .base import Method, Metrics, Problem, check_ranges, judging_stream, timed, train_step, training_restarts
from .components.partial import train_only
from .components.stages import by_depth
from .metrics import classification_loss
from .networks.network import evaluation_mode


@dataclass
class Config:
    """Settings of surgical fine-tuning."""

    part: int = 0  # part that is trained, 1: the first; 0: chosen on the holdout
    num_parts: int = 4  # number of parts of the encoder; fewer if it has fewer stages
    # Share of the steps for the trials of all parts; if that is not a step for each, the last part is trained
    trial_share: float = 0.2

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"num_parts": (1, 100), "part": (0, self.num_parts), "trial_share": (0, 0.9)})
        return self


class Surgical(Method[Config]):
    """Fine-tuning of one part of the encoder."""

    title = "Surgical fine-tuning"
    paper = "arXiv 2210.11466"
    trains_in_parts = True
    learns_controls = True

    def __init__(self, problem: Problem, config: Config) -> None:
        recipe = problem.recipe
        self.net = problem.network()
        self.parts = by_depth(self.net.encoder, config.num_parts)
        if config.part > len(self.parts):
            raise InputError(f"method.part={config.part}: the backbone has parts 1 to {len(self.parts)}")
        self.losses = torch.zeros(len(self.parts), device=problem.device)  # of the holdout, after the trials
        self.is_given = config.part > 0
        is_known = self.is_given or problem.controls is not None
        self.num_trial_steps = 0 if is_known else int(config.trial_share * recipe.steps / len(self.parts))
        if problem.controls is not None and not config.part:
            self.losses.copy_(problem.controls["losses"])
        elif not self.num_trial_steps:
            self.losses[config.part - 1] = -1.0
        else:
            self.holdout = judging_stream(problem, recipe.batch_size)
        self.trial_recipe = recipe.shortened(self.num_trial_steps)
        self.recipe = recipe.shortened(recipe.steps - self.num_trial_steps * len(self.parts))
        self.target = problem.target.stream(recipe.batch_size, problem.seed)
        self.optimizer = recipe.make_optimizer(self.net)
        self.start = deepcopy(self.net.state_dict()) if self.num_trial_steps else {}

    def step(self, t: int) -> Metrics:
        """Train the part of this step and the head on the next target batch; judge it if its trial ends."""
        trial, u = divmod(t, self.num_trial_steps) if self.num_trial_steps else (len(self.parts), t)
        is_trial = trial < len(self.parts)
        if not is_trial:
            trial, u = int(self.losses.argmin()), t - self.num_trial_steps * len(self.parts)
        if u == 0 and self.start:
            self.net.load_state_dict(self.start)
            self.optimizer.state.clear()
            training_restarts()
        train_only(self.net, self.parts[trial])
        rate = (self.trial_recipe if is_trial else self.recipe).lr_at(u)
        metrics = train_step(self.net.target, self.target, self.optimizer, rate)
        if is_trial and u == self.num_trial_steps - 1:
            self.losses[trial] = self.holdout_loss()
        return {**metrics, "part": torch.full_like(self.losses[0], trial + 1)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state, and which part is trained: after the last step no other step tells it."""
        super().load_state_dict(state)
        train_only(self.net, self.parts[int(self.losses.argmin())])

    def holdout_loss(self) -> Tensor:
        """Return the mean loss [] over all holdout images; infinity if it is not a number."""
        with timed("reward"), torch.no_grad(), evaluation_mode(self.net):
            answers = [(self.net.target(x), y) for x, y in self.holdout.whole(self.holdout.batch_size)]
        z, y = (torch.cat(part) for part in zip(*answers, strict=True))
        return classification_loss(z, y).nan_to_num(nan=inf)

    def chosen_values(self) -> dict[str, float | list[int]]:
        """Return the number of the part, unless it was given or there were no trials."""
        chosen = not self.is_given and self.losses.min() >= 0
        return {"part": int(self.losses.argmin()) + 1} if chosen else {}

    def controls(self) -> dict[str, Tensor]:
        """Return the losses that choose the part."""
        return {"losses": self.losses}
