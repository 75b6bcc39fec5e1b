"""`tune=auto`: equal trials and steps for every method, and the best values by the holdout."""

import json
from dataclasses import fields, replace
from math import log10

import pytest
from transferbench.benchmarks.config.schema import Role, Tune
from transferbench.benchmarks.training import tuning
from transferbench.benchmarks.training.run import requirements, run_one
from transferbench.benchmarks.training.tuning import candidates, strengths, trials, tuned
from transferbench.methods import catalog

NAMES = [name for name in catalog.names() if name != "pretrain"]


def record(score: float) -> dict:
    return {"holdout": {"top1": score}, "seconds": {"prepare": 1.0, "step": 2.0}}


@pytest.mark.parametrize("name", NAMES)
def test_every_method_has_equal_trials_and_equal_steps(config_of, name):
    config = config_of(name, "tune=auto", "recipe.steps=900")
    asked = []
    chosen, choice = tuned(config, lambda trial: asked.append(trial) or record(0.5))
    if catalog.load(name).closed_form:
        assert (asked, choice, chosen) == ([], None, config)
        return
    assert [trial.recipe.steps for trial in asked] == [100] * 9 + [300] * 3
    assert (choice["num_trials"], choice["num_steps"], choice["seconds"]) == (12, 1800, 36.0)
    assert len({trial.digest for trial in asked}) == 12
    for trial in asked:
        assert (trial.role, trial.tune, trial.seed) == (Role.trial, Tune.off, tuning.TUNING_SEED)
    assert chosen.recipe.steps == 900


def test_each_value_of_each_setting_is_tried_once(config_of):
    own = candidates(config_of("l2sp", "tune=auto"))
    rates = [candidate.recipe.lr for candidate in own]
    alphas = [candidate.settings.alpha for candidate in own]
    assert len(set(rates)) == len(set(alphas)) == 9
    assert (min(rates), max(rates)) == pytest.approx((1e-4, 0.2))
    heads = [candidate.recipe.lr * candidate.recipe.head_lr_factor for candidate in own]
    assert all(head >= lr for head, lr in zip(heads, rates, strict=True))
    assert min(heads) > 0.02
    assert max(heads) == pytest.approx(0.3)
    assert (min(alphas), max(alphas)) == pytest.approx((1e-3, 1.0))
    ratios = [b / a for a, b in zip(sorted(alphas), sorted(alphas)[1:], strict=False)]
    assert ratios == pytest.approx([ratios[0]] * 8)


def test_a_planted_best_strength_is_found(config_of):
    """The score falls with the distance from one strength, whatever the rate."""
    config = config_of("l2sp", "tune=auto", "recipe.steps=90")
    chosen, choice = tuned(config, lambda trial: record(-abs(log10(trial.settings.alpha) + 1.9)))
    assert abs(log10(chosen.settings.alpha) + 1.9) < 0.2
    assert choice["strengths"] == {"alpha": chosen.settings.alpha}
    assert chosen.settings == replace(config.settings, alpha=chosen.settings.alpha)


def test_the_last_round_decides(config_of):
    config = config_of("finetune", "tune=auto", "recipe.steps=90")

    def score(trial) -> dict:
        first = trial.recipe.steps == 10
        return record(trial.recipe.lr if first else -trial.recipe.lr)

    chosen, _ = tuned(config, score)
    best = sorted(c.recipe.lr for c in candidates(config))[-3:]
    assert chosen.recipe.lr == best[0]


def test_adam_has_smaller_rates(config_of):
    own = candidates(config_of("finetune", "tune=auto", "recipe.optimizer=adam"))
    assert (own[0].recipe.lr, own[-1].recipe.lr) == pytest.approx((1e-6, 3e-3))


def test_declared_ranges_contain_the_default():
    for name in NAMES:
        default = catalog.load(name).Config()
        for field, (low, high) in strengths(default).items():
            assert 0 < low <= getattr(default, field) <= high
            assert field in {f.name for f in fields(default)}


def test_a_run_finds_its_trials_and_uses_their_values(config_of, tmp_path):
    config = config_of("finetune", "tune=auto", "recipe.steps=45", "source_recipe.steps=4", "shots=5")
    assert requirements(config)[1:] == trials(config)
    done = run_one(config, tmp_path)
    choice = done["choice"]
    records = [json.loads(p.read_text()) for p in tmp_path.glob("*/finetune/*/record.json")]
    tried = [r for r in records if r["role"] == "trial"]
    assert len(tried) == choice["num_trials"] == 12
    last = [r for r in tried if r["config"]["recipe"]["steps"] == 15]
    best = max(last, key=lambda r: r["holdout"]["top1"])
    assert choice["holdout"] == best["holdout"]["top1"]
    assert all(r["test"] is None for r in tried)
    again = run_one(replace(config, seed=1), tmp_path)
    assert again["choice"] == choice
    assert len(list(tmp_path.glob("*/finetune/*/record.json"))) == 14
