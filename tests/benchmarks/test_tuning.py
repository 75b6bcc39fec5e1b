"""`tune=auto`: equal trials and steps for every method, and the best values by the holdout."""

import json
import random
from dataclasses import fields, replace
from math import log10
from statistics import mean

import pytest
import timm
import torch
from transferbench import RunFailed
from transferbench.benchmarks.cli import main
from transferbench.benchmarks.config.schema import Norms, Role, Tune
from transferbench.benchmarks.launch.plan import later_trials, run_order
from transferbench.benchmarks.launch.start import without_effect
from transferbench.benchmarks.training import tuning
from transferbench.benchmarks.training.run import requirements, run_one
from transferbench.benchmarks.training.tuning import FROZEN, candidates, strengths, trials, tuned
from transferbench.methods import catalog
from trees import tree

NAMES = [name for name in catalog.names() if name != "pretrain"]


def record(score: float, loss: float = 1.0) -> dict:
    holdout = {"top1": score, "loss": loss, "num_images": 100}
    return {"holdout": holdout, "seconds": {"prepare": 1.0, "step": 2.0}}


@pytest.mark.parametrize("name", NAMES)
def test_every_method_has_equal_trials_and_equal_steps(config_of, name):
    config = config_of(name, "tune=auto", "recipe.steps=900")
    asked = []
    chosen, choice = tuned(config, lambda trial: asked.append(trial) or record(0.5))
    if catalog.load(name).closed_form:
        assert (asked, choice, chosen) == ([], None, config)
        return
    assert [trial.recipe.steps for trial in asked] == [300] * 9 + [900] * 3
    assert (choice["num_trials"], choice["num_steps"], choice["seconds"]) == (12, 6 * 900, 36.0)
    assert len({trial.digest for trial in asked}) == 12
    for trial in asked:
        assert (trial.role, trial.tune, trial.seed) == (Role.trial, Tune.off, tuning.TUNING_SEED)
    assert chosen.recipe.steps == 900


@pytest.mark.parametrize("name", NAMES)
def test_few_labels_are_cross_validated_at_equal_cost(config_of, name):
    given = ("tune=auto", "recipe.steps=900", "labels=all", "shots=5")
    config = config_of(name, *given)
    asked = []
    _, choice = tuned(config, lambda trial: asked.append(trial) or record(0.5))
    if catalog.load(name).closed_form:
        return
    assert [trial.recipe.steps for trial in asked] == [300] * 18
    assert [trial.fold for trial in asked] == ["1/3"] * 9 + ["1/3", "2/3", "3/3"] * 3
    assert len({trial.digest for trial in asked}) == choice["num_trials"] == 15
    assert (choice["num_folds"], choice["num_steps"]) == (3, 5 * 900)
    assert {t.fold for t in tuned_trials(config_of(name, *given, "tune_budget=10"))} == {
        f"{i}/5" for i in range(1, 6)
    }
    few = tuned_trials(config_of(name, *given, "tune_budget=1"))
    assert sum(trial.recipe.steps for trial in few) <= 900


def tuned_trials(config) -> list:
    asked = {}
    tuned(config, lambda trial: asked.update({trial.digest: trial}) or record(0.5))
    return list(asked.values())


def test_folds_are_disjoint_and_stratified(config_of, built_of):
    config = config_of("finetune", "tune=auto", "labels=all", "shots=6")
    trial = trials(config)[0]
    built = [built_of(replace(trial, fold=f"{i}/3")) for i in (1, 2, 3)]
    held = [set(b.curve.index.tolist()) for b in built]
    assert sum(map(len, held)) == len(set().union(*held)) == 6 * 10
    for each in built:
        assert each.test is None
        assert each.problem.holdout is None
        assert not set(each.problem.target.index.tolist()) & set(each.curve.index.tolist())
        assert each.curve.labels.bincount().tolist() == [2] * 10
    rewarded = built_of(replace(trial, method="l2tl", settings=config_of("l2tl").settings))
    parts = (rewarded.problem.target, rewarded.problem.holdout, rewarded.curve)
    assert [len(part) for part in parts] == [32, 8, 20]
    assert len(set().union(*(part.index.tolist() for part in parts))) == 60


