"""Tuning: trials that choose learning rate, weight decay and strengths, equally many for every method."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from itertools import product
from typing import Any

from ...methods import catalog as methods
from ...methods.recipe import OptimizerName
from ..config.schema import Protocol, Role, RunConfig, Tune

TUNING_SEED = 10_000  # no reported run has this seed
NUM_TRIALS, KEPT = 9, 3  # candidates of `tune=auto`; one in KEPT goes on, with KEPT times the steps
RATES = {OptimizerName.sgd: (3e-4, 0.3), OptimizerName.adam: (1e-5, 1e-2)}  # learning rates from low to high
GENERATORS = (1, 4, 7, 2, 5, 8)  # of a lattice of NUM_TRIALS points: each value of each setting occurs once
Record = dict[str, Any]


def trials(config: RunConfig) -> list[RunConfig]:
    """Return the trials of a run that need no result of others.

    `tune=paper_grid`: one per point of the grid; `tune=auto`: the first round. There are none with
    `tune=off`, nor for a method in closed form, which has no learning rate.
    """
    if methods.load(config.method).closed_form or config.tune is Tune.off:
        return []
    if config.tune is Tune.auto:
        return _round(candidates(config), 0)
    plain, recipe = _plain(config), config.recipe
    grid = product(recipe.lr_grid, recipe.weight_decay_grid)
    return [replace(plain, recipe=replace(recipe, lr=lr, weight_decay=wd)) for lr, wd in grid]


def candidates(config: RunConfig) -> list[RunConfig]:
    """Return the candidates of `tune=auto`: learning rates on a log scale, and strengths of the method.

    A method declares the range of a strength in its settings, by `metadata={"tuned": (low, high)}`. Rates and
    strengths form a lattice, so a method with strengths has as many candidates as one without.
    """
    ranges = [RATES[config.recipe.optimizer], *strengths(config.settings).values()]
    found = []
    for i in range(NUM_TRIALS):
        places = [i * generator % NUM_TRIALS / (NUM_TRIALS - 1) for generator in GENERATORS[: len(ranges)]]
        values = [low * (high / low) ** place for (low, high), place in zip(ranges, places, strict=True)]
        chosen = dict(zip(strengths(config.settings), values[1:], strict=True))
        settings = replace(config.settings, **chosen)
        found.append(replace(_plain(config), settings=settings, recipe=replace(config.recipe, lr=values[0])))
    return found


def strengths(settings: Any) -> dict[str, tuple[float, float]]:
    """Return the ranges of the settings that a method wants tuned."""
    return {f.name: f.metadata["tuned"] for f in fields(settings) if "tuned" in f.metadata}


def tuned(config: RunConfig, run: Callable[[RunConfig], Record]) -> tuple[RunConfig, Record | None]:
    """Return a run with the values of its best trial, and the record's entry on that choice.

    Args:
        config: the run.
        run: does or finds a trial, and returns its record.
    """
    first = trials(config)
    if not first:
        return config, None
    done = [(trial, run(trial)) for trial in first]
    if config.tune is Tune.auto:
        own = candidates(config)
        best = sorted(_order(config, [record for _, record in done])[: NUM_TRIALS // KEPT])
        done += [(trial, run(trial)) for trial in _round([own[i] for i in best], 1)]
        last = done[NUM_TRIALS:]
    else:
        last = done
    chosen, record = last[_order(config, [record for _, record in last])[0]]
    recipe = replace(config.recipe, lr=chosen.recipe.lr, weight_decay=chosen.recipe.weight_decay)
    names = strengths(chosen.settings)
    choice = {
        "rule": f"best {config.score} after the last step on the half of the holdout that serves no rewards",
        "num_trials": len(done),
        "num_steps": sum(trial.recipe.steps for trial, _ in done),
        "seconds": sum(r["seconds"]["prepare"] + r["seconds"]["step"] for _, r in done),
        "seed": TUNING_SEED,
        "lr": recipe.lr,
        "weight_decay": recipe.weight_decay,
        "strengths": {name: value for name, value in asdict(chosen.settings).items() if name in names},
        "holdout": record["holdout"][config.score],
    }
    return replace(config, recipe=recipe, settings=chosen.settings), choice


def _plain(config: RunConfig) -> RunConfig:
    """Return a run as a trial: with the seed of all trials, and rewards on half of the holdout."""
    return replace(config, role=Role.trial, tune=Tune.off, protocol=Protocol.holdout, seed=TUNING_SEED)


def _round(own: Sequence[RunConfig], number: int) -> list[RunConfig]:
    """Return candidates with a ninth of the steps in the first round, and a third in the second."""
    share = KEPT**number / NUM_TRIALS
    return [
        replace(c, recipe=replace(c.recipe.shortened(max(1, round(share * c.recipe.steps))), evaluations=1))
        for c in own
    ]


def _order(config: RunConfig, records: Sequence[Record]) -> list[int]:
    """Return the numbers of trials from the best holdout score to the worst; the first of equals first."""
    return sorted(range(len(records)), key=lambda i: -records[i]["holdout"][config.score])
