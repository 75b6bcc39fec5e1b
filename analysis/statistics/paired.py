"""Means, paired differences, their 95 % intervals and minimum detectable effects.

Legend: S seeds, N test examples, K kinds of test examples, R resamples.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import fmean

import numpy as np
import pandas as pd
from scipy.special import nctdtrinc, stdtr, stdtrit

from ..records.load import Run, tests_by_seed
from .difference import CONFIDENCE, POWER, Difference

TAIL = (1 - CONFIDENCE) / 2
RESAMPLES = 2000
TEST_PER_TRAIN = 1 / 4  # test images for each other image of such a run: fifths
EQUAL = 1e-9  # scores closer than this do not differ, and where no seed differs there is no interval
SMALLEST_TAIL = 1e-150  # a p-value below twice this is given as 0

Part = tuple[float, float]  # of an error: variance of the mean, degrees of freedom


def mean_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Return the mean and its 95 % t-interval over seeds; the interval is nan for a single value."""
    if len(values) == 0:
        return math.nan, math.nan, math.nan
    mean = float(np.mean(values))
    if len(values) == 1:
        return mean, math.nan, math.nan
    half = _half_width([_seed_part(np.asarray(values))], TAIL)
    return mean, mean - half, mean + half


def percent_interval(shares: Sequence[float] | np.ndarray | pd.Series) -> tuple[float, float, float]:
    """Return the mean of scores in percent and its 95 % t-interval within 0 to 100; nan if all agree."""
    mean, low, high = mean_interval(100 * np.asarray(shares))
    return (mean, math.nan, math.nan) if high - low < EQUAL else (mean, max(low, 0.0), min(high, 100.0))


def paired_difference(a_runs: Sequence[Run], b_runs: Sequence[Run]) -> Difference:
    """Return by how many points `a_runs` are above `b_runs`, paired by seed and by test example.

    What is estimated is the mean over all seeds and all test examples of which these are a sample; the
    examples are the same for every seed (see `crossed_parts`). Where the score is no mean over test examples
    (AUROC, mean per-class accuracy), it is paired by seed only, with a t-interval over seeds. So it is where
    each seed has other test images (`draw=folds`), see `folds_part`.
    """
    pairs = pairs_of(a_runs, b_runs)
    if not pairs:
        return Difference(math.nan, math.nan, math.nan, 0, "no seed in common")
    if not _same_images(pairs):
        return Difference(math.nan, math.nan, math.nan, len(pairs), "the test images are not the same")
    unpaired = len(a_runs) + len(b_runs) - 2 * len(pairs)
    have = "run has" if unpaired == 1 else "runs have"
    note = f"{unpaired} {have} no partner of the same seed" if unpaired else ""
    mean, parts, is_crossed = paired_parts(pairs)
    if not is_crossed:
        note = _join(note, "paired by seed only")
    elif len(pairs) == 1:
        note = _join(note, "the interval covers the choice of test images, not of the seed")
    return _difference(mean, parts, len(pairs), note)


def comparable_mean(runs: Sequence[Run], reference: Sequence[Run], difference: Difference) -> float:
    """Return the mean score in percent by which a row is placed among the others.

    With other seeds than the reference's it would be a mean over easier or harder draws. It is then the mean
    of the reference plus the paired difference, which is over the seeds of both.

    Args:
        runs: of the row.
        reference: the runs of fine-tuning; none leaves the mean as it is.
        difference: of the two, paired.
    """
    is_alike = {run.seed for run in runs} == {run.seed for run in reference}
    if is_alike or math.isnan(difference.points):
        return 100 * fmean(run.score for run in runs)
    return 100 * fmean(run.score for run in reference) + difference.points