def test_a_trial_with_a_nan_is_the_worst(config_of, tmp_path):
    trial = trials(config_of("finetune", "tune=auto", "recipe.steps=9", "source_recipe.steps=4"))[-1]
    done = run_one(replace(trial, recipe=replace(trial.recipe, lr=1e30)), tmp_path)
    assert done["holdout"] is None
    assert "not finite" in done["failed"] or "nan" in done["failed"] or "inf" in done["failed"]
    config = config_of("finetune", "tune=auto", "recipe.steps=90")
    worst = candidates(config)[4].recipe.lr
    chosen, choice = tuned(config, lambda t: done if t.recipe.lr != worst else record(-9.0))
    assert chosen.recipe.lr == worst
    assert choice["num_failed"] == 8 + 2
    with pytest.raises(RunFailed, match="tune=auto: no trial of finetune ended with finite numbers"):
        tuned(config, lambda t: done)


def test_the_default_is_auto_for_weights_and_own_images(config_of, tmp_path):
    assert config_of("finetune").tune is Tune.off
    assert config_of("finetune", "pretrained=true", "backbone=test_resnet", "tune=null").tune is Tune.auto
    place = tree(tmp_path / "pets", train=2, val=2, test=2)
    own = config_of("scratch", f"target={place}", "source=none")
    assert own.tune is Tune.auto
    assert config_of("scratch", f"target={place}", "source=none", "tune=off").tune is Tune.off


def test_best_values_at_an_end_are_told(config_of):
    config = config_of("l2sp", "tune=auto", "recipe.steps=90")
    _, choice = tuned(config, lambda trial: record(trial.recipe.lr))
    assert choice["at_end"] == ["lr high"]
    chosen, choice = tuned(config, lambda trial: record(-trial.recipe.lr))
    assert (chosen.recipe.lr, choice["at_end"]) == (pytest.approx(1e-4), ["alpha low"])
    _, choice = tuned(config, lambda trial: record(-trial.settings.alpha))
    assert "alpha low" in choice["at_end"]
    chosen, choice = tuned(config, lambda trial: record(0.5))
    assert chosen.settings.alpha == pytest.approx(1e-3)  # the first of equals
    assert choice["at_end"] == []  # values within the range are as good


def test_a_strength_is_found_and_one_without_effect_does_no_harm(config_of):
    """Simulated trials: accuracy falls with the distance from the best rate and strength."""
    config = config_of("l2sp", "tune=auto", "recipe.steps=90")

    def accuracy(trial, weight: float) -> float:
        rate = log10(trial.recipe.lr) + 2.5
        return 0.8 - 0.1 * rate**2 - weight * abs(log10(trial.settings.alpha) + 1)

    found: dict[float, list] = {}
    for weight in (0.0, 0.2):
        for seed in range(50):
            draw = random.Random(seed)

            def judged(trial, weight=weight, draw=draw) -> dict:
                p = max(0.0, accuracy(trial, weight))
                return record(sum(draw.random() < p for _ in range(100)) / 100)

            found.setdefault(weight, []).append(tuned(config, judged)[0])
    best = {w: max(accuracy(c, w) for c in candidates(config)) for w in found}
    lost = {w: mean(best[w] - accuracy(c, w) for c in chosen) for w, chosen in found.items()}
    assert lost[0.0] < 0.03
    assert lost[0.2] < 0.03
    strengths_found = [abs(log10(c.settings.alpha) + 1) for c in found[0.2]]
    assert mean(strengths_found) < 0.5  # of a range of three decades


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


