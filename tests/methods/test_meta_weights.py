"""Weights that follow the holdout's gradient: against finite differences, and on planted labels."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from near_pair import build_near, in_float64, with_mislabelled_digits
from planted_labels import planted
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F
from transferbench.methods.base import update
from transferbench.methods.meta_weights import MetaWeights
from transferbench.methods.recipe import Recipe
from transferbench.methods.reweight import Reweight


@pytest.fixture(scope="module")
def stage(config_of, built_of):
    """The embedded pair, and which classes of its source kept their labels."""
    problem = build_near(config_of, built_of, "recipe.steps=200", "recipe.lr=0.02")
    source, clean_S = planted(problem.source, seed=1)
    return replace(problem, source=source), clean_S


@pytest.fixture(scope="module")
def exact(stage):
    return in_float64(stage[0], batch_size=8)


def after_a_step(net, loss_of, rate, x, y, recipe=Recipe()):  # noqa: B008
    """The loss on x, y of a copy that has taken a plain step."""
    net = copy.deepcopy(net)
    optimizer = replace(recipe, momentum=0.0, weight_decay=0.0).make_optimizer(net)
    loss_of(net).backward()
    update(optimizer, rate)
    return F.cross_entropy(net.target(x), y).item()


@pytest.mark.parametrize(
    "given", [{}, {"layer_decay": 0.3}, {"head_lr_factor": 10.0}, {"clip_grad": 0.1}], ids=str
)
def test_meta_weights_follow_the_holdout_loss_after_the_step(exact, given):
    exact = replace(exact, recipe=replace(exact.recipe, **given))
    method, twin = (MetaWeights(exact, MetaWeights.Config(scale=2.0)) for _ in range(2))
    start = torch.randn(94, generator=torch.Generator().manual_seed(0)).double()
    method.logit_S = start.clone().requires_grad_()
    method.meta_optimizer = torch.optim.SGD([method.logit_S], lr=1.0)
    method.step(50)
    gradient = start - method.logit_S.detach()

    (x_S, y_S), (x_T, y_T), judged = next(twin.source), next(twin.target), next(twin.holdout)

    def loss_at(logit_S):
        def loss_of(net):
            loss_B = F.cross_entropy(net.source(x_S), y_S, reduction="none")
            return F.cross_entropy(net.target(x_T), y_T) + 2 * (logit_S.sigmoid()[y_S] * loss_B).mean()

        return after_a_step(twin.net, loss_of, exact.recipe.lr_at(50), *judged, exact.recipe)

    for s in range(5):
        nudge = 1e-6 * F.one_hot(torch.tensor(s), 94).double()
        slope = (loss_at(start + nudge) - loss_at(start - nudge)) / 2e-6
        assert gradient[s].item() == pytest.approx(slope, rel=1e-4, abs=1e-9)
    assert gradient[:4].abs().min() > 1e-6
    assert not gradient[4:].any()


def test_the_step_is_taken_with_the_new_weights(exact):
    method, twin = (MetaWeights(exact, MetaWeights.Config(meta_lr=5.0)) for _ in range(2))
    (x_S, y_S), (x_T, y_T) = next(twin.source), next(twin.target)
    rate = exact.recipe.lr_at(50)
    method.step(50)
    weight_S = method.class_weights()
    assert weight_S[:4].sub(0.5).abs().min() > 0.4
    loss_B = F.cross_entropy(twin.net.source(x_S), y_S, reduction="none")
    (F.cross_entropy(twin.net.target(x_T), y_T) + (weight_S[y_S] * loss_B).mean()).backward()
    for moved, p in zip(method.net.parameters(), twin.net.parameters(), strict=True):
        assert torch.allclose(moved, p - rate * p.grad, atol=1e-8)


def test_meta_weights_are_replayed(stage):
    problem, _ = stage
    logits = torch.linspace(-3, 3, 94)
    replayed = replace(problem, holdout=None, controls={"logits": logits})
    method = MetaWeights(replayed, MetaWeights.Config())
    assert "holdout_loss" not in method.step(0)
    assert torch.equal(method.class_weights(), logits.sigmoid())
    assert torch.equal(method.controls()["logits"], logits)
    with pytest.raises(ValueError, match="no holdout images"):
        MetaWeights(replace(problem, holdout=None), MetaWeights.Config())


def test_images_are_weighed_by_the_slope_of_the_holdout_loss(exact):
    method, twin = (Reweight(exact, Reweight.Config()) for _ in range(2))
    (x_S, y_S), judged = next(twin.source), next(twin.holdout)

    def loss_at(weight_B):
        loss_of = lambda net: (weight_B * F.cross_entropy(net.source(x_S), y_S, reduction="none")).sum()  # noqa: E731
        return after_a_step(twin.net, loss_of, 1.0, *judged)

    nudges = 1e-8 * torch.eye(8).double()
    slopes = torch.tensor([(loss_at(nudge) - loss_at(-nudge)) / 2e-8 for nudge in nudges]).double()
    helpful = (-slopes).clamp(min=0)
    assert 1 <= (helpful > 0).sum() <= 7
    weight_B, metrics = method.weigh(F.cross_entropy(method.net.source(x_S), y_S, reduction="none"))
    assert torch.allclose(weight_B, helpful / helpful.sum(), atol=1e-4)
    assert metrics["holdout_loss"].item() == pytest.approx(loss_at(torch.zeros(8)), rel=1e-6)


@pytest.mark.parametrize(("sign", "expected"), [(1, 1 / 8), (-1, 0.0)])
def test_weights_sum_to_one_or_are_all_zero(exact, sign, expected):
    """Of eight images whose loss is the holdout's own each helps as much; of its negative, none."""
    method, twin = (Reweight(exact, Reweight.Config()) for _ in range(2))
    x, y = next(twin.holdout)
    loss_B = sign * F.cross_entropy(method.net.target(x), y).expand(8)
    weight_B, _ = method.weigh(loss_B)
    assert weight_B.tolist() == pytest.approx([expected] * 8)


