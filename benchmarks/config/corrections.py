"""Corrections of arithmetic: a run that one of them changes has another digest, so it is repeated."""

from typing import Any

from ...methods.l2tl_policy.settings import Normalizer
from ...methods.recipe import Recipe, Schedule

OF_METHODS = {"dvrl": "source loss over the whole batch", "doge": "gradients clipped at 1"}


def of_setting(backbone: str, recipe: Recipe) -> list[str]:
    """Return the corrections that change every run of a comparison."""
    found = []
    if backbone in ("digits_cnn", "digits_cnn_2019"):
        found.append("one gray channel")
    if recipe.schedule is Schedule.milestones:
        found.append("rate drops after the milestone")
    return found


def of_method(method: str, settings: Any, recipe: Recipe) -> list[str]:
    """Return the corrections that change a run by its method, the settings of the method, and the recipe."""
    found = [OF_METHODS[method]] if method in OF_METHODS else []
    if getattr(settings, "normalizer", None) is Normalizer.softmax:
        found.append("weights counted after the softmax")
    if getattr(settings, "policy_lr_decay_step", None):
        found.append("policy rate drops after its step")
    if method == "surgical" and not settings.part and recipe.ema:
        found.append("each trial has its moving average")
    if method == "vpt" and not settings.deep and recipe.layer_decay != 1:
        found.append("prompts are of the first block")
    return found


def corrected(names: list[str]) -> dict[str, list[str]]:
    """Return the entry of a digest; none without corrections, so that every other digest stays."""
    return {"corrections": names} if names else {}