def test_a_strength_that_is_given_is_kept(config_of):
    """The row has it in its name: "L2-SP (alpha=0.5)"."""
    config = config_of("l2sp", "tune=auto", "recipe.steps=90", "method.alpha=0.5")
    assert {trial.settings.alpha for trial in trials(config)} == {0.5}
    chosen, choice = tuned(config, lambda trial: record(-trial.recipe.lr))
    assert (chosen.settings.alpha, choice["strengths"], choice["at_end"]) == (0.5, {}, [])


def test_a_strength_with_the_value_that_it_has_anyway_is_said_to_be_searched(config_of):
    def said(tune, value):
        given = [f"method.alpha={value}"]
        return tuning.not_used(given, [config_of("l2sp", f"tune={tune}", *given)])

    line = "method.alpha=0.1: not used, because tune=auto searches it; tune=off uses it"
    assert [said("auto", 0.1), said("auto", 0.2), said("off", 0.1)] == [[line], [], []]


@pytest.mark.parametrize("bn", ["shared", "frozen"])
def test_norms_that_are_given_are_kept(config_of, tmp_path, bn):
    """A source model with shared statistics fits no network with frozen ones."""
    config = config_of(
        "finetune", "tune=auto", f"bn={bn}", "recipe.steps=1", "source_recipe.steps=1", "shots=2"
    )
    assert {trial.bn for trial in trials(config)} == {config.bn}
    assert len({requirements(run)[0].digest for run in [config, *trials(config)]}) == 1
    assert run_one(config, tmp_path)["choice"]["bn"] == bn


@pytest.mark.parametrize(
    ("backbone", "frozen"),
    [
        ("vit_tiny_patch16_224", ()),
        ("convnext_atto", ()),
        ("digits_cnn", ()),
        ("resnet10t", FROZEN),
        ("tiny", FROZEN),
    ],
)
def test_frozen_norms_are_tried_on_networks_that_have_some(config_of, backbone, frozen):
    given = (f"backbone={backbone}", "recipe.steps=90", "recipe.image_size=32")
    found = trials(config_of("finetune", "tune=auto", *given))
    assert [i for i, trial in enumerate(found) if trial.bn is Norms.frozen] == list(frozen)
    assert len(found) == len({trial.digest for trial in found}) == 9
    assert ("bn=split" in config_of("finetune", "tune=off", *given).describe()) == bool(frozen)
    assert bool(without_effect([config_of("finetune", "bn=shared", *given)])) != bool(frozen)


@pytest.mark.parametrize(("backbone", "is_said"), [("resnet10t", True), ("vit_tiny_patch16_224", False)])
def test_norms_that_see_a_part_of_the_batch_are_said(config_of, backbone, is_said):
    config = config_of("finetune", f"backbone={backbone}", "recipe.micro_batch=8")
    assert [line.startswith("recipe.micro_batch=8: batch norms of") for line in without_effect([config])] == (
        [True] * is_said
    )


