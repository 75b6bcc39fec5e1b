"""The minimum detectable effect before a run: simulated effects of that size are found as often as said."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from simulated_results import write_results
from transferbench.analysis.records.load import load
from transferbench.analysis.statistics.paired import paired_difference
from transferbench.analysis.statistics.power import at_best, earlier, with_seeds
from transferbench.analysis.statistics.simulate import Design, coverage
from transferbench.benchmarks.launch import power
from transferbench.benchmarks.launch.power import power_text

ROWS = {"Fine-tuning": ("finetune", 0.0, 0.040, False), "LwF": ("lwf", 0.4, 0.055, False)}


@pytest.mark.parametrize(("num_seeds", "num_images"), [(3, 1000), (5, 400)])
def test_the_bound_without_records_is_reached_at_best(num_seeds, num_images):
    effect = at_best(num_images, num_seeds, disagreement=0.12)  # that of the simulation
    design = Design(num_seeds, num_images, spread=0.0, agreement=0.0, effect=effect)
    _, found, _ = coverage(design, trials=400)
    assert 0.65 < found < 0.87  # below .8: an estimate of the images' part is never negative
    worse = Design(num_seeds, num_images, spread=2.0, agreement=0.5, effect=effect)
    assert coverage(worse, trials=200)[1] < found - 0.1


def test_earlier_rows_tell_the_power_with_as_many_seeds(tmp_path):
    runs = load(write_results(tmp_path, ROWS, ["digits"], seeds=5, trouble=False))
    own, reference = ([r for r in runs if r.method == name] for name in ("lwf", "finetune"))
    (same,) = earlier(runs, 5)
    assert same == pytest.approx(paired_difference(own, reference).detectable)
    effects = [earlier(runs, n)[0] for n in (2, 3, 5, 10, 1000)]
    assert effects == sorted(effects, reverse=True)
    assert not earlier([r for r in runs if r.seed == 0], 5)
    assert not earlier(own, 5)


def test_more_seeds_from_the_figure_of_a_table(tmp_path):
    """The bound is below what the records tell, and is that where test images add nothing."""
    assert with_seeds(2.9, 3, 3) == pytest.approx(2.9)
    runs = load(write_results(tmp_path, ROWS, ["digits"], seeds=5, trouble=False))
    ((now,), (later,)) = earlier(runs, 5), earlier(runs, 20)
    assert 0.2 * later < with_seeds(now, 5, 20) < later
    design = Design(3, 20_000, spread=1.0, agreement=0.0)
    wanted = [coverage(replace(design, num_seeds=n), trials=300)[2] for n in (3, 10)]
    assert with_seeds(wanted[0], 3, 10) == pytest.approx(wanted[1], rel=0.1)


def test_runs_of_the_same_setting_tell_the_power(tmp_path, monkeypatch):
    runs = load(write_results(tmp_path, ROWS, ["digits"], seeds=3, trouble=False))
    for run in runs:
        run.record["config"]["shots"] = 5
    toys = [replace(run, comparison_id="toy") for run in runs]
    config = SimpleNamespace(
        data={"target": runs[0].record["fingerprints"]["target"]},
        score=runs[0].metric,
        shots=5,
        comparison_id="toy",
        target_name="digits",
    )
    monkeypatch.setattr(power, "read_all", lambda results: SimpleNamespace(runs=[*runs, *toys]))
    test = SimpleNamespace(labels=range(9))
    monkeypatch.setattr(power, "load_target", lambda config: SimpleNamespace(parts={"test": test}))
    told = []
    monkeypatch.setattr(power, "power_text", lambda runs, *rest: told.append(list(runs)) or "")
    for name, expected in (("toy", toys), (runs[0].comparison_id, runs), ("new", [*runs, *toys])):
        config.comparison_id = name
        power.power_line(config, tmp_path, 5)
        assert told.pop() == expected


def test_what_is_said(tmp_path):
    runs = load(write_results(tmp_path, ROWS, ["digits"], seeds=3, trouble=False))
    said = power_text(runs, "digits", 797, 3, True)
    assert said == (
        f"power: by 1 earlier row on digits, differences below {earlier(runs, 3)[0]:.1f} points cannot be "
        "seen with 3 seeds (power 80 %, level 5 %)"
    )
    assert power_text([], "digits", 1000, 5, True) == (
        "power: two rows that disagree on a tenth of the 1,000 test images: differences below "
        f"{100 * np.sqrt(0.1 / 5000) * 3.74:.1f} points cannot be seen with 5 seeds "
        "(power 80 %, level 5 %), at best: seeds add to it"
    )
    assert "differences below 100.0 points" in power_text([], "pets", 6, 2, True)
    assert power_text([], "chexpert", 1000, 5, False) == ""
    assert "one seed tests no difference" in power_text(runs, "digits", 797, 1, True)
