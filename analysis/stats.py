"""Means, differences and their 95 % intervals.

Legend: S seeds, N test examples, K kinds of test examples, R resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from .load import Run

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """A difference in points (hundredths of the score) with its interval; nan where there is none."""

    points: float
    low: float
    high: float
    num_seeds: int
    note: str = ""


def mean_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Return the mean and its 95 % t-interval over seeds; the interval is nan for a single value."""
    if len(values) == 0:
        return math.nan, math.nan, math.nan
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, math.nan, math.nan
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * error
    return mean, mean - half, mean + half


def paired_difference(a_runs: Sequence[Run], b_runs: Sequence[Run]) -> Difference:
    """Return by how many points `a_runs` are above `b_runs`, paired by seed and by test example.

    Where the score is no mean over test examples (AUROC, mean per-class accuracy), it is paired by
    seed only.
    """
    b_by_seed = {run.seed: run for run in b_runs}
    pairs = [(run, b_by_seed[run.seed]) for run in a_runs if run.seed in b_by_seed]
    if not pairs:
        return Difference(math.nan, math.nan, math.nan, 0, "no seed in common")
    if not _same_images(pairs):
        return Difference(math.nan, math.nan, math.nan, len(pairs), "the test images are not the same")
    unpaired = len(a_runs) + len(b_runs) - 2 * len(pairs)
    have = "run has" if unpaired == 1 else "runs have"
    note = f"{unpaired} {have} no partner of the same seed" if unpaired else ""
    deltas_SN = [
        a.correct.astype(np.int8) - b.correct.astype(np.int8)
        for a, b in pairs
        if a.metric == "top1" and a.correct is not None and b.correct is not None
    ]
    if len(deltas_SN) < len(pairs):
        points, low, high = mean_interval([100 * (a.score - b.score) for a, b in pairs])
        return Difference(points, low, high, len(pairs), _join(note, "paired by seed only"))
    points, low, high = two_level_bootstrap(np.stack(deltas_SN))
    if len(pairs) == 1:
        note = _join(note, "the interval covers the choice of test images, not of the seed")
    return Difference(100 * points, 100 * low, 100 * high, len(pairs), note)


def two_level_bootstrap(
    deltas_SN: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float, float]:
    """Return the mean of `deltas_SN` and its 95 % percentile interval.

    Seeds are resampled, and test examples, which all seeds share. Examples on which every seed agrees are
    of one kind and drawn together: counts of kinds are multinomial, which is the same law and far quicker.
    """
    random = np.random.default_rng(seed)
    num_seeds, num_examples = deltas_SN.shape
    kinds_SK, counts_K = np.unique(deltas_SN, axis=1, return_counts=True)
    draws_RK = random.multinomial(num_examples, counts_K / num_examples, size=resamples) / num_examples
    draws_RS = random.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=resamples) / num_seeds
    means_R = ((draws_RK @ kinds_SK.T) * draws_RS).sum(axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means_R, [tail, 1 - tail])
    return float(deltas_SN.mean()), float(low), float(high)


def _same_images(pairs: Sequence[tuple[Run, Run]]) -> bool:
    """Return whether both runs of each pair saw the same data, and all were tested on as many images."""
    numbers = {run.record["test"]["num_images"] for pair in pairs for run in pair}
    equal = all(a.record["fingerprints"]["target"] == b.record["fingerprints"]["target"] for a, b in pairs)
    return equal and len(numbers) == 1


def _join(*notes: str) -> str:
    """Return the notes that are not empty as one."""
    return "; ".join(note for note in notes if note)
