"""Tuning: trials that choose rates, weight decay, norms and strengths, at equal cost for every method."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from itertools import product
from math import inf, isinf, log, sqrt
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from ... import RunFailed
from ...datasets.loading.draw import FOLDS
from ...datasets.reading.balance import class_counts
from ...methods import catalog as methods
from ...methods.networks.encoders import has_batch_norms
from ...methods.recipe import OptimizerName
from ..config.schema import TUNING_SEED, Norms, Protocol, Role, RunConfig, Tune, load_target

NUM_TRIALS, KEPT = 9, 3  # candidates of `tune=auto` in the first round, and in the second
ADAMS = [name for name in OptimizerName if name is not OptimizerName.sgd]
# Of the encoder, with `layer_decay` of its last layers: low, high
RATES: dict[OptimizerName, tuple[float, float]] = {
    OptimizerName.sgd: (1e-4, 0.2),
    **dict.fromkeys(ADAMS, (1e-6, 3e-3)),
}
HEAD_RATES: dict[OptimizerName, tuple[float, float]] = {  # of the head, if higher
    OptimizerName.sgd: (0.01, 0.3),
    **dict.fromkeys(ADAMS, (1e-4, 0.03)),
}
# A lattice of NUM_TRIALS points: candidate i has value (i * step + start) % NUM_TRIALS of each setting, so
# each value of each setting occurs once. The first steps are of the rates of encoder and head.
STEPS, STARTS = (1, 4, 7, 2, 5, 8), (0, 4, 0, 0, 0, 0)
FROZEN = (0, 3, 4, 7)  # candidates with frozen norms; the means of their rates are near those of the others
MOST_FOLDS = 5
FEW = 5  # images of the median class to choose on: with fewer, trials are cross-validated
SEARCHED = {  # settings of the recipe that tuning replaces
    Tune.off: (),
    Tune.paper_grid: ("lr", "weight_decay"),
    Tune.auto: ("lr", "head_lr_factor"),
}
Record = dict[str, Any]


def trials(config: RunConfig) -> list[RunConfig]:
    """Return the trials of a run that need no result of others.

    `tune=paper_grid`: one per point of the grid; `tune=auto`: the first round. There are none with
    `tune=off`, nor for a method in closed form, which has no learning rate.
    """
    if methods.load(config.method).closed_form or config.tune is Tune.off:
        return []
    if config.tune is Tune.auto:
        return _flat(_round(config, candidates(config), 0))
    plain, recipe = _plain(config), config.recipe
    grid = product(recipe.lr_grid, recipe.weight_decay_grid)
    return [replace(plain, recipe=replace(recipe, lr=lr, weight_decay=wd)) for lr, wd in grid]


def candidates(config: RunConfig) -> list[RunConfig]:
    """Return the candidates of `tune=auto`.

    They differ in the learning rates of encoder and head on log scales, in the strengths of the method, and
    in whether norms keep the statistics of the pre-training. A method declares the range of a strength in
    its settings, by `metadata={"tuned": (low, high)}`. Rates and strengths form a lattice, so a method with
    strengths has as many candidates as one without.
    """
    tried = ranges(config)
    frozen_too = _tries_frozen_norms(config)
    found = []
    for i in range(NUM_TRIALS):
        value = {
            name: low * (high / low) ** ((i * step + start) % NUM_TRIALS / (NUM_TRIALS - 1))
            for (name, (low, high)), step, start in zip(tried.items(), STEPS, STARTS, strict=False)
        }
        lr, head_lr = value.pop("lr"), value.pop("head_lr")
        recipe = replace(config.recipe, lr=lr, head_lr_factor=max(1.0, head_lr / lr))
        bn = Norms.frozen if frozen_too and i in FROZEN else config.bn
        settings = replace(config.settings, **value)
        found.append(replace(_plain(config), settings=settings, recipe=recipe, bn=bn))
    return found


def ranges(config: RunConfig) -> dict[str, tuple[float, float]]:
    """Return the ranges that `tune=auto` searches: of the rates, then of the method's strengths."""
    optimizer = getattr(config.settings, "optimizer", config.recipe.optimizer)
    rates = {"lr": RATES[optimizer], "head_lr": HEAD_RATES[optimizer]}
    return {**rates, **strengths(config.settings)}


def strengths(settings: Any) -> dict[str, tuple[float, float]]:
    """Return the ranges of the settings that a method wants tuned, without those that were given."""
    return {
        f.name: f.metadata["tuned"]
        for f in fields(settings)
        if "tuned" in f.metadata and getattr(settings, f.name) == f.default
    }


