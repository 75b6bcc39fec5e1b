"""L2TL by gradients: class weights from the gradients of source and holdout images, in place of rewards.

Use when: some source classes help, others harm, and the holdout has at least two images per class.
Source: ours; measured on images of 16 px in docs/explanation/learned-weights.md. Joint training,
candidates and policy are those of L2TL (Zhu et al., arXiv 1908.11406). The credit of an image is the inner
product of its gradient and the holdout's, as in learning to reweight (Ren et al., arXiv 1803.09050) and DDS
(Wang et al., arXiv 1911.10088).

Departs from: L2TL in the update of the policy. L2TL credits all classes with the same reward and learns by
REINFORCE. Here each class has its own credit. The policy's logits follow from its mean and standard error.
Needs fp32, because a credit is a small difference of two losses.

Shape letters: M candidates (`multiplier` x a source batch), B a batch, S source classes, F features.
"""

import math
from dataclasses import dataclass
from enum import StrEnum, auto

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..datasets.base import Pending, derive_seed
from .base import (
    Incompatible,
    Method,
    Metrics,
    Problem,
    check_ranges,
    classed_source,
    judging_stream,
    timed,
    update,
)
from .l2tl_policy.candidates import select
from .l2tl_policy.gradient_credit import ClassCredit, Judge, shared_parameters, unit
from .l2tl_policy.reinforce import Policy, PolicyConfig
from .metrics import classification_loss
from .recipe import Precision, Recipe


class Alpha(StrEnum):
    """The scale of the source loss."""

    learned = auto()  # by the policy
    fixed = auto()  # `alpha_max`


class Action(StrEnum):
    """The class weights that a step takes from the policy."""

    expected = auto()  # the policy's mean weights
    sampled = auto()  # sampled levels, as in L2TL


RANGES = {
    "alpha_max": (0, math.inf),
    "num_actions": (2, math.inf),
    "num_alpha_actions": (1, math.inf),
    "multiplier": (1, math.inf),
    "reward_multiplier": (1, math.inf),
    "judge_lr": (0, math.inf),
    "explored": (0, math.inf),
    "direction_memory": (0, 1),
    "credit_sharpness": (0, math.inf),
    "credit_bar": (0, math.inf),
    "credit_memory": (0, math.inf),
}


@dataclass
class Config:
    """Settings of L2TL by gradients."""

    alpha: Alpha = Alpha.learned  # the scale of the source loss is learned, or fixed at alpha_max
    alpha_max: float = 0.5  # largest scale of the source loss
    num_actions: int = 2  # number of weight levels of a class, from 0 to 1
    num_alpha_actions: int = 100  # number of levels of the scale, from 0 to alpha_max
    multiplier: int = 5  # source candidates drawn for each image that is kept
    reward_multiplier: int = 1  # holdout images in a step, in target batches
    judge_lr: float = 0.003  # Adam's learning rate of the judge's heads; 0: the network's heads judge
    layerwise: bool = True  # scale the holdout gradient of each tensor to the norm of its weights
    relative_credit: bool = True  # divide an image's credit by its loss + 0.5
    action: Action = Action.expected  # train on the policy's mean weights, or on sampled levels
    explored: int = 1  # batches of candidates in a step that are judged but not trained on
    direction_memory: float = 0.9  # decay of the running sum of holdout gradients, 0 to 1
    credit_sharpness: float = 2.0  # logit difference of highest and lowest level for each standard error
    credit_bar: float = 0.1  # credit a class must exceed, as a share of the mixture's mean credit
    credit_memory: int = 100  # images of a class whose credit counts: older ones fade; 0: all
    proportional: bool = True  # a class's weight falls with its mean credit, below that of the helpful ones

    def resolved(self) -> "Config":
        """Check the ranges. Raises: InputError."""
        check_ranges(self, RANGES)
        return self


