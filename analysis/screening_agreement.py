"""Compare the scores of a screening with what benches then measured: rank correlation over candidates."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import weightedtau

from . import wording
from .records.comparison import REFERENCE
from .records.load import Run
from .records.screens import Screen, is_alike

LEAST = 3  # candidates that a correlation needs
MANY = 10  # candidates from which on drawing them again gives an interval
RESAMPLED = 1000
BEST = "the best row"


class Agreement(NamedTuple):
    """How far a score ranks candidates as a measured row does; without an interval for few of them."""

    name: str
    tau: float
    low: float
    high: float


def measured(screen: Screen, runs: Sequence[Run]) -> dict[str, float]:
    """Return the mean test score of each row that a bench has measured for a candidate, and of the best one.

    Runs count if images, labels, network and weights are those of the screening; of several benches the
    newest.
    """
    alike = [run for run in runs if is_alike(screen, run)]
    if not alike:
        return {}
    newest = max(alike, key=lambda run: run.record["ended"]).comparison_id
    of_label: dict[str, list[float]] = defaultdict(list)
    for run in alike:
        if run.comparison_id == newest:
            of_label[run.label].append(run.score)
    means = {label: float(np.mean(scores)) for label, scores in of_label.items()}
    return {**means, BEST: max(means.values())}


def agreements(screens: Sequence[Screen], runs: Sequence[Run], names: Mapping[str, bool]) -> dict[str, Any]:
    """Return how each score agrees with fine-tuning and with the best row, over candidates that both have.

    Args:
        screens: the candidates.
        runs: the records of a results folder.
        names: the scores, and whether higher is better.

    Returns:
        For each row that is measured for three candidates or more: their number, and the agreement of scores.
    """
    found: dict[str, Any] = {}
    results = [measured(screen, runs) for screen in screens]
    for row in (REFERENCE, BEST):
        both = [(s, m[row]) for s, m in zip(screens, results, strict=True) if row in m]
        if len(both) < LEAST:
            continue
        test = np.array([score for _, score in both])
        own = []
        for name, up in names.items():
            values = np.array([float(np.mean(s["scores"].get(name, math.nan))) for s, _ in both])
            if not np.isnan(values).any():
                own.append(Agreement(name, *_with_interval(values if up else -values, test)))
        found[row] = (len(both), own)
    return found


def _with_interval(scores: np.ndarray, test: np.ndarray) -> tuple[float, float, float]:
    """Return the weighted Kendall's tau and its 95 % interval, by drawing the candidates again."""
    if len(test) < MANY:
        return _tau(scores, test), math.nan, math.nan
    random = np.random.default_rng(0)
    drawn = random.integers(len(test), size=(RESAMPLED, len(test)))
    again = np.array([_tau(scores[rows], test[rows]) for rows in drawn])
    low, high = np.nanquantile(again, [0.025, 0.975])
    return _tau(scores, test), float(low), float(high)


def _tau(scores: np.ndarray, test: np.ndarray) -> float:
    """Return the weighted Kendall's tau; nan if all values of one are equal."""
    if np.ptp(scores) == 0 or np.ptp(test) == 0:
        return math.nan
    return float(weightedtau(scores, test).statistic)


def agreement_lines(found: Mapping[str, Any], titles: Mapping[str, str], what: str) -> list[str]:
    """Return lines on agreements; each says how many candidates it rests on.

    Args:
        found: the agreements, from `agreements`.
        titles: name of each score.
        what: what is ranked, in the plural.
    """
    lines = []
    for row, (count, own) in found.items():
        chance = f"a perfect order comes by chance once in {math.factorial(count):,} times"
        few = f", too few for an interval: {chance}" if count < MANY else ""
        lines.append(f"rank correlation with the test score of {row}, over {count} {what}{few}")
        for each in sorted(own, key=lambda each: 2 if math.isnan(each.tau) else -each.tau):
            known = not math.isnan(each.low)
            interval = f" (95 % CI {wording.interval(each.low, each.high, 2)})" if known else ""
            lines.append(f"  {titles[each.name]:20} {wording.number(each.tau, 2)}{interval}")
    return lines
