"""Images with several labels: the loss, AUROC, every method, and what a record keeps."""

import base64
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from quadrants import NAME, SCORED, quadrants_known
from sklearn.metrics import log_loss, roc_auc_score
from torch.nn import functional as F
from transferbench import InputError
from transferbench.analysis.figures.style import styles
from transferbench.analysis.records.comparison import comparisons
from transferbench.analysis.records.load import parse_run, runs_frame
from transferbench.analysis.records.migrations import upgraded
from transferbench.analysis.tables import comparison_table
from transferbench.analysis.views import comparison_drawings
from transferbench.benchmarks.config.schema import Role
from transferbench.benchmarks.launch.plan import why_incompatible
from transferbench.benchmarks.training.evaluate import evaluate
from transferbench.benchmarks.training.problem import build_problem
from transferbench.benchmarks.training.run import run_one
from transferbench.datasets.augment import Augment
from transferbench.datasets.base import Split
from transferbench.datasets.pixels import MemoryPixels
from transferbench.methods import catalog
from transferbench.methods.metrics import areas, auroc, classification_loss, of_scored

METHODS = [name for name in catalog.names() if name != "pretrain"]


def sample(num_labels: int = 5, size: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = (torch.rand(size, num_labels, generator=generator) < 0.3).float()
    logits = torch.randn(size, num_labels, generator=generator) + y
    return (4 * logits).round() / 4, y  # with ties


@pytest.fixture
def dataset(monkeypatch):
    return quadrants_known(monkeypatch)


@pytest.fixture
def config_here(config_of, dataset):
    """Make a configuration with the made target."""
    given = (f"target={NAME}", "source=glyphs", "preset=embedded", "shots=null", "score=auroc")
    return lambda method, *overrides: config_of(method, *given, "recipe.steps=3", *overrides)


def split_of(size: int = 7) -> Split:
    labels = (torch.arange(size)[:, None] % torch.tensor([2, 3]) == 0).float()
    pixels = MemoryPixels(torch.zeros(size, 3, 8, 8, dtype=torch.uint8), torch.ones(size))
    return Split("toy/train", ("a", "b"), pixels, labels, torch.arange(size), Augment(4))


def test_auroc_is_the_mean_over_labels():
    logits, y = sample()
    each = [roc_auc_score(y[:, i], logits[:, i]) for i in range(5)]
    assert len(set(each)) == 5
    assert areas(logits, y).tolist() == pytest.approx(each)
    assert auroc(logits, y).item() == pytest.approx(roc_auc_score(y, logits, average="macro"))


def test_labels_without_positives_or_negatives_are_left_out():
    logits, y = sample()
    y[:, 1], y[:, 4] = 0, 1
    assert areas(logits, y).isnan().tolist() == [False, True, False, False, True]
    expected = [roc_auc_score(y[:, i], logits[:, i]) for i in (0, 2, 3)]
    assert auroc(logits, y).item() == pytest.approx(np.mean(expected))
    assert auroc(logits[:, [1, 4]], y[:, [1, 4]]).item() == 0.5


def test_logits_of_a_label_are_not_measured_against_other_labels():
    """Unlike classes, labels share no probability."""
    logits, y = sample()
    shifted = logits + 10 * torch.randn(len(y), 1, generator=torch.Generator().manual_seed(1))
    assert auroc(shifted, y) < auroc(logits, y) - 0.05


def test_only_scored_labels_enter_a_score():
    logits, y = sample()
    expected = np.mean([roc_auc_score(y[:, i], logits[:, i]) for i in (3, 0)])
    assert auroc(*of_scored(logits, y, [3, 0])).item() == pytest.approx(expected)
    classes = torch.zeros(60, dtype=torch.long)
    assert of_scored(logits, classes, [3, 0])[0] is logits


def test_the_loss_of_labels_is_their_mean_binary_cross_entropy():
    logits, y = sample()
    each = [log_loss(y[:, i], logits[:, i].double().sigmoid()) for i in range(5)]
    assert classification_loss(logits, y).item() == pytest.approx(np.mean(each))
    by_image = classification_loss(logits, y, reduction="none")
    assert by_image.shape == (60,)
    assert by_image.mean().item() == pytest.approx(np.mean(each))
    first = F.softplus(torch.where(y[0] == 1, -logits[0], logits[0])).mean()
    assert by_image[0].item() == pytest.approx(first.item())


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_loss_of_classes_is_cross_entropy(reduction):
    logits, _ = sample()
    y = torch.arange(60) % 5
    expected = F.cross_entropy(logits, y, reduction=reduction)
    assert torch.equal(classification_loss(logits, y, reduction), expected)


def test_shots_of_labels_are_refused():
    with pytest.raises(InputError, match="shots=3: the images of toy/train have several labels and no class"):
        split_of().shots(3, seed=0)


def test_halves_of_labels_are_disjoint_and_complete():
    split = split_of()
    one, other = split.halves(0)
    assert sorted(one.index.tolist() + other.index.tolist()) == list(range(7))
    assert len(one) == 4
    assert torch.equal(one.labels, split.labels[one.index])
    assert len({tuple(split.halves(seed)[0].index.tolist()) for seed in range(5)}) > 1
    assert split.halves(0)[0].index.tolist() == one.index.tolist()


def test_streams_and_joined_splits_carry_rows_of_labels():
    joined = split_of().joined(split_of(4))
    assert joined.labels.shape == (11, 2)
    _, y = next(joined.stream(5, seed=0))
    assert y.shape == (5, 2)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_on_labels_or_says_why_not(config_here, built_of, results, name):
    config = config_here(name)
    if reason := catalog.load(name).why_incompatible(built_of(config).problem):
        assert "several labels" in reason
        return
    done = run_one(config, results)
    scored = ["auroc:lower right", "auroc:upper left"]
    assert set(done["test"]) == set(done["holdout"]) == {"auroc", *scored, "loss", "num_images"}
    assert done["test"]["auroc"] == pytest.approx(np.mean([done["test"][name] for name in scored]))
    assert done["metric"] == "auroc"
    assert done["correct"] is None


def test_rows_that_need_classes_of_the_source_are_left_out(config_of, dataset, results):
    given = ("target=digits", f"source={NAME}", "preset=embedded", "shots=5")
    configs = [config_of(name, *given) for name in ("finetune", "grad_cosine", "l2tl", "datl")]
    reasons = {config.method: reason for config, reason in why_incompatible(configs, results).values()}
    assert set(reasons) == {"l2tl", "datl"}
    assert reasons["l2tl"].startswith("source: the images of quadrants/train have several labels; ")


def test_it_learns_labels(config_here, results):
    overrides = ("recipe.steps=60", "recipe.lr=0.1", "recipe.crop_scale=1.0", "recipe.evaluations=1")
    done = run_one(config_here("scratch", *overrides), results)
    assert done["test"]["auroc"] > 0.9
    assert done["test"]["loss"] < math.log(2)


def test_the_record_keeps_what_auroc_is_made_of(config_here, results, dataset):
    done = run_one(config_here("scratch", "backbone=small"), results)
    assert done["num_scores"] == 2
    assert done["predictions"] is None
    scores = np.frombuffer(base64.b64decode(done["scores"]), "<f2").reshape(-1, 2)
    bits = np.frombuffer(base64.b64decode(done["test_labels"]), np.uint8)
    labels = np.unpackbits(bits, count=scores.size).reshape(scores.shape)
    assert np.array_equal(labels, dataset.parts["test"].labels[:, SCORED])
    each = [roc_auc_score(labels[:, i], scores[:, i]) for i in (0, 1)]
    assert each[0] == pytest.approx(done["test"]["auroc:lower right"], abs=5e-3)
    assert each[1] == pytest.approx(done["test"]["auroc:upper left"], abs=5e-3)


def test_a_label_without_a_curve_has_no_score_of_its_own(config_here, built_of):
    built = built_of(config_here("scratch"))
    method = catalog.load("scratch")(built.problem, None)
    none = built.test.subset(torch.nonzero(built.test.labels[:, 3] == 0)[:, 0])
    scores, said = evaluate(method, none, batch_size=16)
    assert "auroc:lower right" not in scores
    assert scores["auroc"] == pytest.approx(scores["auroc:upper left"])
    assert said.shape == (len(none), 2)


def test_accuracy_of_labels_is_refused(config_here):
    with pytest.raises(InputError, match="score=top1: .* several labels; expected score=auroc"):
        config_here("finetune", "score=top1")


def test_rewards_by_accuracy_of_labels_are_refused(config_here, built_of):
    config = config_here("l2tl", "method.reward=top1")
    with pytest.raises(InputError, match="method.reward=top1: .* expected method.reward=auroc"):
        catalog.load("l2tl")(built_of(config).problem, config.settings)


def test_a_reward_judges_the_scored_labels_alone(config_here, built_of, monkeypatch):
    config = config_here("l2tl")
    method = catalog.load("l2tl")(built_of(config).problem, config.settings)
    x, y = next(method.holdout)
    sure = torch.where(torch.tensor([False, True, True, False]), -y, y)  # wrong where it does not count
    said = list(sure.split(method.recipe.batch_size))  # the reward is computed piece by piece
    monkeypatch.setattr(method.net, "target", lambda x: said.pop(0))
    assert auroc(sure, y).item() == 0.5
    assert method.reward(x, y).item() == 1.0


@pytest.mark.parametrize("name", ["l2tl", "datl"])
def test_a_source_of_labels_has_no_classes_to_weigh(config_here, built_of, name):
    config = config_here(name, f"source={NAME}", "target=digits", "score=top1")
    with pytest.raises(InputError, match="source: the images of quadrants/train have several labels"):
        catalog.load(name)(built_of(config).problem, config.settings)


def test_a_source_of_labels_can_be_pre_trained_on(config_here, results):
    config = config_here("finetune", f"source={NAME}", "target=digits", "score=top1")
    done = run_one(config, results)
    assert "top1" in done["test"]
    (base,) = results.glob("quadrants*/pretrain/*/metrics.jsonl")
    assert '"auroc:lower right"' in base.read_text()


def test_the_holdout_of_a_trial_is_cut_in_halves(config_here):
    config = replace(config_here("finetune"), role=Role.trial)
    built = build_problem(config)
    assert (len(built.problem.holdout), len(built.curve)) == (32, 32)
    assert not set(built.problem.holdout.index.tolist()) & set(built.curve.index.tolist())


def made_record(label: str, seed: int, score: float):
    test = {"auroc": score, "auroc:Edema": score + 0.01, "auroc:Effusion": score - 0.01, "num_images": 200}
    holdout = {**test, "num_images": 100}
    record = {
        "format": 1,
        "label": label, "method": "finetune" if label == "Fine-tuning" else "l2tl", "source": "imagenet",
        "target": "chexpert", "seed": seed, "digest": f"{label}{seed}", "bench": "b1", "setting": "",
        "config": {"seed": seed}, "metric": "auroc", "test": {**test, "loss": 0.3},
        "correct": None, "scores": "AAAA", "num_scores": 2, "labels": "AA==",
        "curve": [{"step": s, "seconds": 1.0, "holdout": holdout, "train": {}} for s in (10, 20)],
        "fingerprints": {"target": "t1"}, "images": {"target": 100, "source": 0, "holdout": 0},
        "seconds": {"prepare": 1.0, "step": 12.0, "per_step_median": 0.04, "parts": {}}, "num_steps": 20,
        "pretraining": [], "ended": "2026-11-22T15:01:00Z",
        "environment": {"commit": "c0ffee", "dirty": False, "device": "cpu", "host": "desk"},
    }  # fmt: skip
    return parse_run(Path("record.json"), upgraded(record))


def test_records_without_correctness_are_compared_by_seed_alone():
    runs = [made_record("Fine-tuning", seed, 0.893) for seed in range(3)]
    runs += [made_record("L2TL", seed, 0.90 + 0.001 * seed) for seed in range(3)]
    (comparison,) = comparisons(runs)
    table = comparison_table.comparison_table(comparison)
    best = table.iloc[0]
    assert (best["label"], best["difference_note"]) == ("L2TL", "paired by seed only")
    assert (best["score"], best["difference"]) == pytest.approx((90.1, 0.8))
    text = comparison_table.markdown(comparison)
    assert "AUROC, %" in text
    assert "90.1" in text
    drawn = dict(comparison_drawings(comparison, styles(runs_frame(runs)["label"])))
    assert set(drawn) == {"accuracy", "cost", "curves"}
    axes = [drawing.figure.axes[0] for drawing in drawn.values()]
    assert all("AUROC" in f"{item.get_xlabel()}{item.get_ylabel()}" for item in axes)
