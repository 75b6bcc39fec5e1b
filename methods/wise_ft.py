"""WiSE-FT: the mean of a linear probe and its fine-tuned network, with a share chosen on the holdout.

Use when: the test images may differ from the training images of the target, and fine-tuning forgets.
Source: Wortsman, Ilharco, Kim, Li, Kornblith, Roelofs, Gontijo Lopes, Hajishirzi, Farhadi, Namkoong, Schmidt:
Robust fine-tuning of zero-shot models (arXiv 2109.01903), section 3.
Departs from: (1) the start has the head of a linear probe, as LP-FT has it, where the paper's head is made of
the class names by a text encoder; (2) the share of the fine-tuned weights is the best of 0, 0.1 ... 1 on the
holdout, where the paper recommends 0.5 without further knowledge; a run on training and holdout images uses
the share of a first stage; (3) probe and fine-tuning share the steps of one run. Running statistics of batch
norms are averaged as weights are; with `frozen_norms` both ends have the same.

Shape letters: P weights.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..datasets import distributed
from .base import Method, Metrics, Problem, judging_stream, timed
from .components.probe_first import ProbeFirst, ProbeSettings, images_per_step
from .components.weight_vectors import best_share, flat, judge_of, predicting, put
from .recipe import Recipe


@dataclass
class Config(ProbeSettings):
    """Settings of WiSE-FT."""


class WiSEFT(Method[Config]):
    """Fine-tuning whose weights are averaged with those of its start."""

    title = "WiSE-FT"
    paper = "arXiv 2109.01903"
    data_parallel = True
    trains_in_parts = True
    learns_controls = True
    averages_weights = True
    own_norms = True
    kind = "regularizer"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.problem, self.num_steps = problem, problem.recipe.steps
        self.net = problem.network()
        self.target = problem.target.stream(problem.recipe.batch_size, problem.seed)
        self.stages = ProbeFirst(self.net, self.target, problem.recipe, config)
        self.start_P = flat(predicting(self.net))
        self.share = torch.ones(())  # of the fine-tuned weights
        if problem.controls is None:
            self.holdout = judging_stream(problem, problem.recipe.batch_size)
        else:
            self.share = problem.controls["share"].cpu()

    def step(self, t: int) -> Metrics:
        """Train on the next target batch; after the last one, average start and end."""
        if t == self.stages.num_probe_steps:
            self.start_P.copy_(flat(predicting(self.net)))
        metrics = self.stages.step(t)
        if t == self.num_steps - 1 and t >= self.stages.num_probe_steps:
            with timed("reward"):
                self.average()
        return metrics

    def average(self) -> None:
        """Choose the share, if no first stage has, and put the mean in the place of the weights."""
        end_P = flat(predicting(self.net))
        if self.problem.controls is None:
            self.share = torch.tensor(distributed.on_first(self.chosen, end_P))
        put(predicting(self.net), self.start_P.lerp(end_P, self.share.item()))

    def chosen(self, end_P: Tensor) -> float:
        """Return the share of the end's weights [P] that is best on the holdout."""
        return best_share(self.start_P, end_P, judge_of(self.net, self.holdout, self.problem))

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count the probe's images as judged."""
        return images_per_step(config, recipe)

    def chosen_values(self) -> dict[str, float | list[int]]:
        """Return the share of the fine-tuned weights."""
        return {"share": round(self.share.item(), 1)}

    def controls(self) -> dict[str, Tensor]:
        """Return the share, which a second stage replays."""
        return {"share": self.share}
