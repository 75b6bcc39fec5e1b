"""The settings of L2TL: where the paper and its released code differ, and what only one of them has.

Source: Zhu et al.: Learning to Transfer Learn (arXiv 1908.11406), section 4 and appendix A; the
released code of 2020 (`code_svhn`) and of 2019 (`code_svhn_2019`).
"""

from dataclasses import asdict, dataclass, field
from enum import StrEnum, auto
from math import inf
from typing import Any

import numpy as np

from ..base import check_ranges
from .reinforce import PolicyConfig


class Preset(StrEnum):
    """The constants of the settings that are not given."""

    paper = auto()
    code_svhn = auto()  # released code of 2020
    code_svhn_2019 = auto()  # released code of 2019


class Weights(StrEnum):
    """The class weights."""

    learned = auto()
    uniform = auto()  # 1 for every class; the paper's ablation
    random = auto()  # sampled from a policy that does not learn; the paper's ablation
    oracle = auto()  # the known worth of each class; for a planted source only
    uniform_code = auto()  # the released code's flag: selection by learned weights, then 1 in the loss


class Alpha(StrEnum):
    """The scale of the source loss."""

    learned = auto()  # by the policy
    fixed = auto()  # `alpha_max`
    walk = auto()  # starts at 1; the policy's action is added in each step, and the sum clipped to [0, 1]


class Denominator(StrEnum):
    """The divisor of the weight levels k = 0 ... n-1."""

    n = auto()  # released code
    n_minus_1 = auto()  # paper


class Normalizer(StrEnum):
    """The normalization of the weights of a batch."""

    none = auto()
    unit_mean = auto()  # divide by their mean
    softmax = auto()  # exponentiate, then divide by their mean


class Reduction(StrEnum):
    """The divisor of the sum of weighted losses."""

    batch = auto()  # number of images
    nonzero = auto()  # number of images with a weight above zero


class Ties(StrEnum):
    """The order of candidates with equal weights."""

    random = auto()
    first = auto()  # as they were drawn


class Credit(StrEnum):
    """The classes and the reward of an update of the policy."""

    reward = auto()  # all classes, by the reward after the step; paper and released code
    present = auto()  # only classes with an image in the batch
    gain = auto()  # as `present`, by the reward after the step minus the reward before it


class Replay(StrEnum):
    """The use of a learned policy in the second stage of `protocol=trainval`."""

    sampled = auto()  # weights and scale are sampled from it
    expected = auto()  # its mean weights and mean scale


class Reward(StrEnum):
    """The score on holdout images that the policy maximizes."""

    score = auto()  # the score of the comparison
    top1 = auto()
    mean_per_class = auto()
    auroc = auto()
    negative_loss = auto()


RANGES = {
    "first_policy_step": (0, inf),
    "num_actions": (2, inf),
    "num_alpha_actions": (1, inf),
    "alpha_max": (0, inf),
    "multiplier": (1, inf),
    "reward_multiplier": (1, inf),
    "baseline_momentum": (0, 1),
    "policy_lr": (0, inf),
    "policy_lr_decay_step": (0, inf),
}
PRESETS: dict[Preset, dict[str, Any]] = {
    Preset.paper: {
        "num_actions": 11,  # the paper tries 6, 11, 21, 101 and does not say which its tables use
        "lambda_denominator": Denominator.n_minus_1,
        "num_alpha_actions": 100,
        "alpha_max": 0.5,
        "multiplier": 5,
        "normalizer": Normalizer.none,
        "reduction": Reduction.batch,
        "logp_mean": False,
        "reward_train_mode": False,
        "reward_multiplier": 4,
        "baseline_momentum": 0.95,
        "baseline_first": False,
        "policy_lr": 0.0,
        "policy_lr_decay_step": 0,
        "decay_biases": False,
        "ties": Ties.random,
        "tf_adam": False,
    },
    Preset.code_svhn: {
        "num_actions": 100,
        "lambda_denominator": Denominator.n,
        "num_alpha_actions": 100,
        "alpha_max": 0.99,
        "multiplier": 2,
        "normalizer": Normalizer.unit_mean,
        "reduction": Reduction.nonzero,
        "logp_mean": True,
        "reward_train_mode": True,
        "reward_multiplier": 4,
        "baseline_momentum": 0.9,
        "baseline_first": True,
        "policy_lr": 0.01,
        "policy_lr_decay_step": 800,
        "decay_biases": True,
        "ties": Ties.first,
        "tf_adam": True,
    },
    Preset.code_svhn_2019: {
        "num_actions": 10,
        "lambda_denominator": Denominator.n,
        "num_alpha_actions": 100,
        "alpha_max": 0.099,
        "multiplier": 1,
        "normalizer": Normalizer.unit_mean,
        "reduction": Reduction.nonzero,
        "logp_mean": True,
        "reward_train_mode": True,
        "reward_multiplier": 1,
        "baseline_momentum": 0.95,
        "baseline_first": True,
        "policy_lr": 0.1,
        "policy_lr_decay_step": 0,
        "decay_biases": False,
        "ties": Ties.first,
        "tf_adam": True,
    },
}
TITLES = {
    Weights.learned: "L2TL",
    Weights.uniform: "Uniform weights",
    Weights.random: "Random search",
    Weights.oracle: "Oracle weights",
    Weights.uniform_code: "Uniform weights (code)",
}