def test_without_a_holdout_other_target_images_judge(stage):
    problem, _ = stage
    method = Reweight(replace(problem, holdout=None), Reweight.Config())
    assert torch.equal(method.holdout.split.index, problem.target.index)
    assert not torch.equal(next(method.holdout)[0], next(method.target)[0])


@pytest.mark.parametrize("method_type", [MetaWeights, Reweight])
def test_what_has_no_second_derivative_is_refused(stage, method_type):
    problem, _ = stage
    assert method_type.why_incompatible(problem) == ""
    compiled = replace(problem, recipe=replace(problem.recipe, compile=True))
    assert "compiled" in method_type.why_incompatible(compiled)
    hard = SimpleNamespace(encoder=nn.Sequential(nn.Conv2d(3, 4, 1), nn.Hardsigmoid()))
    assert "hard sigmoid" in method_type.why_incompatible(replace(problem, network=lambda pretrained: hard))


def test_classes_with_random_labels_weigh_less(stage):
    """By chance the mean of three has a standard deviation of 0.035 about 0.5."""
    scores = []
    for seed in (1, 2, 3):
        source, clean_S = planted(stage[0].source, seed)
        method = MetaWeights(replace(stage[0], source=source), MetaWeights.Config())
        for t in range(40):
            method.step(t)
        scores.append(roc_auc_score(clean_S, method.class_weights()))
    assert sum(scores) / 3 > 0.58


@pytest.mark.parametrize("seed", [0, 1])
def test_images_with_random_labels_weigh_less(stage, seed):
    built = with_mislabelled_digits(stage[0], seed, batch_size=32)
    method = Reweight(built, Reweight.Config())
    for t in range(10):
        method.step(t)
    weight_S = method.class_weights()
    assert weight_S[:5].mean() > 1.5 * weight_S[5:10].mean()
    assert not weight_S[10:].any()
