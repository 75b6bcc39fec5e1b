"""Statistics against scipy and numbers worked by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from transferbench.analysis.load import Run
from transferbench.analysis.stats import mean_interval, paired_difference, two_level_bootstrap


def make_run(correct, seed=0, metric="top1", score=None, images="t1"):
    correct = np.asarray(correct, dtype=bool)
    record = {"test": {"num_images": len(correct)}, "fingerprints": {"target": images}}
    return Run(
        path=Path("record.json"), source="glyphs", target="digits", bench="b", setting="", label="A",
        method="a", seed=seed, digest="d", metric=metric, score=correct.mean() if score is None else score,
        correct=correct, record=record,
    )  # fmt: skip


def test_mean_interval_by_hand_and_by_scipy():
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert (mean, round(high - mean, 3), round(mean - low, 3)) == (2.0, 2.484, 2.484)  # 4.3027 * 1 / sqrt(3)
    values = np.random.default_rng(0).normal(size=7)
    expected = scipy.stats.t.interval(0.95, 6, values.mean(), scipy.stats.sem(values))
    assert mean_interval(values)[1:] == pytest.approx(expected)


def test_a_single_value_has_no_interval():
    mean, low, high = mean_interval([0.5])
    assert mean == 0.5
    assert math.isnan(low)
    assert math.isnan(high)
    assert math.isnan(mean_interval([])[0])


def test_bootstrap_over_examples_agrees_with_scipy():
    deltas = np.random.default_rng(1).choice([-1, 0, 1], p=[0.05, 0.8, 0.15], size=500)
    expected = scipy.stats.bootstrap(
        (deltas,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    mean, low, high = two_level_bootstrap(deltas[None], resamples=20_000)
    assert mean == deltas.mean()
    assert (low, high) == pytest.approx(tuple(expected), abs=1e-3)


def test_bootstrap_over_seeds_and_examples_agrees_with_the_plain_loop():
    random = np.random.default_rng(3)
    deltas = random.choice([-1, 0, 1], p=[0.1, 0.6, 0.3], size=(4, 150))
    deltas[0] = np.maximum(deltas[0], 0)  # a seed apart
    means = [
        deltas[np.ix_(random.integers(4, size=4), random.integers(150, size=150))].mean() for _ in range(8000)
    ]
    _, low, high = two_level_bootstrap(deltas, resamples=8000)
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=6e-3)


def test_bootstrap_is_the_same_each_time_and_exact_where_nothing_varies():
    deltas = np.random.default_rng(4).choice([-1, 0, 1], size=(3, 90))
    assert two_level_bootstrap(deltas) == two_level_bootstrap(deltas)
    assert two_level_bootstrap(np.ones((3, 40), dtype=np.int8)) == (1.0, 1.0, 1.0)


def test_difference_is_paired_by_seed_and_example():
    base = [make_run([1, 1, 0, 0], seed) for seed in (0, 1)]
    better = [make_run([1, 1, 1, 0], seed) for seed in (1, 0)]
    difference = paired_difference(better, base)
    assert (difference.points, difference.num_seeds, difference.note) == (25.0, 2, "")
    assert difference.low == 0.0
    assert 25 < difference.high <= 100
    same = paired_difference(base, base)
    assert (same.points, same.low, same.high) == (0.0, 0.0, 0.0)


def test_one_seed_says_what_its_interval_leaves_out():
    difference = paired_difference([make_run([1, 1, 1, 0])], [make_run([1, 1, 0, 0])])
    assert "not of the seed" in difference.note
    assert not math.isnan(difference.low)


@pytest.mark.parametrize("metric", ["auroc", "mean_per_class"])
def test_other_scores_are_paired_by_seed_only(metric):
    a = [make_run([1, 0], seed, metric, score) for seed, score in enumerate((0.81, 0.82, 0.83))]
    b = [make_run([1, 0], seed, metric, 0.80) for seed in range(3)]
    difference = paired_difference(a, b)
    assert (difference.points, difference.high) == pytest.approx((2.0, 2.0 + 2.484), abs=1e-3)
    assert difference.note == "paired by seed only"
    assert math.isnan(paired_difference(a[:1], b[:1]).low)


def test_what_cannot_be_paired_is_said():
    none = paired_difference([make_run([1, 0], seed=1)], [make_run([1, 0], seed=0)])
    assert (none.num_seeds, none.note) == (0, "no seed in common")
    changed = paired_difference([make_run([1, 0], images="t2")], [make_run([1, 0])])
    assert math.isnan(changed.points)
    assert changed.note == "the test images are not the same"
    partly = paired_difference([make_run([1, 0], 0), make_run([1, 0], 1)], [make_run([1, 0], 0)])
    assert partly.num_seeds == 1
    assert "1 run has no partner" in partly.note