@dataclass
class Settings:
    """Settings of L2TL. None: the value of the preset."""

    preset: Preset = Preset.paper  # values of the settings that are None: those of the paper or of its code
    weights: Weights = Weights.learned  # class weights: learned, or one of the ablations
    alpha: Alpha = Alpha.learned  # scale of the source loss: learned, fixed at alpha_max, or a walk
    reward: Reward = Reward.score  # score on the holdout that the policy maximizes
    replay: Replay = Replay.sampled  # how the second stage of protocol=trainval uses the policy
    first_policy_step: int = 0  # first step with a source loss and an update of the policy
    reward_augmented: bool = False  # training crops for rewards, as in the first released code
    num_actions: int | None = None  # n, number of weight levels of a class
    lambda_denominator: Denominator | None = None  # weight level k is k / n or k / (n - 1)
    num_alpha_actions: int | None = None  # n', number of levels of the scale
    alpha_max: float | None = None  # beta, largest scale of the source loss
    multiplier: int | None = None  # M_S, source candidates drawn for each image that is kept
    normalizer: Normalizer | None = None  # normalization of the weights of a batch
    reduction: Reduction | None = None  # divide the weighted loss by all images, or by those of weight > 0
    logp_mean: bool | None = None  # average the log-probabilities of the classes; False: add them
    reward_train_mode: bool | None = None  # batch statistics in the norms during rewards
    reward_multiplier: int | None = None  # B_P / B_T, holdout images in a step, in target batches
    baseline_momentum: float | None = None  # 1 - gamma, of the moving average of rewards, 0 to 1
    baseline_first: bool | None = None  # update the moving average before it is subtracted
    baseline_debiased: bool = True  # divide the moving average by the sum of its weights
    policy_lr: float | None = None  # Adam's learning rate of the policy; 0: 2 / steps (1e-4 at 20,000)
    policy_lr_decay_step: int | None = None  # last step before policy_lr is a tenth; 0: never
    decay_biases: bool | None = None  # weight decay on biases too
    ties: Ties | None = None  # order of candidates with equal weights: random, or as drawn
    # Adam of the policy as in TensorFlow 1 (`adam_tf`); not part of the digest where it is not
    tf_adam: bool | None = field(default=None, metadata={"undigested": False})
    # Constant rate, no weight decay, and a target head from N(0, 0.01^2), whatever the recipe: code of 2019
    own_recipe: bool = field(default=False, metadata={"undigested": False})
    # Classes and reward of an update of the policy; at `reward` not part of the digest, as in earlier runs
    credit: Credit = field(default=Credit.reward, metadata={"undigested": Credit.reward})

    def resolved(self) -> "Settings":
        """Return the settings with the preset's values in place of None. Raises: InputError."""
        given = {k: v for k, v in asdict(self).items() if v is not None}
        settings = type(self)(**{**PRESETS[self.preset], **given})
        check_ranges(settings, RANGES)
        return settings


def policy_config(config: Any, steps: int) -> PolicyConfig:
    """Return the policy's levels and constants."""
    n = config.num_actions
    top = 1.0 if config.lambda_denominator is Denominator.n_minus_1 else (n - 1) / n
    scales = np.linspace(0, config.alpha_max, config.num_alpha_actions)
    if config.alpha is Alpha.fixed:
        scales = np.array([config.alpha_max])
    elif config.alpha is Alpha.walk:  # -.05 ... +.04 for ten actions
        scales = 0.01 * (np.arange(config.num_alpha_actions) - config.num_alpha_actions // 2)
    return PolicyConfig(
        weight_levels=tuple(np.linspace(0, top, n).tolist()),
        scale_levels=tuple(scales.tolist()),
        lr=config.policy_lr or 2 / steps,
        lr_decay_step=config.policy_lr_decay_step,
        logp_mean=config.logp_mean,
        baseline_momentum=config.baseline_momentum,
        baseline_first=config.baseline_first,
        baseline_debiased=config.baseline_debiased,
        tf_adam=config.tf_adam,
        learns_weights=config.weights in (Weights.learned, Weights.uniform_code),
        learns_scale=config.alpha is not Alpha.fixed,
    )
