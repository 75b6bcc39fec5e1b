"""What tuning chose for each row, and what that took: numbers, text and notes."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .. import wording
from ..records.comparison import CLOSED_FORM, HEAD_ALONE, Comparison
from ..records.load import Run

OF_GRID = "paper_grid"  # the only way of tuning that also chooses the weight decay


def chosen_numbers(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the values that a row was trained with, and the cost of tuning it.

    A value on which seeds differ is nan or "", as is one that is not recorded. Trials are shared by all
    seeds, so their cost is that of one seed.
    """
    choices = [run.record.get("choice") or {} for run in runs]
    recipes = [run.record["config"].get("recipe") or {} for run in runs]
    is_closed = runs[0].method in CLOSED_FORM
    used = [{**recipe, **choice} for recipe, choice in zip(recipes, choices, strict=True)]
    strengths = {_strengths(choice) for choice in choices}
    return {
        "chosen_lr": math.nan if is_closed else _same(used, "lr", math.nan),
        "chosen_weight_decay": math.nan if is_closed else _same(used, "weight_decay", math.nan),
        "chosen_head_lr_factor": math.nan if is_closed else _same(used, "head_lr_factor", math.nan),
        "chosen_bn": _same(choices, "bn", ""),
        "chosen_strengths": strengths.pop() if len(strengths) == 1 else "",
        "tuning_trials": max(choice.get("num_trials") or 0 for choice in choices),
        "tuning_steps": max(choice.get("num_steps") or 0 for choice in choices),
        "tuning_seconds": max(choice.get("seconds") or 0.0 for choice in choices),
    }


def _same(entries: Sequence[Mapping[str, Any]], name: str, missing: Any) -> Any:
    """Return the value that all entries have."""
    values = {entry.get(name) for entry in entries}
    value = values.pop() if len(values) == 1 else None
    return missing if value is None else value


def _strengths(choice: Mapping[str, Any]) -> str:
    """Return the strengths of a choice: "alpha 0.1, beta 2"."""
    return ", ".join(f"{name} {value:.3g}" for name, value in (choice.get("strengths") or {}).items())


def chosen_text(runs: Sequence[Run]) -> str:
    """Return the values of a row: "lr 0.01, head 0.1, alpha 0.1, bn frozen"; of several choices, each."""
    return " / ".join(dict.fromkeys(map(_of_run, runs)))


def _of_run(run: Run) -> str:
    """Return the values that one run was trained with, then those that its method chose by itself."""
    own = [f"{name.replace('_', ' ')} {_shown(value)}" for name, value in chosen_values(run).items()]
    if run.method in CLOSED_FORM:
        return ", ".join(own) or wording.ABSENT
    choice, config = run.record.get("choice"), run.record["config"]
    used = {**(config.get("recipe") or {}), **(choice or {})}
    lr, decay, factor = (used.get(name) for name in ("lr", "weight_decay", "head_lr_factor"))
    if run.method in HEAD_ALONE and lr and factor:
        lr, factor = lr * factor, 1
    parts = [] if lr is None else [f"lr {lr:.3g}"]
    parts += [f"weight decay {decay:.3g}"] if decay is not None and config.get("tune") == OF_GRID else []
    parts += [f"head {lr * factor:.3g}"] if lr and factor not in (None, 1) else []
    if choice is None:
        return ", ".join([*parts, "not tuned", *own])
    bn = choice.get("bn") or "split"
    strengths = filter(None, [_strengths(choice)])
    return ", ".join([*parts, *strengths, *([f"bn {bn}"] if bn != "split" else []), *own])


def chosen_values(run: Run) -> dict[str, float | list[int]]:
    """Return the values that the method of a run chose on labeled images by itself, by name."""
    return run.record.get("chosen_values") or {}


def _shown(value: float | list[int]) -> str:
    """Return a number, or some numbers of things that were chosen together."""
    return "+".join(map(str, value)) if isinstance(value, list) else f"{value:.3g}"


def tuning_text(trials: float, steps: float, seconds: float) -> str:
    """Return the cost of tuning a row: "40 s (13 trials, 1.2 k steps)"."""
    if not trials:
        return "none"
    return f"{wording.duration(seconds)} ({trials:.0f} trials, {wording.count(steps)} steps)"


def shows_chosen(comparison: Comparison) -> bool:
    """Return whether there are values to show: rows were tuned, or trained rows chose values themselves."""
    trained = (run for run in comparison.runs if run.method not in CLOSED_FORM)
    return is_tuned(comparison) or any(map(chosen_values, trained))


def is_tuned(comparison: Comparison) -> bool:
    """Return whether some row was tuned, or the setting asks for it."""
    asks = re.search(r"\btune=(?!off\b)", comparison.setting)
    return bool(asks) or any(run.record.get("choice") for run in comparison.runs)


def tuning_note(comparison: Comparison) -> list[str]:
    """Return a note if learning rates were given and not tuned (tune=off); else nothing."""
    trained = [run for run in comparison.runs if run.method not in CLOSED_FORM]
    if not trained or any(run.record["config"].get("tune") != "off" for run in trained):
        return []
    return [
        "Learning rates are those of the preset or of recipe.lr and not tuned (tune=off): they may suit one"
        " row more than another. tune=auto tunes all alike."
    ]
