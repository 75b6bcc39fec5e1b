"""Model soup: the mean of the weights of several fine-tuned networks, for the price of one.

Use when: one network is wanted, and several learning rates are as good as known.
Source: Wortsman, Ilharco, Gadre, Roelofs, Gontijo-Lopes, Morcos, Namkoong, Farhadi, Carmon, Kornblith,
Schmidt: Model soups (arXiv 2203.05482), sections 2 and 3, uniform and greedy (algorithm 1).
Departs from: (1) the models share the steps of one run, where the paper has dozens of whole runs of a
hyperparameter search. Trials of `tune=auto` keep no weights, have another seed and mostly fewer steps; to
train its best candidates again with the seed of the run would give this row more steps than any other;
(2) they differ in the learning rate and in their batches only; (3) the common start has the head of a linear
probe, as LP-FT has it. A run on training and holdout images uses the choice of a first stage. Running
statistics of batch norms are averaged as weights are; with `frozen_norms` all models have the same.

Shape letters: K models, P weights.
"""

from dataclasses import dataclass
from enum import StrEnum, auto
from math import inf

import torch
from torch import Tensor

from ..datasets import distributed
from .base import Method, Metrics, Problem, check_ranges, judging_stream, timed
from .components.probe_first import ProbeFirst, ProbeSettings, images_per_step
from .components.weight_vectors import flat, greedy_soup, judge_of, predicting, put
from .recipe import Recipe


class Selection(StrEnum):
    """The models whose weights are averaged."""

    greedy = auto()  # from the best on, those that do not lower the score on the holdout
    uniform = auto()  # all


@dataclass
class Config(ProbeSettings):
    """Settings of the soup."""

    probe_share: float = 0.2  # share of the steps for the linear probe, 0 to 1
    num_models: int = 4  # models that share the other steps
    rate_factor: float = 2.0  # highest learning rate of a model, relative to `lr`; the lowest: its inverse
    selection: Selection = Selection.greedy  # models whose weights are averaged

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"num_models": (1, 1000), "rate_factor": (1, inf)})
        super().resolved()
        return self


class Soup(Method[Config]):
    """Several short fine-tunings from one start, whose weights are averaged."""

    title = "Model soup"
    paper = "arXiv 2203.05482"
    data_parallel = True
    trains_in_parts = True
    learns_controls = True
    averages_weights = True
    own_norms = True
    kind = "regularizer"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.problem, self.config, self.recipe = problem, config, problem.recipe
        self.net = problem.network()
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.stages = ProbeFirst(self.net, self.target, self.recipe, config)
        probe, steps = self.stages.num_probe_steps, self.recipe.steps
        number = min(config.num_models, steps - probe)
        self.bounds = [probe + round(k * (steps - probe) / max(1, number)) for k in range(number + 1)]
        self.start_P = flat(predicting(self.net))
        self.models_KP = self.start_P.new_zeros(number, len(self.start_P))
        self.kept_K = torch.ones(number)
        if problem.controls is not None:
            self.kept_K = problem.controls["kept"].cpu()
        elif config.selection is Selection.greedy:
            self.holdout = judging_stream(problem, self.recipe.batch_size)

    def step(self, t: int) -> Metrics:
        """Train on the next target batch: the head, or a model; after the last step, average the models."""
        if t < self.bounds[0]:
            return self.stages.step(t)
        k, end = next((k, end) for k, end in enumerate(self.bounds[1:]) if t < end)
        begin = self.bounds[k]
        if t == begin:
            self.begin(k)
        rate = self.recipe.shortened(end - begin).lr_at(t - begin)
        metrics = self.stages.tune(self.factor(k) * rate)
        if t == end - 1:
            self.models_KP[k].copy_(flat(predicting(self.net)))
        if t == self.recipe.steps - 1:
            with timed("reward"):
                self.average()
        return metrics

    def begin(self, k: int) -> None:
        """Start model k from the common start, with a new optimizer."""
        if k == 0:
            self.start_P.copy_(flat(predicting(self.net)))
        put(predicting(self.net), self.start_P)
        self.stages.optimizer.state.clear()

    def factor(self, k: int) -> float:
        """Return the learning rate of model k, relative to the recipe's: equal distances on a log scale."""
        last = len(self.models_KP) - 1
        return self.config.rate_factor ** (2 * k / last - 1) if last else 1.0

    def average(self) -> None:
        """Select the models, if no first stage has, and put their mean in the place of the weights."""
        if self.problem.controls is None and self.config.selection is Selection.greedy:
            kept = distributed.on_first(self.selected)
            self.kept_K = torch.zeros(len(self.kept_K)).index_fill(0, torch.tensor(kept), 1)
        kept_K = self.kept_K.bool().to(self.models_KP.device)
        put(predicting(self.net), self.models_KP[kept_K].mean(0))

    def selected(self) -> list[int]:
        """Return the numbers of the models of the greedy soup."""
        return greedy_soup(self.models_KP, judge_of(self.net, self.holdout, self.problem))

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count the probe's images as judged."""
        return images_per_step(config, recipe)

    def chosen_values(self) -> dict[str, float | list[int]]:
        """Return the numbers of the models in a greedy soup; the first has the lowest learning rate."""
        if self.config.selection is Selection.uniform:
            return {}
        return {"models": (self.kept_K.nonzero()[:, 0] + 1).tolist()}

    def controls(self) -> dict[str, Tensor]:
        """Return which models are kept [K], which a second stage replays."""
        return {"kept": self.kept_K}
