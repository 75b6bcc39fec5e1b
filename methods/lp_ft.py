"""LP-FT: a linear probe, then fine-tuning of all weights that starts from the probe's head.

Use when: the test images may differ from the training images of the target.
Source: Kumar, Raghunathan, Jones, Ma, Liang: Fine-Tuning can Distort Pretrained Features and
Underperform Out-of-Distribution (arXiv 2202.10054), section 4; norms as in the released code's usual
variant (`AnanyaKumar/transfer_learning`).
Departs from: both stages share the steps of one run (`probe_share`), each with the recipe's whole schedule,
where the paper trains the probe to convergence first; the recipe's weight decay, not zero.
"""

from dataclasses import dataclass

from .base import Method, Metrics, Problem
from .components.probe_first import ProbeFirst, ProbeSettings, images_per_step
from .recipe import Recipe


@dataclass
class Config(ProbeSettings):
    """Settings of LP-FT."""


class LPFT(Method[Config]):
    """A linear probe before fine-tuning, so the features change less."""

    title = "LP-FT"
    paper = "arXiv 2202.10054"
    data_parallel = True
    trains_in_parts = True
    own_norms = True
    kind = "initialization"

    def __init__(self, problem: Problem, config: Config) -> None:
        self.net = problem.network()
        self.target = problem.target.stream(problem.recipe.batch_size, problem.seed)
        self.stages = ProbeFirst(self.net, self.target, problem.recipe, config)

    def step(self, t: int) -> Metrics:
        """Train on the next target batch: the head in the first stage, all weights in the second."""
        return self.stages.step(t)

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count the probe's images as judged."""
        return images_per_step(config, recipe)
