"""Tuning: trials that choose the learning rate and weight decay, the same number for every method."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from ...methods import catalog as methods
from ..config.schema import Protocol, Role, RunConfig, Tune

TUNING_SEED = 10_000  # no reported run has this seed


def trials(config: RunConfig) -> list[RunConfig]:
    """Return the trials of a run, one per point of the grid.

    There are none with `tune=off`, nor for a method in closed form, which has no learning rate.
    """
    if config.tune is Tune.off or methods.load(config.method).closed_form:
        return []
    plain = replace(config, role=Role.trial, tune=Tune.off, protocol=Protocol.holdout, seed=TUNING_SEED)
    recipe = config.recipe
    grid = product(recipe.lr_grid, recipe.weight_decay_grid)
    return [replace(plain, recipe=replace(recipe, lr=lr, weight_decay=wd)) for lr, wd in grid]


def with_best_trial(
    config: RunConfig, candidates: Sequence[RunConfig], records: Sequence[dict[str, Any]]
) -> tuple[RunConfig, dict[str, Any]]:
    """Return the run with the values of the best trial, and the record's entry on that choice."""
    scores = [record["holdout"][config.score] for record in records]
    best = max(range(len(scores)), key=scores.__getitem__)
    lr, wd = candidates[best].recipe.lr, candidates[best].recipe.weight_decay
    choice = {
        "rule": f"best {config.score} after the last step on the half of the holdout that serves no rewards",
        "num_trials": len(scores),
        "seed": TUNING_SEED,
        "lr": lr,
        "weight_decay": wd,
        "holdout": scores[best],
    }
    return replace(config, recipe=replace(config.recipe, lr=lr, weight_decay=wd)), choice
