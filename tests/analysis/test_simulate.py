"""The intervals hold on simulated runs; the long form is analysis/statistics/simulate.py."""

import numpy as np
import pytest
from transferbench.analysis.statistics.simulate import (
    Design,
    across_coverage,
    by_bootstrap,
    coverage,
    exponential,
    false_claims,
    lognormal,
    report,
    simulate_runs,
    skewed_coverage,
)

APART = Design(num_seeds=2, num_images=1000, spread=4.0, agreement=0.1)  # two seeds that differ much
HONEST = [APART, Design(3, 1000, 2.0, 0.1), Design(5, 100, 0.5, 0.1, effect=0.0)]


@pytest.mark.parametrize("design", HONEST)
def test_intervals_cover_the_known_effect(design):
    held, _, _ = coverage(design, trials=500)
    assert 0.93 <= held <= 0.98


def test_the_percentile_bootstrap_would_not_pass():
    held, _, _ = coverage(APART, trials=100, compare=by_bootstrap)
    assert held < 0.88


def test_without_an_effect_corrected_claims_are_rare():
    corrected, plain = false_claims(Design(3, 1000, 4.0), trials=100, num_methods=3, num_targets=4)
    assert corrected <= 0.09  # 5 % and 1.645 standard errors of 100 trials, rounded up
    assert plain > 0.15


def test_an_effect_of_the_detectable_size_is_found_as_often_as_said():
    _, _, detectable = coverage(Design(5, 1000, 0.5), trials=150)
    _, found, _ = coverage(Design(5, 1000, 0.5, effect=detectable), trials=400, seed=1)
    assert 0.74 < found < 0.87


def test_what_is_said_across_targets_covers():
    middle, score, bootstrap = across_coverage(num_targets=5, num_seeds=3, effect=2.0, gap=2.0, trials=150)
    assert 0.9 <= middle <= 0.995
    assert 0.92 <= score <= 0.995
    assert bootstrap < 0.9


def test_the_interquartile_mean_of_scores_with_a_long_tail_covers_less():
    of_exponential, of_lognormal = (
        skewed_coverage(5, 3, 5.0, tail, 300) for tail in (exponential, lognormal)
    )
    assert 0.9 <= of_exponential <= 0.97
    assert 0.84 <= of_lognormal <= 0.93  # as docs/explanation/statistics.md says


@pytest.mark.parametrize(("tail", "skewness"), [(exponential, 2.0), (lognormal, 6.18)])
def test_tails_are_what_they_are_said_to_be(tail, skewness):
    many = tail(np.random.default_rng(0), (4_000_000,))
    assert many.std() == pytest.approx(1, rel=0.02)
    assert ((many - many.mean()) ** 3).mean() == pytest.approx(skewness, rel=0.15)


def test_simulated_runs_are_what_they_are_said_to_be():
    design = Design(num_seeds=4, num_images=40_000, spread=0.0, agreement=0.6)
    better, same, base = simulate_runs(np.random.default_rng(0), design, [5.0, 0.0, 0.0])
    right = {name: np.array([run.correct for run in runs]) * 1.0 for name, runs in
             (("better", better), ("same", same), ("base", base))}  # fmt: skip
    assert 100 * (right["better"] - right["base"]).mean() == pytest.approx(5.0, abs=0.5)
    deltas = right["same"] - right["base"]
    assert (deltas != 0).mean() == pytest.approx(0.12, abs=0.005)
    assert np.corrcoef(deltas)[np.triu_indices(4, 1)] == pytest.approx([0.6] * 6, abs=0.03)
    many = simulate_runs(np.random.default_rng(1), Design(400, 8000, 3.0, 0.0), [0.0, 0.0])
    gaps = np.array([a.correct.mean() - b.correct.mean() for a, b in zip(*many, strict=True)])
    assert 1e4 * gaps.var() == pytest.approx(3.0**2 + 1e4 * 0.12 / 8000, rel=0.2)


def test_the_report_has_every_part(monkeypatch):
    for name, few in (("SEEDS", (2,)), ("IMAGES", (50,)), ("SPREADS", (0.5,))):
        monkeypatch.setattr(f"transferbench.analysis.statistics.simulate.{name}", few)
    lines = list(report(trials=2))
    assert "2 trials" in lines[0]
    assert sum(line.startswith("\n") for line in lines) == 7
    assert all("nan" not in line for line in lines)
