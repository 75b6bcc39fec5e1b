"""Source pre-training: the run that the other methods start from, made once and shared.

Source: Zhu et al. (arXiv 1908.11406), section 3, equation 3, first case; with class weights it is
the specialist pre-training of Ngiam et al. (arXiv 1811.07056), section 3.
Departs from: with published weights (`pretrained=true`, `checkpoint=PATH`) the shared pre-training fits
only a source head, on the frozen encoder, so that the encoder stays the published one; a specialist
trains the whole network.
"""

from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

import torch
from torch import Tensor

from .base import Method, Metrics, Problem, train_step


class Matcher(StrEnum):
    """How source images are drawn by weight."""

    same = auto()
    elastic = auto()


@dataclass
class Config:
    """Which images, from where, and what is trained."""

    class_weights: list[float] = field(default_factory=list)  # of each source class; empty: as they come
    matcher: Matcher = Matcher.same
    num_samples: int = 0  # elastic: size of the set that is drawn without replacement; 0: half
    generalist: str = ""  # digest of the pre-training to start from; empty: random weights
    head_only: bool = False


class Pretrain(Method[Config]):
    """A classifier of the source; what it is judged by is the source's own holdout."""

    title = "Source pre-training"
    paper = "arXiv 1908.11406"
    data_parallel = True
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
        """Open the stream: by epochs, with replacement, or by epochs of a drawn subset."""
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
        """Tell a specialist from the shared pre-training."""
        return "Specialist pre-training" if config.class_weights else cls.title

    def predict(self, x: Tensor) -> Tensor:
        """Return source logits [B,C_S]."""
        return self.net.source(x)


def drawn_without_replacement(weight_N: Tensor, num_samples: int, seed: int) -> Tensor:
    """Draw images one after another by weight; once a class is used up, its mass moves on.

    The order of exponential keys is that of successive draws (Efraimidis & Spirakis 2006).

    Args:
        weight_N: weight of each image [N], zero for never.
        num_samples: how many at most; 0: half of the images.
        seed: of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    key_N = torch.empty(len(weight_N), dtype=torch.double).exponential_(generator=generator) / weight_N
    wanted = min(num_samples or len(weight_N) // 2, int((weight_N > 0).sum()))
    return key_N.argsort()[:wanted].sort().values
