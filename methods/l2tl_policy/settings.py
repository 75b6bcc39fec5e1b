"""The settings of L2TL: every difference between the paper and its released code has a name.

Source: Zhu et al.: Learning to Transfer Learn (arXiv 1908.11406), section 4 and appendix A; the
released code of 2020 (`code_svhn`) and of 2019 (`code_svhn_2019`).
"""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from math import inf
from typing import Any

import numpy as np

from ..base import check_ranges
from .reinforce import PolicyConfig


class Preset(StrEnum):
    """Whose constants fill the settings that are not given."""

    paper = "paper"
    first_order = "first_order"  # ours: docs/learned-weights.md
    code_svhn = "code_svhn"
    code_svhn_2019 = "code_svhn_2019"


class Weights(StrEnum):
    """Where class weights come from."""

    learned = "learned"
    uniform = "uniform"  # 1 for every class: the paper's ablation
    random = "random"  # drawn from the untrained policy: the paper's ablation
    oracle = "oracle"  # what a planted source is known to be worth
    uniform_code = "uniform_code"  # the released code's flag: 1 after a selection by learned weights


class Alpha(StrEnum):
    """Where the scale of the source loss comes from."""

    learned = "learned"
    fixed = "fixed"  # `alpha_max`
    walk = "walk"  # an additive walk from 1, clipped to [0, 1], in `num_alpha_actions` sizes of step


class Denominator(StrEnum):
    """Weight k of n is k/(n-1) in the paper, k/n in the code."""

    n = "n"
    n_minus_1 = "n_minus_1"


class Normalizer(StrEnum):
    """What is done to the weights of the images that were kept."""

    none = "none"
    unit_mean = "unit_mean"
    softmax = "softmax"


class Reduction(StrEnum):
    """What the weighted losses' sum is divided by."""

    batch = "batch"
    nonzero = "nonzero"  # images whose weight is not zero


class Ties(StrEnum):
    """Which of equally weighted candidates are kept."""

    random = "random"
    first = "first"


class Credit(StrEnum):
    """What each class is judged by."""

    reward = "reward"  # one number for all: REINFORCE, as the paper and the code have it
    present = "present"  # the same, but only classes with an image in the step's batch are judged
    gain = "gain"  # as present, by what the step adds to the reward on the same holdout images
    first_order = (
        "first_order"  # its images' gradients times the holdout's (methods/l2tl_policy/gradient_credit.py)
    )


class Action(StrEnum):
    """What class weights a step takes from the policy."""

    sampled = "sampled"  # levels drawn at random, as the paper has it
    expected = "expected"  # mean weights: exploring is left to candidates that are judged, not trained on


class Replay(StrEnum):
    """How `protocol=trainval` uses what was learned."""

    sampled = "sampled"  # frozen logits that are still sampled
    expected = "expected"  # mean weights and mean scale


class Reward(StrEnum):
    """What guides the policy."""

    score = "score"  # the score that is reported
    top1 = "top1"
    mean_per_class = "mean_per_class"
    auroc = "auroc"
    negative_loss = "negative_loss"


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
    "judge_lr": (0, inf),
    "explored": (0, inf),
    "direction_memory": (0, 1),
    "credit_sharpness": (0, inf),
    "credit_bar": (0, inf),
}
BY_REWARD: dict[str, Any] = {
    "credit": Credit.reward,
    "judge_lr": 0.0,
    "layerwise": False,
    "relative_credit": False,
    "action": Action.sampled,
    "explored": 0,
    "direction_memory": 0.0,
}
PRESETS: dict[Preset, dict[str, Any]] = {
    Preset.paper: {
        **BY_REWARD,
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
    },
    Preset.code_svhn: {
        **BY_REWARD,
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
    },
    Preset.code_svhn_2019: {
        **BY_REWARD,
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
    },
}
# The paper's, with credit by gradients, as docs/learned-weights.md tried it. A holdout batch costs three
# times as much, so it is a quarter as large; two levels, for more than whether a class helps is not known.
PRESETS[Preset.first_order] = {
    **PRESETS[Preset.paper],
    "credit": Credit.first_order,
    "judge_lr": 0.003,
    "layerwise": True,
    "relative_credit": True,
    "action": Action.expected,
    "explored": 1,
    "direction_memory": 0.9,
    "num_actions": 2,
    "reward_multiplier": 1,
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
    """Settings of L2TL; what is None is taken from the preset."""

    preset: Preset = Preset.paper
    weights: Weights = Weights.learned
    alpha: Alpha = Alpha.learned
    reward: Reward = Reward.score
    replay: Replay = Replay.sampled
    first_policy_step: int = 0  # before it the source loss is off and the policy does not learn
    reward_augmented: bool = False  # training crops for rewards, as the first code had it
    num_actions: int | None = None  # n, weight levels a class
    lambda_denominator: Denominator | None = None
    num_alpha_actions: int | None = None  # n', levels of the scale
    alpha_max: float | None = None  # beta, the largest scale
    multiplier: int | None = None  # M_S: candidates drawn for each image kept
    normalizer: Normalizer | None = None
    reduction: Reduction | None = None
    logp_mean: bool | None = None  # log-probability: mean over classes, or else their sum
    reward_train_mode: bool | None = None  # rewards with batch statistics
    reward_multiplier: int | None = None  # B_P / B_T
    baseline_momentum: float | None = None  # 1 - gamma
    baseline_first: bool | None = None  # the baseline takes in a reward before it is subtracted
    baseline_debiased: bool = True
    policy_lr: float | None = None  # Adam's; 0: 2 / steps, which is the paper's 1e-4 at 20,000
    policy_lr_decay_step: int | None = None  # a tenth of the rate from here on; 0: never
    decay_biases: bool | None = None
    ties: Ties | None = None
    # Later than the first runs: where they have this value they are not in a run's digest. What follows
    # `credit` is of `first_order` alone.
    credit: Credit | None = field(default=None, metadata={"undigested": Credit.reward})
    # Of Adam, for a head that judges and learns from the holdout alone; 0: the target head judges
    judge_lr: float | None = field(default=None, metadata={"undigested": 0.0})
    layerwise: bool | None = field(
        default=None, metadata={"undigested": False}
    )  # gradient as long as weights
    relative_credit: bool | None = field(default=None, metadata={"undigested": False})  # to an image's loss
    action: Action | None = field(default=None, metadata={"undigested": Action.sampled})
    explored: int | None = field(default=None, metadata={"undigested": 0})  # batches judged, not trained on
    direction_memory: float | None = field(default=None, metadata={"undigested": 0.0})  # of the gradient
    credit_sharpness: float = field(default=2.0, metadata={"undigested": 2.0})  # of weights, a standard error
    credit_bar: float = field(default=0.1, metadata={"undigested": 0.1})  # to pass, of the mixture's credit

    def resolved(self) -> "Settings":
        """Fill what is None from the preset."""
        given = {k: v for k, v in asdict(self).items() if v is not None}
        settings = type(self)(**{**PRESETS[self.preset], **given})
        check_ranges(settings, RANGES)
        return settings


def policy_config(config: Any, steps: int) -> PolicyConfig:
    """Turn the settings into the policy's levels and constants."""
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
        learns_weights=config.weights in (Weights.learned, Weights.uniform_code),
        learns_scale=config.alpha is not Alpha.fixed,
    )