def tuned_names(method: str) -> set[str]:
    """Return the names of a method's settings that tuning may search."""
    return {f.name for f in fields(methods.load(method).Config) if "tuned" in f.metadata}


def not_used(overrides: Sequence[str], configs: Sequence[RunConfig]) -> list[str]:
    """Return a line for each given setting that the tuning of some runs replaces.

    These are rates, and strengths with the value that they have anyway.
    """
    tune = configs[0].tune
    names = {f"recipe.{name}" for name in SEARCHED[tune]}
    if tune is Tune.auto:
        names |= {f"method.{name}" for config in configs for name in strengths(config.settings)}
    found = [o for o in overrides if o.partition("=")[0] in names]
    return [f"{o}: not used, because tune={tune} searches it; tune=off uses it" for o in found]


def num_folds(config: RunConfig) -> int:
    """Return the number of folds that `tune=auto` cross-validates on; 1: half of the holdout decides.

    Where that half has fewer than FEW images of the median class, folds of all labeled images decide: as many
    as the budget allows.
    """
    target = load_target(config)
    counts = class_counts(target.part("holdout").labels, len(target.classes))
    per_class = config.holdout_shots or float(np.median(counts))
    if per_class / 2 >= FEW:
        return 1
    return max(2, min(MOST_FOLDS, int(config.tune_budget / 2)))


def tuned(config: RunConfig, run: Callable[[RunConfig], Record]) -> tuple[RunConfig, Record | None]:
    """Return a run with the values of its best trial, and the record's entry on that choice.

    Args:
        config: the run.
        run: does or finds a trial, and returns its record.

    Raises:
        RunFailed: no trial ended with finite numbers.
    """
    if not (first := trials(config)):
        return config, None
    done = _all(first, run, config.seed)
    is_auto = config.tune is Tune.auto
    if is_auto:
        own = candidates(config)
        kept = sorted(_order(_scores(config, done, len(own)))[:KEPT])
        last = _all(_flat(_round(config, [own[i] for i in kept], 1)), run, config.seed)
        done += [item for item in last if item[0] not in first]
        scores = _scores(config, last, len(kept))
    else:
        last = done
        scores = _scores(config, done, len(done))
    if isinf(max(scores).score):
        raise RunFailed(f"tune={config.tune}: no trial of {config.method} ended with finite numbers")
    equal = _as_good(scores, is_auto)
    best = max(equal, key=lambda i: scores[i].minus_loss)
    folds = len(last) // len(scores)
    chosen = last[best * folds][0]
    equals = [last[i * folds][0] for i in equal]
    recipe = replace(
        config.recipe,
        lr=chosen.recipe.lr,
        head_lr_factor=chosen.recipe.head_lr_factor,
        weight_decay=chosen.recipe.weight_decay,
    )
    names = strengths(config.settings)
    half = "the half of the holdout that serves no rewards"
    on = f"{folds} folds of all labeled images" if folds > 1 else half
    within = "within one standard error of the best" if is_auto else "best"
    choice = {
        "rule": f"{within} {config.score}, then least loss, after the last step on {on}",
        "num_trials": len(done),
        "num_folds": folds,
        "num_steps": sum(trial.recipe.steps for trial, _ in done),
        "seconds": sum(r["seconds"]["prepare"] + r["seconds"]["step"] for _, r in done),
        "num_failed": sum(r["holdout"] is None for _, r in done),
        "seed": _seed(config),
        "lr": recipe.lr,
        "head_lr_factor": recipe.head_lr_factor,
        "weight_decay": recipe.weight_decay,
        "bn": str(chosen.bn),
        "strengths": {name: value for name, value in asdict(chosen.settings).items() if name in names},
        "at_end": [end for end in _at_end(config, chosen) if all(end in _at_end(config, c) for c in equals)],
        "holdout": scores[best].score,
    }
    return replace(config, recipe=recipe, settings=chosen.settings, bn=chosen.bn), choice


def last_round(config: RunConfig) -> list[list[RunConfig]]:
    """Return the trials of each candidate in the last round of `tune=auto`, which KEPT of them reach."""
    is_auto = config.tune is Tune.auto and not methods.load(config.method).closed_form
    return _round(config, candidates(config), 1) if is_auto else []


