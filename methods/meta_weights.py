"""Meta-learned class weights: joint training with source class weights from the holdout's gradient.

Use when: the question is that of L2TL, and a step may cost second passes.
Source: Shu, Xie, Yi, Zhao, Zhou, Xu, Meng: Meta-Weight-Net (arXiv 1902.07379), equations 3 to 5, algorithm 1.

Departs from: (1) each source class has a weight, the sigmoid of a parameter, where the paper has a network
from an image's loss to its weight: the method learns the weights of L2TL, by the gradient instead of by
rewards; (2) the weighted images are the source's, and the target's loss is added with weight 1; (3) the
learning rate of the weights depends on the number of steps (`meta_lr`), and they have no weight decay.

Shape letters: B images of a batch, S source classes.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from .base import Method, Metrics, Problem, check_ranges, classed_source, judging_stream, timed, update
from .components.unrolled import loss_after_step, twice_differentiable, why_no_second_derivative
from .metrics import classification_loss
from .recipe import Recipe


@dataclass
class Config:
    """Settings of meta-learned class weights."""

    meta_lr: float = 0.0  # Adam's learning rate of the weights; 0: 60 / steps (paper: 1e-3 at 60,000)
    scale: float = 1.0  # weight of the source loss

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, {"meta_lr": (0, inf), "scale": (0, inf)})
        return self


class MetaWeights(Method[Config]):
    """Source class weights, by the gradient of the holdout loss through one training step."""

    title = "Meta-learned class weights"
    paper = "arXiv 1902.07379"
    kind = "meta"
    needs_source = True
    learns_controls = True

    def __init__(self, problem: Problem, config: Config) -> None:
        source = classed_source(problem)
        self.config, self.recipe = config, problem.recipe
        self.net = problem.network()
        self.optimizer = self.recipe.make_optimizer(self.net)
        size = self.recipe.batch_size
        self.source = source.stream(self.recipe.source_size, problem.seed)
        self.target = problem.target.stream(size, problem.seed)
        self.logit_S = torch.zeros(source.num_classes, device=problem.device, requires_grad=True)
        self.meta_optimizer = torch.optim.Adam([self.logit_S], lr=config.meta_lr or 60 / self.recipe.steps)
        self.replays = problem.controls is not None
        if problem.controls is not None:
            self.logit_S.data.copy_(problem.controls["logits"])
        else:
            self.holdout = judging_stream(problem, size)

    @classmethod
    def why_incompatible(cls, problem: Problem) -> str:
        """Return a reason for a network without second derivatives."""
        return why_no_second_derivative(problem)

    def step(self, t: int) -> Metrics:
        """Update the class weights by an unrolled step, then train with the new weights."""
        with timed("data"):
            (x_T, y_T), (x_S, y_S) = next(self.target), next(self.source)
        with timed("target"):
            target_loss = classification_loss(self.net.target(x_T), y_T, weight_C=self.target.weight_C)
            target_loss.backward()
        with timed("source"), twice_differentiable():
            loss_B = classification_loss(self.net.source(x_S), y_S, reduction="none")
        rate = self.recipe.lr_at(t)
        metrics = {"loss": target_loss.detach()}
        if not self.replays:
            metrics["holdout_loss"] = self.learn(loss_B, y_S, rate)
        with timed("source"):
            source_loss = self.weighted(loss_B, y_S)
            source_loss.backward(inputs=list(self.net.parameters()))
            update(self.optimizer, rate)
        return {**metrics, "source_loss": source_loss.detach()}

    def weighted(self, loss_B: Tensor, y: Tensor) -> Tensor:
        """Return the weighted source loss []."""
        return self.config.scale * (self.logit_S.sigmoid()[y] * loss_B).mean()

    def learn(self, loss_B: Tensor, y_S: Tensor, rate: float) -> Tensor:
        """Update the class weights by the holdout loss after an unrolled step; return that loss []."""
        with timed("data"):
            x, y = next(self.holdout)
        with timed("policy"), twice_differentiable():
            loss = loss_after_step(self.net, self.weighted(loss_B, y_S), rate, x, y, self.optimizer)
            (self.logit_S.grad,) = torch.autograd.grad(loss, [self.logit_S])
            self.meta_optimizer.step()
            self.meta_optimizer.zero_grad()
        return loss.detach()

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count the images of a step: source and target are trained on, the holdout judges."""
        return recipe.batch_size + recipe.source_size, recipe.batch_size

    def class_weights(self) -> Tensor | None:
        """Return the learned weights [S], 0 to 1."""
        return self.logit_S.detach().sigmoid()

    def controls(self) -> dict[str, Tensor]:
        """Return the logits, which a second stage replays."""
        return {"logits": self.logit_S.detach().cpu()}
