"""Corrections of arithmetic: a run that one of them changes has another digest, so it is repeated."""

import re
from typing import Any

from ...methods.l2tl_policy.settings import Normalizer
from ...methods.recipe import Recipe, Schedule

# Networks without embeddings, standardized kernels and RMS norms, for sure
PLAIN = re.compile(r"small|tiny|digits_cnn|resnet\d|(tf_)?efficientnet|mobilenet|convnext")


def of_setting(backbone: str, recipe: Recipe) -> list[str]:
    """Return the corrections that change every run of a comparison."""
    found = []
    if backbone in ("digits_cnn", "digits_cnn_2019"):
        found.append("one gray channel")
    if recipe.schedule is Schedule.milestones:
        found.append("rate drops after the milestone")
    return found


def of_method(method: str, settings: Any, recipe: Recipe, backbone: str) -> list[str]:
    """Return the corrections that change a run by its method, its settings, the recipe, and the network."""
    is_plain = bool(PLAIN.match(backbone))
    is_chosen = method == "surgical" and not settings.part
    moves_alike = (recipe.layer_decay, recipe.head_lr_factor, recipe.clip_grad) == (1, 1, 0)
    changes = {
        "source loss over the whole batch": method == "dvrl",
        "gradients clipped at 1": method == "doge",
        "weights counted after the softmax": getattr(settings, "normalizer", None) is Normalizer.softmax,
        "policy rate drops after its step": getattr(settings, "policy_lr_decay_step", None),
        "each trial has its moving average": is_chosen and recipe.ema,
        "each holdout image judges a part once": is_chosen,
        "prompts are of the first block": method == "vpt" and not settings.deep and recipe.layer_decay != 1,
        "the moving average begins after the selection": method == "head2toe" and recipe.ema,
        "the unrolled step has the rates of a step, and its clipping": method == "meta_weights"
        and not moves_alike,
        "kernels alone are pulled": method == "l2sp" and settings.kernels_only and not is_plain,
        "standardized kernels are scaled by their gain": method == "ssf" and not is_plain,
    }
    return [name for name, holds in changes.items() if holds]


def corrected(names: list[str]) -> dict[str, list[str]]:
    """Return the entry of a digest; none without corrections, so that every other digest stays."""
    return {"corrections": names} if names else {}