def _all(
    own: Sequence[RunConfig], run: Callable[[RunConfig], Record], seed: int
) -> list[tuple[RunConfig, Record]]:
    """Return trials with their records; processes of other seeds start at other trials, and share them."""
    start = seed % len(own)
    done = {i: run(own[i]) for i in [*range(start, len(own)), *range(start)]}
    return [(trial, done[i]) for i, trial in enumerate(own)]


def _plain(config: RunConfig) -> RunConfig:
    """Return a run as a trial: with the seed of all trials, and rewards on half of the holdout."""
    return replace(config, role=Role.trial, tune=Tune.off, protocol=Protocol.holdout, seed=_seed(config))


def _seed(config: RunConfig) -> int:
    """Return the seed of a run's trials: one for all, or its own where each seed has other test images."""
    return TUNING_SEED + (config.seed if config.draw == FOLDS else 0)


def _tries_frozen_norms(config: RunConfig) -> bool:
    """Return whether candidates differ in the statistics of batch norms: there are some to be kept."""
    method = methods.load(config.method)
    may_freeze = config.bn is Norms.split and method.uses_pretraining and not method.own_norms
    return may_freeze and has_batch_norms(config.backbone, config.backbone_options)


def _round(config: RunConfig, own: Sequence[RunConfig], number: int) -> list[list[RunConfig]]:
    """Return the trials of each candidate, one per fold.

    Each round costs half of the budget. The first judges on one fold, the last on all.
    """
    folds = num_folds(config)
    names = [f"{fold + 1}/{folds}" for fold in range(folds)] if folds > 1 else [""]
    names = names if number else names[:1]
    num_trials = (KEPT if number else NUM_TRIALS) * len(names)
    steps = max(1, round(min(1.0, config.tune_budget / 2 / num_trials) * config.recipe.steps))
    recipes = [c.recipe.shortened(steps) for c in own]
    return [
        [replace(c, recipe=recipe, fold=name) for name in names]
        for c, recipe in zip(own, recipes, strict=True)
    ]


def _flat(of_candidates: Sequence[Sequence[RunConfig]]) -> list[RunConfig]:
    return [trial for own in of_candidates for trial in own]


class _Judged(NamedTuple):
    """How good a candidate is on how many images: by its score, and among equals by its loss."""

    score: float
    minus_loss: float
    num_images: int


def _scores(config: RunConfig, done: Sequence[tuple[RunConfig, Record]], number: int) -> list[_Judged]:
    """Return the means of each candidate over its folds; -inf where one had a NaN or Inf."""
    folds = len(done) // number
    found = []
    for i in range(number):
        own = [record["holdout"] for _, record in done[i * folds : (i + 1) * folds]]
        if None in own:
            found.append(_Judged(-inf, -inf, 0))
        else:
            score, loss = (fmean(each[name] for each in own) for name in (config.score, "loss"))
            found.append(_Judged(score, -loss, sum(each["num_images"] for each in own)))
    return found


def _as_good(scores: Sequence[_Judged], within_noise: bool) -> list[int]:
    """Return the numbers of the candidates with the best score, or `within_noise` of it.

    The noise is one standard error of a share of the images judged. The rule is that of Breiman et al.
    (1984), Classification and Regression Trees, section 3.4.3.
    """
    best = max(scores)
    share = min(1.0, max(0.0, best.score))
    error = sqrt(share * (1 - share) / best.num_images) if within_noise else 0.0
    return [i for i, each in enumerate(scores) if each.score >= best.score - error]


def _order(scores: Sequence[_Judged]) -> list[int]:
    """Return the numbers of candidates from the best to the worst; the first of equals first."""
    return sorted(range(len(scores)), key=lambda i: scores[i], reverse=True)


def _at_end(config: RunConfig, chosen: RunConfig) -> list[str]:
    """Return the settings whose chosen value is an end of the range that was searched, as "lr high".

    The lowest rate of `tune=auto` is no such end: the encoder hardly moves, and the head has its own rate.
    """
    is_auto = config.tune is Tune.auto
    grid = config.recipe.lr_grid
    tried = ranges(config) if is_auto else {"lr": (min(grid), max(grid))}
    tried.pop("head_lr", None)  # where it is lower than `lr`, it has no effect
    value = {"lr": chosen.recipe.lr, **asdict(chosen.settings)}
    return [
        f"{name} {side}"
        for name, ends in tried.items()
        if ends[0] < ends[1]
        for end, side in zip(ends, ("low", "high"), strict=True)
        if abs(log(value[name] / end)) < 1e-9 and (name, side, is_auto) != ("lr", "low", True)
    ]
