"""The choice of layers against scikit-learn's cross-validation, and on a problem where one layer tells."""

import numpy as np
import pytest
import torch
from planted_layer import TELLING, planted_problem
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, PredefinedSplit, cross_val_predict
from sklearn.neighbors import NearestCentroid
from toy import toy_problem, toy_split
from transferbench.methods.atl import (
    ATL,
    STRENGTHS,
    Classifier,
    Which,
    centroid_judge,
    folds,
    forward_selection,
    held_out_distances,
    logistic_judge,
)
from transferbench.methods.metrics import top1

LABELS = [0, 1, 2] * 8


def made_vectors(size: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Make vectors of three layers that know the class more or less."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(size) % 3
    own = torch.randn(3, 4, generator=generator)
    vectors = [k * own[y] + torch.randn(size, 4, generator=generator) for k in (0.2, 0.5, 0.8)]
    return vectors, y


def test_folds_share_out_each_class():
    y = torch.tensor([0] * 13 + [1] * 5 + [2] * 7)[
        torch.randperm(25, generator=torch.Generator().manual_seed(0))
    ]
    fold = folds(y, 0)
    for c in range(3):
        count = torch.bincount(fold[y == c], minlength=5)
        assert count.max() - count.min() <= 1
        assert count.sum() == (y == c).sum()
    assert torch.bincount(fold).tolist() == [5] * 5
    assert torch.equal(fold, folds(y, 0))
    assert not torch.equal(fold, folds(y, 1))


def test_few_images_are_left_out_one_by_one():
    assert folds(torch.tensor([0, 1, 0, 1, 0, 1, 0]), 0).tolist() == list(range(7))
    assert folds(torch.tensor([0, 1, 0, 1, 0, 0, 0]), 0).max() == 4


@pytest.mark.parametrize("taps", [(0,), (2,), (1, 2), (0, 2, 1)])
@pytest.mark.parametrize("size", [11, 40])  # one by one, and in folds
def test_class_means_are_cross_validated_as_by_scikit_learn(taps, size):
    vectors, y = made_vectors(size)
    fold = folds(y, 0)
    cv = LeaveOneOut() if size == 11 else PredefinedSplit(fold.numpy())
    joined = torch.cat([vectors[tap] for tap in taps], 1).double().numpy()
    expected = [
        (NearestCentroid().fit(joined[a], y[a]).predict(joined[b]) == y[b].numpy())
        for a, b in cv.split(joined)
    ]
    accuracy = centroid_judge(vectors, y, fold, 3)(taps)
    assert accuracy == pytest.approx(np.concatenate(expected).mean())
    assert 0.3 < accuracy < 1


def test_logistic_regression_is_cross_validated_as_by_scikit_learn():
    taps = (2, 0)
    vectors, y = made_vectors(24)
    fold = folds(y, 0)
    joined = torch.cat([vectors[tap] for tap in taps], 1).double().numpy()
    each = []
    for strength in STRENGTHS:
        classifier = LogisticRegression(C=strength, fit_intercept=False, tol=1e-8, max_iter=1000)
        said = cross_val_predict(classifier, joined, y.numpy(), cv=PredefinedSplit(fold.numpy()))
        each.append((said == y.numpy()).mean())
    assert len(set(each)) > 1
    assert logistic_judge(vectors, y, fold, 3)(taps) == pytest.approx(max(each))


def test_distances_are_from_means_without_the_image():
    vector = torch.tensor([[0.0], [2.0], [6.0], [5.0]])
    y = torch.tensor([0, 0, 0, 1])
    got = held_out_distances(vector, y, torch.arange(4), 3)
    inf = torch.inf
    assert got.tolist() == [[16, 25, inf], [1, 9, inf], [25, 1, inf], [(5 - 8 / 3) ** 2, inf, inf]]


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ({(0,): 0.5, (1,): 0.7, (2,): 0.6, (1, 0): 0.71, (1, 2): 0.7}, (1, 0)),
        ({(0,): 0.5, (1,): 0.7, (2,): 0.7, (2, 0): 0.704, (2, 1): 0.7}, (2,)),  # deeper; too small a gain
        (
            {(0,): 0.9, (1,): 0.1, (2,): 0.1, (0, 1): 0.95, (0, 2): 0.95, (0, 2, 1): 0.99},
            (0, 2),
        ),  # two at most
        ({(0,): 0.0, (1,): 0.0, (2,): 0.0, (2, 0): 0.0, (2, 1): 0.0}, (2,)),  # nothing is known: the features
    ],
)
def test_layers_are_added_while_they_add(accuracies, expected):
    assert forward_selection(accuracies.__getitem__, 3, max_taps=2, least_gain=0.005) == expected


