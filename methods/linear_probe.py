"""Linear probe: a linear head on the frozen encoder of the source-pre-trained network.

Use when: the encoder has to stay frozen, or you want the cheapest baseline.
Source: Alain & Bengio: Understanding intermediate layers (arXiv 1610.01644), as a baseline.
Departs from: L-BFGS on cached features. Here the recipe's optimizer trains the head on augmented images, with
the same number of steps as every other method.
"""

from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from .. import InputError
from .base import Method, Metrics, Problem, check_ranges, train_step
from .networks.network import Network, init_head
from .networks.predictor import Predictor
from .recipe import Recipe


@dataclass
class Config:
    """Settings of the linear probe."""

    taps: int = 1  # input of the head; 1: the last features; k: also the mean maps of k - 1 earlier stages

    def resolved(self) -> "Config":
        """Check the range. Raises: InputError."""
        check_ranges(self, {"taps": (1, inf)})
        return self


class ByStages(Predictor):
    """A head on the encoder's features and the mean maps of earlier stages."""

    def __init__(self, *parts: Any, taps: int, **rest: Any) -> None:
        super().__init__(*parts, **rest)
        self.taps = taps

    def options(self) -> dict[str, Any]:
        """Return what builds it again."""
        return {**super().options(), "taps": self.taps}

    def inputs(self, x: Tensor) -> Tensor:
        """Return the input of the head [B,F] for images [B,3,H,W]."""
        return features_of(self, x, self.taps)


class LinearProbe(Method[Config]):
    """A linear head on the features of the frozen encoder."""

    title = "Linear probe"
    paper = "arXiv 1610.01644"
    data_parallel = True
    trains_in_parts = True
    own_norms = True
    predictor_class = ByStages

    def __init__(self, problem: Problem, config: Config) -> None:
        self.recipe = problem.recipe
        self.taps = config.taps
        self.net = problem.network().requires_grad_(False)
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        x, _ = next(problem.target.batches(1))
        if self.taps > 1:
            self.check_taps(x)
        self.head = new_head(self.features(x).shape[1], problem)
        self.optimizer = self.recipe.make_optimizer(self.head)

    def check_taps(self, x: Tensor) -> None:
        """Check that the encoder has as many stages, by a pass of images. Raises: InputError."""
        with torch.no_grad():
            num_stages = len(self.net.eval().encoder.forward_intermediates(x)[1])
        if self.taps > num_stages:
            raise InputError(
                f"method.taps={self.taps}: the backbone has {num_stages} stages; expected 1 to {num_stages}"
            )

    def features(self, x: Tensor) -> Tensor:
        """Return features [B,F] of images [B,3,H,W], by the encoder in evaluation mode."""
        self.net.eval()
        with torch.no_grad():
            return features_of(self.net, x, self.taps)

    def step(self, t: int) -> Metrics:
        """Train the head on the next target batch."""
        forward = lambda x: self.head(self.features(x))  # noqa: E731
        return train_step(forward, self.target, self.optimizer, self.recipe.lr_at(t))

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count all images as judged: the encoder is frozen."""
        return 0, recipe.batch_size

    def predict(self, x: Tensor) -> Tensor:
        """Return target logits [B,C_T]."""
        return self.head(self.features(x))

    def predictor(self) -> Predictor:
        """Return the encoder with the head on its features and earlier stages."""
        return self.predictor_with(self.head, taps=self.taps)


def features_of(net: Network | Predictor, x: Tensor, taps: int) -> Tensor:
    """Return the features, after the mean maps of `taps` - 1 earlier stages [B,F]."""
    last = net.features(x)
    if taps == 1:
        return last
    maps = net.encoder.forward_intermediates(x)[1][-taps:-1]
    return torch.cat([m.float().mean((2, 3)) for m in maps] + [last], dim=1)


def new_head(width: int, problem: Problem) -> nn.Linear:
    """Build a target head on features [B,F], initialized as that of a network."""
    head = nn.Linear(width, problem.target.num_classes)
    return init_head(head, problem.recipe.head_init_std).to(problem.device)