def pairs_of(a_runs: Sequence[Run], b_runs: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Return the runs with the same seed."""
    b_by_seed = {run.seed: run for run in b_runs}
    return [(run, b_by_seed[run.seed]) for run in a_runs if run.seed in b_by_seed]


def paired_parts(pairs: Sequence[tuple[Run, Run]]) -> tuple[float, list[Part], bool]:
    """Return the mean difference, the parts of its error, and whether it is paired by test example, too."""
    if len(pairs) > 1 and _tests_differ(pairs):
        deltas_S = np.array([a.score - b.score for a, b in pairs])
        num_images = min(a.record["test"]["num_images"] for a, _ in pairs)
        return float(deltas_S.mean()), [folds_part(deltas_S, 1 / num_images)], False
    deltas_SN = [
        a.correct.view(np.int8) - b.correct.view(np.int8)
        for a, b in pairs
        if a.metric == "top1" and a.correct is not None and b.correct is not None
    ]
    if len(deltas_SN) == len(pairs):
        return *crossed_parts(np.stack(deltas_SN)), True
    deltas_S = np.array([a.score - b.score for a, b in pairs])
    return float(deltas_S.mean()), [_seed_part(deltas_S)] if np.ptp(deltas_S) > EQUAL else [], False


def folds_part(deltas_S: np.ndarray, step: float) -> Part:
    """Return the error of the mean difference of seeds that have other test images.

    Such seeds are not independent: what one tests on, the others train on. The variance of their mean is that
    of one seed times 1/S + n_test/n_train, not 1/S (Nadeau and Bengio, 2003, Machine Learning 52).

    Args:
        deltas_S: difference of each seed.
        step: they are rounded to a multiple of it.
    """
    variance, freedom = _seed_part(deltas_S, step)
    return variance * (1 + len(deltas_S) * TEST_PER_TRAIN), freedom


def crossed_parts(deltas_SN: np.ndarray) -> tuple[float, list[Part]]:
    """Return the mean of `deltas_SN` and the parts of its error: of the seeds, and of the test examples.

    Crossed random effects: a delta is the mean, plus an effect of its seed, of its example (shared by all
    seeds) and of both. The seeds' part is that of the t-interval over the seeds' means, S - 1 degrees of
    freedom; it also contains the effect of both, and the rounding of a mean to whole examples, without which
    two seeds that happen to have equal scores would make any difference significant. The examples' part is
    the variance component of the examples over N, N - 1 degrees of freedom. The half width is the
    root of the sum of the squares of both parts' t half widths (Howe, 1974, Journal of the American
    Statistical Association 69, for a sum of two variables).

    `python -m transferbench.analysis.statistics.simulate --trials 2000`: 100 to 10,000 images, seeds that
    spread by 0 to 2 points, agreement between seeds .1 to .9, effects of 0 and 2 points. The interval
    covers the true effect in 95 to 97 % of trials with five seeds and 94 to 97 % with ten. With three it
    is 94 to 98 % and with two 95 to 99 %: wider than need be where seeds hardly differ and are too
    few to show it. One t for both parts (Satterthwaite's or Cochran's) is no cure: at two or three seeds it
    errs more often than it says far out, where Holm correction looks.
    """
    num_seeds, num_examples = deltas_SN.shape
    mean = float(deltas_SN.mean())
    if num_examples < 2:
        return mean, []
    if (
        deltas_SN.min() == deltas_SN.max()
    ):  # that none differs bounds the share that would: Clopper and Pearson
        half = 1 - TAIL ** (1 / num_examples)
        return mean, [((half / float(stdtrit(num_examples - 1, TAIL))) ** 2, num_examples - 1)]
    mean_S, mean_N = deltas_SN.mean(axis=1), deltas_SN.mean(axis=0)
    examples = float(mean_N.var(ddof=1)) / num_examples
    if num_seeds == 1:
        return mean, [(examples, num_examples - 1)]
    squares = np.count_nonzero(deltas_SN) / deltas_SN.size  # a delta is -1, 0 or 1
    both = (
        (squares - (mean_S**2).mean() - (mean_N**2).mean() + mean**2) / (num_seeds - 1) / (num_examples - 1)
    )
    return mean, [
        _seed_part(mean_S, step=1 / num_examples),
        (max(examples - float(both), 0.0), num_examples - 1),
    ]


def two_level_bootstrap(
    deltas_SN: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float, float]:
    """Return the mean of `deltas_SN` and its 95 % percentile interval; too narrow with fewer than ten seeds.

    Seeds are resampled, and test examples, which all seeds share. Examples on which every seed agrees are
    of one kind and drawn together: counts of kinds are multinomial, which has the same distribution and is
    much faster.

    A resample of few seeds varies less than seeds do: in the simulation named at `crossed_parts` this covers
    89 % at two and 90 % at three seeds that spread by 2 points. So `paired_difference` does not use it.
    """
    random = np.random.default_rng(seed)
    num_seeds, num_examples = deltas_SN.shape
    kinds_SK, counts_K = np.unique(deltas_SN, axis=1, return_counts=True)
    draws_RK = random.multinomial(num_examples, counts_K / num_examples, size=resamples) / num_examples
    draws_RS = random.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=resamples) / num_seeds
    means_R = ((draws_RK @ kinds_SK.T) * draws_RS).sum(axis=1)
    low, high = np.quantile(means_R, [TAIL, 1 - TAIL])
    return float(deltas_SN.mean()), float(low), float(high)


def _difference(mean: float, parts: Sequence[Part], num_seeds: int, note: str) -> Difference:
    """Return the difference (a share) in points, with interval, p-value and minimum detectable effect."""
    if not parts:
        return Difference(100 * mean, math.nan, math.nan, num_seeds, note)
    half = _half_width(parts, TAIL)
    low, high = max(100 * (mean - half), -100.0), min(100 * (mean + half), 100.0)
    return Difference(
        100 * mean, low, high, num_seeds, note, _p_value(mean, parts), 100 * detectable(parts)
    )  # fmt: skip


def _seed_part(values_S: np.ndarray, step: float = 0.0) -> Part:
    """Return the error of a mean over two or more seeds, whose values are rounded to a multiple of `step`."""
    return (float(values_S.var(ddof=1)) + step**2 / 12) / len(values_S), len(values_S) - 1


def _half_width(parts: Sequence[Part], tail: float) -> float:
    """Return half the width of the interval that leaves out `tail` on either side."""
    return math.sqrt(sum(variance * float(stdtrit(freedom, tail)) ** 2 for variance, freedom in parts))


def _p_value(mean: float, parts: Sequence[Part]) -> float:
    """Return the two-sided level at which the interval just reaches 0."""
    if mean == 0:
        return 1.0
    if _half_width(parts, SMALLEST_TAIL) < abs(mean):
        return 0.0
    t = -abs(mean) / math.sqrt(sum(variance for variance, _ in parts))
    tails = [float(stdtr(freedom, t)) for _, freedom in parts]  # the tail lies between those of its parts
    low, high = max(min(tails) / 2, SMALLEST_TAIL), min(max(tails) * 2, 0.5)
    excess = lambda log_tail: _half_width(parts, math.exp(log_tail)) - abs(mean)  # noqa: E731
    return 2 * math.exp(_root(excess, math.log(low), math.log(high)))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a falling function is 0, by halving; `scipy.optimize` has it too, and a slow import."""
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return low


