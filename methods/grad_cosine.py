"""Gradient cosine: joint training that uses the source's gradient if it agrees with the target's.

Use when: source images are available during training, and their loss may conflict with the target's.
Source: Du, Czarnecki, Jayakumar, Farajtabar, Pascanu, Lakshminarayanan: Adapting Auxiliary Losses Using
Gradient Similarity (arXiv 1812.02224), section 3, algorithms 1 (`weighted=true`) and 2 (unweighted).

Departs from: nothing; the auxiliary task is the classification of source images, and the shared parameters,
on which gradients are compared, are the encoder's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from .base import Method, Metrics, Problem, check_ranges, timed, update
from .metrics import classification_loss
from .recipe import Recipe


@dataclass
class Config:
    """Settings of gradient cosine."""

    weighted: bool = False  # multiply the source gradient by a positive cosine; False: by one
    scale: float = 1.0  # weight of the source loss

    def resolved(self) -> "Config":
        """Check the range. Raises: InputError."""
        check_ranges(self, {"scale": (0, inf)})
        return self


class GradCosine(Method[Config]):
    """The source's loss as an auxiliary loss, gated by the cosine of its gradient and the target's."""

    title = "Gradient cosine"
    paper = "arXiv 1812.02224"
    kind = "regularizer"
    needs_source = True

    def __init__(self, problem: Problem, config: Config) -> None:
        assert problem.source is not None
        self.config, self.recipe = config, problem.recipe
        self.net = problem.network()
        self.optimizer = self.recipe.make_optimizer(self.net)
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.source = problem.source.stream(self.recipe.source_size, problem.seed)

    def step(self, t: int) -> Metrics:
        """Train on the target's gradient and the gated gradient of the source."""
        with timed("data"):
            (x_T, y_T), (x_S, y_S) = next(self.target), next(self.source)
        with timed("target"):
            loss = classification_loss(self.net.target(x_T), y_T, weight_C=self.target.weight_C)
            loss.backward()
        with timed("source"):
            source_loss = self.config.scale * classification_loss(self.net.source(x_S), y_S)
            head = list(self.net.source_head.parameters())
            shared = [p for p in self.net.encoder.parameters() if p.grad is not None]
            gradients = torch.autograd.grad(source_loss, [*head, *shared])
            own, auxiliary = gradients[: len(head)], gradients[len(head) :]
            cosine = cosine_of(auxiliary, [p.grad for p in shared])
            gate = cosine.clamp(min=0) if self.config.weighted else (cosine > 0).float()
            for p, gradient in zip(head, own, strict=True):
                p.grad = gradient
            for p, gradient in zip(shared, auxiliary, strict=True):
                p.grad.add_(gate * gradient)
            update(self.optimizer, self.recipe.lr_at(t))
        metrics = {"loss": loss.detach(), "source_loss": source_loss.detach()}
        return {**metrics, "cosine": cosine, "gate": gate}

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count the images of a step: both batches are trained on."""
        return recipe.batch_size + recipe.source_size, 0


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Return the inner product [] of two gradients, lists of tensors of the same shapes."""
    return torch.stack([(u * v).sum() for u, v in zip(a, b, strict=True)]).sum()


def cosine_of(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Return the cosine [] of two gradients; zero if one of them is zero."""
    return dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().clamp(min=1e-30)