def test_without_a_least_gain_none_that_adds_nothing_is_taken():
    assert forward_selection(lambda taps: 0.5, 4, max_taps=4, least_gain=0) == (3,)


@pytest.mark.parametrize("classifier", list(Classifier))
def test_it_finds_the_layer_that_tells(classifier):
    problem = planted_problem(18, recipe={"steps": 40})
    method = ATL(problem, ATL.Config(classifier=classifier))
    assert method.taps.names == ["stages.0", TELLING, "stages.2"]
    method.prepare()
    assert method.chosen_L.tolist() == [0, 1, 0, 0]
    assert scored(method) > 0.95


def test_the_last_features_tell_nothing_there():
    assert scored(ATL(planted_problem(recipe={"steps": 40}), ATL.Config(taps=Which.penultimate))) < 0.6


def scored(method: ATL) -> float:
    if not method.chosen_L.any():
        method.prepare()
    for t in range(method.recipe.steps):
        method.step(t)
    x, y = next(method.target.split.batches(36))
    return top1(method.predict(x), y).item()


def test_controls_take_the_layers_they_name():
    def chosen(which: Which, seed: int = 0) -> list[float]:
        method = ATL(planted_problem(seed=seed), ATL.Config(taps=which))
        method.prepare()
        assert method.step(0)["num_taps"] == method.chosen_L.sum()
        return method.chosen_L.tolist()

    assert chosen(Which.penultimate) == [0, 0, 0, 1]
    assert chosen(Which.all) == [1, 1, 1, 1]
    drawn = [chosen(Which.random, seed) for seed in range(12)]
    assert all(sum(one) == 1 for one in drawn)
    assert {one.index(1) for one in drawn} == {0, 1, 2, 3}
    assert chosen(Which.random, 5) == drawn[5]


def test_rows_tell_the_choice_from_the_controls():
    labels = [ATL.label(ATL.Config(taps=which)) for which in Which]
    ours = "ATL-style (our reconstruction)"
    assert labels == [ours, f"{ours}, last features", f"{ours}, all layers", f"{ours}, a random layer"]
    assert ATL.label(ATL.Config(max_taps=1)) == f"{ours} (max_taps=1)"


def test_the_head_sees_the_chosen_layers_alone_at_the_features_length():
    problem = toy_problem(toy_split(LABELS, 3))
    method = ATL(problem, ATL.Config())
    method.chosen_L.copy_(torch.tensor([1.0, 0, 1, 0]))
    seen = []
    method.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x, _ = next(problem.target.batches(4))
    method.length.fill_(3.0)
    method.predict(x)
    vectors = [stage_mean(method, x, i) for i in (0, 2)]
    expected = torch.cat([v / v.norm(dim=1, keepdim=True) for v in vectors], 1) * 3 / 2**0.5
    by_layer = seen[0].split([16, 32, 64, 128], 1)
    assert torch.allclose(torch.cat([by_layer[0], by_layer[2]], 1), expected, atol=1e-6)
    assert not by_layer[1].any()
    assert not by_layer[3].any()


def stage_mean(method: ATL, x: torch.Tensor, i: int) -> torch.Tensor:
    return method.net.stages(x)[i].mean((2, 3)).detach()


def test_the_length_is_the_mean_one_of_the_features_and_nothing_else_is_trained(monkeypatch):
    problem = toy_problem(toy_split(LABELS, 3))
    method = ATL(problem, ATL.Config(taps=Which.all))
    before = {name: value.clone() for name, value in method.net.state_dict().items()}
    choice, given = method.choice, []
    monkeypatch.setattr(method, "choice", lambda vectors, y: given.extend(vectors) or choice(vectors, y))
    method.prepare()
    x, _ = next(problem.target.batches(24))
    assert [v.shape for v in given] == [(24, width) for width in method.taps.widths(x)]
    assert all(torch.allclose(v.norm(dim=1), torch.ones(24)) for v in given)
    assert method.length.item() == pytest.approx(
        problem.network().eval().features(x).norm(dim=1).mean().item()
    )
    for t in range(3):
        method.step(t)
    assert all(torch.equal(value, before[name]) for name, value in method.net.state_dict().items())