class L2TLGradients(Method[Config]):
    """Learns a weight for each source class from gradients, and the scale of the source loss."""

    title = "L2TL by gradients"
    paper = "docs/explanation/learned-weights.md"
    kind = "source selection"
    needs_source = True
    data_parallel = True
    learns_controls = True

    def __init__(self, problem: Problem, config: Config) -> None:
        if (precision := problem.recipe.precision) is not Precision.fp32:
            raise Incompatible(
                f"recipe.precision={precision}: method=l2tl_gradients takes small differences of losses, "
                "which it rounds away; expected fp32"
            )
        source = classed_source(problem)
        self.config = config
        self.recipe = problem.recipe
        self.seed = problem.seed
        self.replays = problem.controls is not None
        self.net = problem.network()
        self.optimizer = self.recipe.make_optimizer(self.net, decay_biases=False)
        batch_size = self.recipe.batch_size
        self.source = source.stream(self.recipe.source_size * config.multiplier, problem.seed)
        self.target = problem.target.stream(batch_size, problem.seed)
        self.policy = Policy(source.num_classes, policy_config(config), problem.seed, problem.device)
        self.judge = Judge(self.net, config.judge_lr, config.layerwise)
        self.credit = ClassCredit(source.num_classes, problem.device, config.credit_memory)
        num_shared = sum(p.numel() for p in shared_parameters(self.net))
        self.direction = torch.zeros(num_shared, device=problem.device)
        if problem.controls is not None:
            self.policy.freeze(problem.controls)
        else:
            self.holdout = judging_stream(problem, batch_size * config.reward_multiplier)

    def step(self, t: int) -> Metrics:
        """Update the network on target and weighted source images, and the policy by their credit."""
        with timed("policy"):
            weight_S, scale, _ = self.policy.sample()
            if self.config.action is Action.expected:
                weight_S, _ = self.policy.expected()
            rows, y_M = self.source.draw()  # labels only
            kept = select(weight_S[y_M], self.recipe.source_size, derive_seed(self.seed, "ties", t))
            source_batch = self.source.fetch(rows, kept)  # starts decoding
            explored = self._fetch_explored(rows, y_M, kept)
        with timed("data"):
            x, y = next(self.target)
        with timed("target"):
            target_loss = classification_loss(self.net.target(x), y, weight_C=self.target.weight_C)
            target_loss.backward()
        with timed("data"):
            x, y = source_batch.result()
        with timed("source"):
            feature_BF = self.net.source_features(x)
            loss_B = classification_loss(self.net.source_head(feature_BF).float(), y, reduction="none")
            source_loss = (weight_S[y] * loss_B).sum() / len(loss_B)
            (scale * source_loss).backward()
        metrics = {"loss": target_loss.detach(), "source_loss": source_loss.detach(), "alpha": scale}
        if not self.replays:
            metrics |= self._judge(x, y, feature_BF.detach(), explored)
        with timed("source"):
            update(self.optimizer, self.recipe.lr_at(t))
        if not self.replays:
            with timed("policy"):
                metrics["worth"] = self._update_policy()
        return metrics

    def _fetch_explored(self, rows: Tensor, y_M: Tensor, kept: Tensor) -> Pending | None:
        """Start decoding the candidates that are only judged: those whose classes were judged least."""
        if self.replays or not self.config.explored:
            return None
        num_explored = min(self.config.explored * self.recipe.source_size, len(y_M) - len(kept))
        count_M = self.credit.count_S[y_M].index_fill(0, kept, math.inf)
        return self.source.fetch(rows, torch.argsort(count_M, stable=True)[:num_explored])

    def _judge(self, x: Tensor, y: Tensor, feature_BF: Tensor, explored: Pending | None) -> Metrics:
        """Measure the credit of a step's source images; the network does not change.

        Args:
            x: source images that are trained on [B,3,H,W].
            y: their labels [B].
            feature_BF: their features.
            explored: candidates that are only judged.
        """
        with timed("data"):
            x_holdout, y_holdout = next(self.holdout)
        with timed("reward"):
            newest, loss = self.judge.direction(self.net, x_holdout, y_holdout)
            self.direction = self.config.direction_memory * self.direction + newest
            along = unit(self.direction)
            relative = self.config.relative_credit
            self.credit.add(self.judge.credit(self.net, x, y, feature_BF, along, relative), y)
            if explored is not None:
                x, y = explored.result()
                self.credit.add(self.judge.credit(self.net, x, y, None, along, relative), y)
        return {"reward": -loss}

    def _update_policy(self) -> Tensor:
        """Set the policy's logits by the credit of all images so far; returns the mixture's mean credit [].

        The weight of a class is the probability that it helps, by the number of standard errors by which its
        mean credit exceeds a share of the mixture's (`credit_bar`); times its mean credit relative to that of
        the helpful classes (`proportional`). The logits of the scale rise with the number of standard errors
        by which the mixture's mean credit exceeds zero.
        """
        worth, error = self.credit.mixture(self.policy.expected()[0])
        evidence_S = self.credit.evidence(self.config.credit_bar * worth.clamp(min=0))
        sharpness = self.config.credit_sharpness
        slope_S = sharpness * evidence_S
        if self.config.proportional:
            slope_S = times_share(slope_S, self.credit.share())
        self.policy.tilt(slope_S, sharpness * worth / error.clamp(min=1e-12))
        return worth

    @classmethod
    def images_per_step(cls, config: Config, recipe: Recipe) -> tuple[int, int]:
        """Count the images of a step; a gradient of the holdout costs as much as training on it."""
        trained = (1 + config.reward_multiplier) * recipe.batch_size + recipe.source_size
        return trained, (1 + 2 * config.explored) * recipe.source_size

    def class_weights(self) -> Tensor:
        """Return the mean of 10,000 samples of the policy [S]."""
        return self.policy.mean_weights()

    def controls(self) -> dict[str, Tensor]:
        """Return the policy's logits, which a second stage replays."""
        return self.policy.controls()


def times_share(logit_S: Tensor, share_S: Tensor) -> Tensor:
    """Return the logits of probabilities that are multiplied by shares from 0 to 1 [S]; no rank is lost."""
    product_S = logsigmoid(logit_S) + share_S.log()
    rest_S = torch.logaddexp(logsigmoid(-logit_S), logsigmoid(logit_S) + (1 - share_S).log())
    return product_S - rest_S


def policy_config(config: Config) -> PolicyConfig:
    """Return the policy's levels."""
    scales = np.linspace(0, config.alpha_max, config.num_alpha_actions)
    if config.alpha is Alpha.fixed:
        scales = np.array([config.alpha_max])
    return PolicyConfig(
        weight_levels=tuple(np.linspace(0, 1, config.num_actions).tolist()),
        scale_levels=tuple(scales.tolist()),
        learns_scale=config.alpha is not Alpha.fixed,
    )
