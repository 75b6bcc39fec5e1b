"""Intervals of scores that are the mean over the folds of one cross-validation."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t

TAIL = 0.975


def fold_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Return the mean over folds and its 95 % interval; without one for fewer than two folds.

    The folds share training images, so the variance of the mean is that of Nadeau and Bengio (2003): the
    variance over K folds times 1 / K + 1 / (K - 1).
    """
    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, math.nan, math.nan
    half = float(t.ppf(TAIL, count - 1) * np.std(values, ddof=1) * math.sqrt(1 / count + 1 / (count - 1)))
    return mean, mean - half, mean + half
