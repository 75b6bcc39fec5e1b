"""Statistics against scipy and numbers worked by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from transferbench.analysis.records.load import Run
from transferbench.analysis.statistics.paired import (
    crossed_parts,
    mean_interval,
    paired_difference,
    two_level_bootstrap,
)


def make_run(correct, seed=0, metric="top1", score=None, images="t1"):
    correct = np.asarray(correct, dtype=bool)
    record = {"test": {"num_images": len(correct)}, "fingerprints": {"target": images}}
    return Run(
        path=Path("record.json"), source="glyphs", target="digits", comparison_id="b", setting="", label="A",
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
    # seeds do not differ; deltas 0 0 1 0 have standard error 1/4, and 3.1824 is t for 3 degrees of freedom
    # and seeds' means come in steps of 1/4: variance 1/16/12, over two seeds, 12.7062 for 1 degree of freedom
    half = 100 * math.sqrt(3.1824**2 / 16 + 12.7062**2 / 16 / 12 / 2)
    assert difference.low == pytest.approx(max(25 - half, -100), abs=1e-2)
    assert difference.high == 100  # and no more


def test_parts_of_the_error_by_hand():
    deltas = np.array([[1, 0, 0, 0], [1, 1, 0, 0]], dtype=np.int8)
    mean, (seeds, examples) = crossed_parts(deltas)
    assert mean == 0.375
    rounding = 1 / 16 / 12 / 2  # of a mean of 4
    assert seeds == pytest.approx((1 / 64 + rounding, 1))  # means 1/4 and 1/2: variance 1/32, over two seeds
    # means 1, 1/2, 0, 0: variance 11/48, over 4 examples, less residual 1/8 over 8 deltas
    assert examples == pytest.approx((11 / 192 - 1 / 64, 3))


def test_seeds_that_happen_to_agree_prove_nothing():
    """Two seeds gain equally, on other images: no spread between seeds, none shared by images."""
    rows = np.zeros((2, 1000))
    rows[0, :6], rows[1, 6:12] = 1, 1
    base = [make_run(np.zeros(1000), seed) for seed in (0, 1)]
    difference = paired_difference([make_run(row, seed) for seed, row in enumerate(rows)], base)
    assert difference.points == pytest.approx(0.6)
    assert difference.high - 0.6 == pytest.approx(12.7062 * 0.1 / math.sqrt(12 * 2), abs=1e-3)
    alike = [make_run([1, 0], seed, "auroc", 0.9) for seed in (0, 1)]
    assert math.isnan(paired_difference(alike, [make_run([1, 0], s, "auroc", 0.8) for s in (0, 1)]).p_value)


def test_one_seed_is_a_t_test_over_examples():
    random = np.random.default_rng(5)
    a, b = random.random(400) < 0.8, random.random(400) < 0.7
    expected = scipy.stats.ttest_rel(a * 1.0, b * 1.0)
    interval = expected.confidence_interval(0.95)
    difference = paired_difference([make_run(a)], [make_run(b)])
    assert (difference.low, difference.high) == pytest.approx((100 * interval.low, 100 * interval.high))
    assert difference.p_value == pytest.approx(expected.pvalue)


def test_where_examples_do_not_matter_it_is_a_t_test_over_seeds():
    """Each seed is right on as many other examples: no example is easier with every seed."""
    counts, rows = [3, 5, 10], []
    for seed, count in enumerate(counts):
        row = np.zeros(900)
        row[300 * seed : 300 * seed + count] = 1
        rows.append(make_run(row, seed))
    difference = paired_difference(rows, [make_run(np.zeros(900), seed) for seed in range(3)])
    expected = scipy.stats.ttest_1samp(100 * np.array(counts) / 900, 0)
    assert difference.p_value == pytest.approx(expected.pvalue, rel=0.02)  # but for rounding to 1/900
    assert difference.low == pytest.approx(expected.confidence_interval(0.95).low, rel=0.02)


def test_two_methods_that_answer_alike_are_not_proved_equal():
    base = [make_run(np.arange(360) % 4 > 0, seed) for seed in (0, 1)]
    same = paired_difference(base, base)
    # with a share 1.019 % of differing images, none of 360 differs with probability .975 ** 0 - .975 = .025
    assert (same.points, same.p_value) == (0.0, 1.0)
    assert same.high == pytest.approx(1.0194, abs=1e-3)
    assert (1 - same.high / 100) ** 360 == pytest.approx(0.025)
    assert same.low == -same.high


@pytest.mark.parametrize("num_seeds", [1, 2, 3, 5])
def test_p_value_is_below_5_percent_just_where_the_interval_excludes_zero(num_seeds):
    random = np.random.default_rng(6)
    found = []
    for _ in range(60):
        gain, spread = random.choice([0.02, 0.05, 0.1]), random.normal(scale=0.02, size=(num_seeds, 1))
        draws = random.random((num_seeds, 200))
        right, base = draws < 0.7 + gain + spread, random.permuted(draws, axis=1) < 0.7
        difference = paired_difference(
            [make_run(row, seed) for seed, row in enumerate(right)],
            [make_run(row, seed) for seed, row in enumerate(base)],
        )
        found.append(difference.low > 0 or difference.high < 0)
        assert (difference.p_value < 0.05) == found[-1]
    assert 0 < sum(found) < 60


def test_p_value_is_the_level_at_which_the_interval_reaches_zero():
    deltas = np.zeros((3, 300), dtype=np.int8)
    deltas[0, :30], deltas[1, :20], deltas[2, 10:37] = 1, 1, 1
    mean, parts = crossed_parts(deltas)
    difference = paired_difference(
        [make_run(row, seed) for seed, row in enumerate(deltas)],
        [make_run(np.zeros(300), seed) for seed in range(3)],
    )
    widths = [variance * scipy.stats.t.isf(difference.p_value / 2, df) ** 2 for variance, df in parts]
    assert len(widths) == 2
    assert math.sqrt(sum(widths)) == pytest.approx(mean)


def test_far_p_values_do_not_break():
    all_right = [make_run(np.ones(5000), seed) for seed in (0, 1)]
    all_wrong = [make_run(np.zeros(5000), seed) for seed in (0, 1)]
    difference = paired_difference(all_right, all_wrong)
    assert (difference.points, difference.p_value) == (100.0, 0.0)
    assert 99.9 < difference.low < difference.high == 100.0


def test_detectable_is_found_with_probability_80_percent():
    scores = np.array([0.81, 0.84, 0.80, 0.83, 0.85])
    a = [make_run([1, 0], seed, "auroc", score) for seed, score in enumerate(scores)]
    b = [make_run([1, 0], seed, "auroc", 0.80) for seed in range(5)]
    shift = paired_difference(a, b).detectable / (100 * scores.std(ddof=1) / math.sqrt(5))
    assert scipy.stats.nct.sf(2.77645, 4, shift) == pytest.approx(0.8, abs=1e-4)
    assert shift == pytest.approx(3.761, abs=1e-3)
    many = paired_difference([make_run(np.arange(9000) % 10 > 0)], [make_run(np.arange(9000) % 10 > 1)])
    assert many.detectable == pytest.approx(100 * 2.802 * math.sqrt(0.1 * 0.9 / 9000), rel=1e-3)


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
    expected = scipy.stats.ttest_rel([0.81, 0.82, 0.83], [0.80] * 3)
    assert difference.p_value == pytest.approx(expected.pvalue)
    one = paired_difference(a[:1], b[:1])
    assert math.isnan(one.low)
    assert math.isnan(one.p_value)
    assert math.isnan(one.detectable)


def test_what_cannot_be_paired_is_said():
    none = paired_difference([make_run([1, 0], seed=1)], [make_run([1, 0], seed=0)])
    assert (none.num_seeds, none.note) == (0, "no seed in common")
    changed = paired_difference([make_run([1, 0], images="t2")], [make_run([1, 0])])
    assert math.isnan(changed.points)
    assert changed.note == "the test images are not the same"
    first, second = (make_run([1, 0]) for _ in range(2))
    first.record["fingerprints"]["splits"], second.record["fingerprints"]["splits"] = (
        {"test": "a"},
        {"test": "b"},
    )
    assert paired_difference([first], [second]).note == "the test images are not the same"
    assert paired_difference([first], [make_run([1, 0])]).points == 0  # a record that does not tell
    partly = paired_difference([make_run([1, 0], 0), make_run([1, 0], 1)], [make_run([1, 0], 0)])
    assert partly.num_seeds == 1
    assert "1 run has no partner" in partly.note
