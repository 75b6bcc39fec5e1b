"""DoGE: joint training with weights of source classes by the agreement of their gradients and the target's.

Use when: the useful part of the source is unknown, and a step may cost several backward passes.
Source: Fan, Pagliardini, Jaggi: DoGE: Domain Reweighting with Generalization Estimation
(arXiv 2310.15393), section 2, algorithm 1 for a target outside the mixture; constants from its released
code's configurations for such a target.

Departs from: (1) a domain is a source class, and a step sees `num_domains` of them, not all; (2) the network
that is evaluated uses the weights while they are learned, with the target's loss added: there is no proxy
model and no second training; (3) gradients are compared on the encoder, which both sides share, and clipped
for the comparison alone.

Shape letters: D domains of a step, B images of a batch, S source classes.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from ..datasets.base import derive_seed
from ..datasets.device import moved
from .base import Method, Metrics, Problem, check_ranges, classed_source, timed, update
from .grad_cosine import dot
from .metrics import classification_loss
from .recipe import Recipe

MAX_NORM = 1.0  # norm to which a gradient is clipped; with mu 0.01 the released code has 5
MAX_SCORE = 5.0  # largest score of a domain, in learning rates


@dataclass
class Config:
    """Settings of DoGE."""

    mu: float = 0.05  # Bregman coefficient; smaller values change the weights faster
    num_domains: int = 8  # D, source classes in a step; each takes a backward pass
    scale: float = 1.0  # weight of the source loss

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"mu": (1e-6, inf), "num_domains": (1, inf), "scale": (0, inf)})
        return self


class DoGE(Method[Config]):
    """Weights of source classes by multiplicative updates with the inner product of gradients."""

    title = "DoGE"
    paper = "arXiv 2310.15393"
    kind = "source selection"
    needs_source = True

    def __init__(self, problem: Problem, config: Config) -> None:
        self.config, self.recipe, self.seed = config, problem.recipe, problem.seed
        source = classed_source(problem)
        self.net = problem.network()
        self.target = problem.target.stream(self.recipe.batch_size, problem.seed)
        self.source = source.stream(self.recipe.source_size, problem.seed)
        self.optimizer = self.recipe.make_optimizer(self.net)
        labels = source.labels.cpu()
        self.rows_of = {int(c): torch.nonzero(labels == c)[:, 0] for c in labels.unique()}
        self.log_weight_S = torch.zeros(source.num_classes, device=problem.device)
        self.total_S = torch.zeros(source.num_classes, device=problem.device)

    def step(self, t: int) -> Metrics:
        """Update the weights by the agreement of gradients, then train with them."""
        rate = self.recipe.lr_at(t)
        with timed("data"):
            classes_D, rows = self.draw(t)
            images = self.source.fetch(rows)
            x, y = next(self.target)
        with timed("target"):
            target_loss = classification_loss(self.net.target(x), y, weight_C=self.target.weight_C)
            target_loss.backward()
        with timed("data"):
            x, y = images.result()  # class by class
        with timed("source"):
            loss_B = classification_loss(self.net.source(x), y, reduction="none")
            loss_D = torch.stack([part_B.mean() for part_B in loss_B.tensor_split(len(classes_D))])
        with timed("policy"):
            score_D = self.scores(loss_D, rate)
            self.log_weight_S[classes_D] += score_D / self.config.mu
            weight_S = self.log_weight_S.softmax(0) * len(self.log_weight_S)
            self.total_S += weight_S
        with timed("source"):
            source_loss = self.config.scale * (weight_S[classes_D] * loss_D).mean()
            source_loss.backward()
            update(self.optimizer, rate)
        return {"loss": target_loss.detach(), "source_loss": source_loss.detach(), "score": score_D.mean()}

    def draw(self, t: int) -> tuple[Tensor, Tensor]:
        """Draw classes [D] and their images' rows [B], evenly divided; a function of the seed and t."""
        self.source.draw()  # counts batches and images
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "domains", t))
        order = torch.tensor(list(self.rows_of))[torch.randperm(len(self.rows_of), generator=generator)]
        size = self.recipe.source_size
        classes_D = order[: min(self.config.num_domains, size)]
        rows = []
        for i, c in enumerate(classes_D.tolist()):
            count = size // len(classes_D) + (i < size % len(classes_D))
            own = self.rows_of[c]
            rows.append(own[torch.randint(len(own), (count,), generator=generator)])
        return moved(classes_D, self.log_weight_S.device), torch.cat(rows)

    def scores(self, loss_D: Tensor, rate: float) -> Tensor:
        """Return the scores [D]: inner products of clipped gradients and the target's in `grad`."""
        shared = [p for p in self.net.encoder.parameters() if p.grad is not None]
        target = [p.grad for p in shared]
        target_clip = (MAX_NORM / dot(target, target).sqrt().clamp(min=1e-12)).clamp(max=1)
        agreement, norm = [], []
        for loss in loss_D:
            gradient = torch.autograd.grad(loss, shared, retain_graph=True)
            length = dot(gradient, gradient).sqrt()
            clip = (MAX_NORM / length.clamp(min=1e-12)).clamp(max=1)
            agreement.append(clip * target_clip * dot(gradient, target))
            norm.append(clip * length)
        mean_norm = torch.stack(norm).mean().clamp(min=1e-12)
        return (rate * torch.stack(agreement) / mean_norm).clamp(0, MAX_SCORE * rate)

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count the images of a step: both batches are trained on."""
        return recipe.batch_size + recipe.source_size, 0

    def class_weights(self) -> Tensor | None:
        """Return the weights [S], averaged over the steps so far; 1 is the uniform weight."""
        return (self.total_S / self.total_S.mean()).nan_to_num(1.0)
