"""Intervals of scores that are the mean over the folds of one cross-validation."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t

TAIL = 0.975


def fold_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean over folds and its 95 % interval; without one for fewer than two folds.

    The folds train on the same images, so the variance is that of Nadeau and Bengio (2003): each fold counts 1
    / K + 1 / (K - 1) of its variance for K folds.
    """
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, math.nan, math.nan
    half = float(t.ppf(TAIL, count - 1) * np.std(values, ddof=1) * math.sqrt(1 / count + 1 / (count - 1)))
    return mean, mean - half, mean + half