def detectable(parts: Sequence[Part]) -> float:
    """Return the mean that differs from 0 with a power of .8, each part by its t-test's non-centrality."""
    return math.sqrt(sum(variance * _noncentrality(freedom) ** 2 for variance, freedom in parts))


@lru_cache
def _noncentrality(freedom: float) -> float:
    """Return the mean over its standard error at which a t-test of level .05 has a power of .8."""
    return float(nctdtrinc(freedom, 1 - POWER, -stdtrit(freedom, TAIL)))


def _same_images(pairs: Sequence[tuple[Run, Run]]) -> bool:
    """Return whether both runs of each pair saw the same data, and all were tested on as many images."""
    numbers = {run.record["test"]["num_images"] for pair in pairs for run in pair}
    equal = all(same_tests(a, b) for a, b in pairs)
    return equal and (len(numbers) == 1 or _tests_differ(pairs))


def same_tests(a: Run, b: Run) -> bool:
    """Return whether two runs had the same data, and the same test images if both records tell which."""
    prints = a.record["fingerprints"], b.record["fingerprints"]
    tests = {(of.get("splits") or {}).get("test") for of in prints} - {None}
    return prints[0]["target"] == prints[1]["target"] and len(tests) < 2


def _tests_differ(pairs: Sequence[tuple[Run, Run]]) -> bool:
    """Return whether each seed has test images of its own."""
    return all(tests_by_seed(run) for pair in pairs for run in pair)


def _join(*notes: str) -> str:
    """Return the notes that are not empty as one."""
    return "; ".join(note for note in notes if note)
