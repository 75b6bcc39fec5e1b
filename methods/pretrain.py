"""Source pre-training: its weights are the start of the other methods; it runs once and is shared.

Use when: never by hand. The other methods run it when they need it.
Source: Zhu et al. (arXiv 1908.11406), section 3, equation 3, first case; with class weights it is
the specialist pre-training of Ngiam et al. (arXiv 1811.07056), section 3.
Departs from: with published weights (`pretrained=true`, `checkpoint=PATH`) the shared pre-training trains
only a source head on the frozen encoder, so the encoder keeps the published weights; a specialist trains the
whole network.
"""

from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

import torch
from torch import Tensor

from .base import Method, Metrics, Problem, train_step


class Matcher(StrEnum):
    """The way to sample source images by weight (Ngiam et al., section 3)."""

    same = auto()  # with replacement
    elastic = auto()  # a subset without replacement, then epochs of it


@dataclass
class Config:
    """Settings of source pre-training."""

    class_weights: list[float] = field(
        default_factory=list
    )  # weight of each source class in sampling; empty: no weights
    matcher: Matcher = Matcher.same  # sampling with (same) or without (elastic) replacement
    num_samples: int = 0  # matcher=elastic: number of sampled images; 0: half of the source
    generalist: str = ""  # digest of the pre-training whose weights it starts from; empty: random weights
    head_only: bool = False  # train the source head only


class Pretrain(Method[Config]):
    """A classifier of the source, evaluated on the source's holdout."""

    title = "Source pre-training"
    paper = "arXiv 1908.11406"
    data_parallel = True
    trains_in_parts = True
    needs_source = True
    uses_pretraining = False

    def __init__(self, problem: Problem, config: Config) -> None:
        assert problem.source is not None
        self.recipe = problem.recipe
        self.head_only = config.head_only
        self.net = problem.network()
        if self.head_only:
            self.net.encoder.requires_grad_(False)
        self.source = self._stream(problem, config)
        self.optimizer = self.recipe.make_optimizer(self.net)

    def _stream(self, problem: Problem, config: Config) -> Any:
        """Return the source stream: epochs, samples with replacement, or epochs of a sampled subset."""
        source, batch_size = problem.source, self.recipe.batch_size
        assert source is not None
        if not config.class_weights:
            return source.stream(batch_size, problem.seed)
        weight_N = torch.tensor(config.class_weights)[source.labels.cpu()]
        if config.matcher is Matcher.same:
            return source.stream(batch_size, problem.seed, weights=weight_N)
        subset = source.subset(drawn_without_replacement(weight_N, config.num_samples, problem.seed))
        return subset.stream(batch_size, problem.seed)

    def step(self, t: int) -> Metrics:
        """Train on the next source batch."""
        self.net.encoder.train(not self.head_only)
        return train_step(self.net.source, self.source, self.optimizer, self.recipe.lr_at(t), "source")

    @classmethod
    def label(cls, config: Config) -> str:
        """Return the row's name: a specialist, or the shared pre-training."""
        return "Specialist pre-training" if config.class_weights else cls.title

    def predict(self, x: Tensor) -> Tensor:
        """Return source logits [B,C_S]."""
        return self.net.source(x)


def drawn_without_replacement(weight_N: Tensor, num_samples: int, seed: int) -> Tensor:
    """Return the rows of images sampled by weight without replacement, in ascending order.

    Sorting exponential keys equals successive draws (Efraimidis & Spirakis 2006).

    Args:
        weight_N: weight of each image; zero: never sampled.
        num_samples: most images; 0: half of them.
        seed: equal seeds give equal samples.
    """
    generator = torch.Generator().manual_seed(seed)
    key_N = torch.empty(len(weight_N), dtype=torch.double).exponential_(generator=generator) / weight_N
    wanted = min(num_samples or len(weight_N) // 2, int((weight_N > 0).sum()))
    return key_N.argsort()[:wanted].sort().values
