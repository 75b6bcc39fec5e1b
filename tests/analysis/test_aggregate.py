"""Holm, the interquartile mean and the probability of improvement: against scipy and by hand."""

import math

import numpy as np
import pytest
import scipy.stats
from transferbench import InputError
from transferbench.analysis.statistics.aggregate import (
    holm,
    improvement_bootstrap,
    iqm,
    probability_of_improvement,
)


def test_holm_by_hand():
    # in order .005 x 4, .01 x 3, .03 x 2, and .04 x 1, which may not fall below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_holm_does_not_count_what_was_not_tested():
    adjusted = holm([math.nan, 0.02, math.nan, 0.01])
    assert adjusted[[1, 3]] == pytest.approx([0.02, 0.02])
    assert np.isnan(adjusted[[0, 2]]).all()


def test_holm_keeps_the_order_and_lies_between_plain_and_bonferroni():
    plain = np.random.default_rng(0).random(40) ** 4
    adjusted = holm(plain)
    assert (np.diff(adjusted[np.argsort(plain)]) >= 0).all()
    assert ((plain <= adjusted) & (adjusted <= np.minimum(40 * plain, 1))).all()


def test_iqm_is_the_trimmed_mean_of_all_runs():
    assert iqm([[0, 1], [2, 30], [-9, 3]])[0] == 1.5  # of -9 0 1 2 3 30 one is cut at either end
    scores = np.random.default_rng(1).normal(size=(5, 7))
    assert iqm(scores)[0] == pytest.approx(scipy.stats.trim_mean(scores, 0.25, axis=None))


def test_interval_of_the_iqm_by_the_plain_loop():
    random = np.random.default_rng(2)
    scores = [random.normal(loc, size=size) for loc, size in ((0, 4), (1, 3), (5, 5))]
    means = []
    for _ in range(800):
        drawn = [
            values.mean() + (random.choice(values, len(values)) - values.mean()) * math.sqrt(n / (n - 1))
            for values, n in ((values, len(values)) for values in scores)
        ]
        means.append(scipy.stats.trim_mean(np.concatenate(drawn), 0.25))
    half = scipy.stats.t.isf(0.025, 9 / 2) * np.std(means)
    value, low, high = iqm(scores, resamples=8000)
    assert (value - low, high - value) == pytest.approx((half, half), rel=0.1)
    assert iqm(scores) == iqm(scores)


def test_without_a_second_seed_the_iqm_has_no_interval():
    value, low, high = iqm([[1.0, 2.0], [3.0]])
    assert value == 2.0
    assert math.isnan(low)
    assert math.isnan(high)


def test_probability_of_improvement_by_hand_and_by_mann_whitney():
    # target 1: 3 of 4 pairs; target 2: a tie and a loss
    assert probability_of_improvement([[2, 4], [1]], [[1, 3], [1, 2]])[0] == (3 / 4 + 1 / 4) / 2
    random = np.random.default_rng(3)
    x, y = random.integers(6, size=(2, 9)), random.integers(5, size=(2, 8))
    statistics = [scipy.stats.mannwhitneyu(a, b).statistic / 72 for a, b in zip(x, y, strict=True)]
    assert probability_of_improvement(x, y)[0] == pytest.approx(np.mean(statistics))


def test_interval_of_the_improvement_is_the_score_interval():
    x, y = [[1, 2, 3, 4, 5]], [[0, 1.5, 2.5, 6, 7]]
    value, low, high = probability_of_improvement(x, y)
    assert value == 12 / 25
    for end in (low, high):  # (value - end)^2 = 1.96^2 variance, by Hanley and McNeil at the end itself
        q1, q2 = end / (2 - end), 2 * end**2 / (1 + end)
        others = 4 * (q1 - end**2) + 4 * (q2 - end**2)
        error = math.sqrt((end * (1 - end) + others) / 25)
        assert abs(value - end) == pytest.approx(1.96 * error, abs=1e-3)
    assert 0 < low < value < high < 1


def test_three_wins_of_three_do_not_prove_that_it_always_wins():
    x, y = [[4, 5, 6]] * 2, [[1, 2, 3]] * 2
    value, low, high = probability_of_improvement(x, y)
    assert (value, high) == (1.0, 1.0)
    assert 0.5 < low < 0.8
    assert improvement_bootstrap(x, y) == (1.0, 1.0, 1.0)
    down, bottom, top = probability_of_improvement(y, x)
    assert (down, bottom) == (0.0, 0.0)
    assert top == pytest.approx(1 - low, abs=2e-4)


def test_improvement_bootstrap_agrees_with_the_plain_loop():
    random = np.random.default_rng(4)
    x, y = random.normal(0.5, size=(3, 6)), random.normal(size=(3, 5))
    means = []
    for _ in range(1500):
        drawn = [(random.choice(a, 6), random.choice(b, 5)) for a, b in zip(x, y, strict=True)]
        means.append(np.mean([(a[:, None] > b).mean() for a, b in drawn]))
    value, low, high = improvement_bootstrap(x, y, resamples=8000)
    assert value == probability_of_improvement(x, y)[0]
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.03)


def test_what_cannot_be_compared_is_said():
    with pytest.raises(InputError, match="2 and 1 targets"):
        probability_of_improvement([[1], [2]], [[1]])
    with pytest.raises(InputError, match="a target without a score"):
        iqm([[1.0], []])