@pytest.mark.parametrize("command", ["run", "bench"])
def test_settings_without_effect_are_said(command, results, capsys):
    given = ["backbone=convnext_atto", "recipe.image_size=32", "recipe.batch_size=2", "bn=frozen"]
    rows = ["method=knn"] if command == "run" else ["methods=knn", "seeds=1"]
    assert main([command, *rows, *given, "recipe.ema=0.9", f"results={results}", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "bn=frozen: no effect on convnext_atto, which has no batch norms\n" in said
    assert "recipe.ema=0.9: no effect on k nearest neighbors, which is not trained by steps\n" in said


def test_the_last_round_decides(config_of):
    config = config_of("finetune", "tune=auto", "recipe.steps=90")

    def score(trial) -> dict:
        first = trial.recipe.steps == 30
        return record(trial.recipe.lr if first else -trial.recipe.lr)

    chosen, _ = tuned(config, score)
    best = sorted(c.recipe.lr for c in candidates(config))[-3:]
    assert chosen.recipe.lr == best[0]


def test_the_loss_decides_among_equals(config_of):
    config = config_of("finetune", "tune=auto", "recipe.steps=90")
    least = candidates(config)[6].recipe.lr
    chosen, _ = tuned(config, lambda trial: record(0.5, 1 + abs(log10(trial.recipe.lr / least))))
    assert chosen.recipe.lr == least


def test_the_loss_decides_within_one_standard_error(config_of):
    """100 images at 80 % have a standard error of 4 points."""
    config = config_of("finetune", "tune=auto", "recipe.steps=90")
    own = [candidate.recipe.lr for candidate in candidates(config)]
    score = dict.fromkeys(own, 0.5) | {own[2]: 0.8, own[5]: 0.77, own[7]: 0.75}
    loss = dict.fromkeys(own, 1.0) | {own[5]: 0.7, own[7]: 0.5}
    chosen, choice = tuned(config, lambda t: record(score[t.recipe.lr], loss[t.recipe.lr]))
    assert (chosen.recipe.lr, choice["holdout"]) == (own[5], 0.77)
    grid = config_of("finetune", "tune=paper_grid", "recipe.steps=90")
    chosen, _ = tuned(grid, lambda t: record(0.77, 0.1) if t.recipe.weight_decay else record(0.8, 0.2))
    assert chosen.recipe.weight_decay == 0.0


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "adam_tf", "adam_keras"])
def test_adam_has_smaller_rates(config_of, optimizer):
    own = candidates(config_of("finetune", "tune=auto", f"recipe.optimizer={optimizer}"))
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
    last = [r for r in tried if r["config"]["recipe"]["steps"] == 45]
    best = max(last, key=lambda r: r["holdout"]["top1"])
    assert choice["holdout"] == best["holdout"]["top1"]
    assert all(r["test"] is None for r in tried)
    again = run_one(replace(config, seed=1), tmp_path)
    assert again["choice"] == choice
    assert len(list(tmp_path.glob("*/finetune/*/record.json"))) == 14


@pytest.mark.parametrize("labels", [(), ("labels=all", "shots=5")])
def test_a_plan_counts_the_trials_that_are_left(config_of, tmp_path, labels):
    config = config_of("scratch", "tune=auto", "recipe.steps=9", *labels)

    def num_left(seed: int) -> int:
        waiting = run_order([replace(config, seed=seed)], tmp_path)
        return len([*waiting, *later_trials(waiting, tmp_path)])

    asked = 0

    def stopped(trial) -> dict:
        nonlocal asked
        if (asked := asked + 1) > 10:  # in the second round
            raise KeyboardInterrupt
        return run_one(trial, tmp_path)

    planned = num_left(0)
    with pytest.raises(KeyboardInterrupt):
        tuned(config, stopped)
    assert num_left(0) == planned - len(list(tmp_path.glob("*/*/*/record.json")))
    run_one(config, tmp_path)
    assert planned == len(list(tmp_path.glob("*/*/*/record.json")))
    assert num_left(1) == 1


def test_a_specialist_is_trained_with_the_chosen_rate_and_those_of_trials_are_counted(config_of, tmp_path):
    net = timm.create_model("test_resnet", num_classes=36)
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    weights = ("backbone=test_resnet", f"checkpoint={tmp_path / 'weights.pt'}")
    config = config_of("datl", "tune=auto", "recipe.steps=1", "source_recipe.steps=4", *weights)
    done = run_one(config, tmp_path / "results")
    found = {}
    for path in tmp_path.glob("results/*/*/*/record.json"):
        found.setdefault(json.loads(path.read_text())["role"], []).append(json.loads(path.read_text()))
    made = {r["digest"]: r for r in found["pretraining"]}
    (own,) = [made[r["digest"]] for r in done["pretraining"] if not r["shared"]]
    assert own["config"]["recipe"]["lr"] == done["choice"]["lr"]
    spent = sum(r["seconds"]["prepare"] + r["seconds"]["step"] for r in found["trial"])
    others = made.keys() - {r["digest"] for r in done["pretraining"]}
    assert len(others) >= 8
    spent += sum(made[k]["seconds"]["prepare"] + made[k]["seconds"]["step"] for k in others)
    assert done["choice"]["seconds"] == pytest.approx(spent)
