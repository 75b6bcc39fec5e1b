"""Co-Tuning's category relationship against scikit-learn and by hand, its calibration, and its loss."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F
from toy import toy_problem, toy_split
from transferbench.methods.co_tuning import CoTuning, Relation
from transferbench.methods.components.class_relationship import (
    STRENGTHS,
    calibration,
    logistic_regression,
    mean_answers,
    reverse_relation,
)
from transferbench.methods.finetune import FineTune


def answers(
    size: int, seed: int, num_target: int = 3, sharp: float = 2.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make answers over 5 source classes that tell target classes apart, but for noise."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(size) % num_target
    logits = sharp * F.one_hot(y, 5) + torch.randn(size, 5, generator=generator, dtype=torch.double)
    return logits.softmax(1), y


def fitted_by_sklearn(p: torch.Tensor, y: torch.Tensor, strength: float) -> np.ndarray:
    model = LogisticRegression(C=strength, fit_intercept=False, tol=1e-10, max_iter=10_000)
    return model.fit(p.numpy(), y.numpy()).coef_


def test_the_path_of_strengths():
    assert len(STRENGTHS) == 17
    assert sorted(STRENGTHS) == STRENGTHS
    assert (STRENGTHS[0], STRENGTHS[1], STRENGTHS[-1]) == pytest.approx((1e-4, 3e-4, 1e4))


@pytest.mark.parametrize("strength", [1e-4, 1.0, 300.0])
def test_logistic_regression_is_that_of_sklearn(strength):
    p, y = answers(60, 0)
    got = logistic_regression(p, y, strength, torch.zeros(3, 5, dtype=torch.double))
    np.testing.assert_allclose(got.numpy(), fitted_by_sklearn(p, y, strength), rtol=1e-3, atol=1e-4)


def test_calibration_finds_the_least_loss():
    p, y = answers(90, 1)
    logits = 7 * p[:, :3]
    found = minimize_scalar(lambda s: F.cross_entropy(s * logits, y).item(), bounds=(0, 10), method="bounded")
    assert calibration(logits, y).item() == pytest.approx(found.x, rel=1e-3)
    assert calibration(logits / 4, y).item() == pytest.approx(4 * found.x, rel=1e-3)


def test_the_reverse_relationship_is_computed_anew_by_sklearn_and_bayes():
    (p, y), (judged, judged_y) = answers(12, 0, sharp=0.7), answers(45, 100, sharp=0.7)
    fits = [fitted_by_sklearn(p, y, c) for c in reversed(STRENGTHS)]
    scores = [np.mean((judged.numpy() @ w.T).argmax(1) == judged_y.numpy()) for w in fits]
    best = int(np.argmax(scores))  # the first, so the least regularized of equals
    assert scores.count(scores[best]) == 2
    assert 0 < best < 16  # the choice matters
    logits = judged.numpy() @ fits[best].T
    nll = lambda s: F.cross_entropy(torch.from_numpy(s * logits), judged_y).item()  # noqa: E731
    scale = minimize_scalar(nll, bounds=(0, 20), method="bounded").x
    assert abs(scale - 1) > 0.05  # and so does the calibration
    relation = np.zeros((3, 5))
    p_source = np.concatenate((p.numpy(), judged.numpy())).mean(0)
    for s in range(5):
        odds = np.exp(scale * fits[best][:, s])
        relation[:, s] = p_source[s] * odds / odds.sum()
    relation /= relation.sum(1, keepdims=True)
    got = reverse_relation(p, y, judged, judged_y, 3)
    np.testing.assert_allclose(got.numpy(), relation, rtol=2e-3)


@pytest.mark.parametrize("num_target", [2, 3])
def test_a_planted_relationship_is_found(num_target):
    """Source class t is what target class t looks like; source classes 3 and 4 tell nothing."""
    (p, y), (judged, judged_y) = answers(60, 0, num_target, 4.0), answers(30, 1, num_target, 4.0)
    relation = reverse_relation(p, y, judged, judged_y, num_target)
    assert relation.sum(1).tolist() == pytest.approx([1.0] * num_target)
    assert relation.argmax(1).tolist() == list(range(num_target))
    assert relation.diagonal().min() > 0.6


def test_classes_that_are_never_confused_still_have_a_relationship():
    p, y = torch.eye(3, 5, dtype=torch.double).repeat(20, 1), torch.arange(60) % 3
    relation = reverse_relation(p, y, p, y, 4)  # and one class has no image
    assert relation.isfinite().all()
    assert relation[:3, :3].diagonal().min() > 0.99


def test_the_direct_relationship_is_a_mean_by_class():
    p = torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.9, 0.1]])
    got = mean_answers(p, torch.tensor([2, 0, 2]), 3)
    assert got.flatten().tolist() == pytest.approx([0.1, 0.9, 0.0, 0.0, 0.7, 0.3])


@pytest.mark.parametrize("with_holdout", [True, False])
def test_prepare_asks_the_pretrained_network_about_the_right_images(with_holdout):
    holdout = toy_split([0, 1, 2] * 5, 3, "holdout") if with_holdout else None
    problem = toy_problem(holdout=holdout)
    method = CoTuning(problem, CoTuning.Config(source_scale=0.8))
    before = {k: v.clone() for k, v in method.net.state_dict().items()}
    method.prepare()
    assert all(torch.equal(v, before[k]) for k, v in method.net.state_dict().items())
    assert method.net.training
    parts = (problem.target, holdout) if holdout else problem.target.halves(0)
    net = problem.network().eval()
    with torch.no_grad():
        p, judged = [
            (0.8 * torch.cat([net.source(x) for x, _ in s.batches(8)]).double()).softmax(1) for s in parts
        ]
    expected = reverse_relation(p, parts[0].labels, judged, parts[1].labels, 3)
    torch.testing.assert_close(method.relation_TS, expected.float())
    direct = CoTuning(problem, CoTuning.Config(relation=Relation.direct))
    direct.prepare()
    with torch.no_grad():
        x = next(problem.target.batches(24))[0]
        expected = torch.stack([net.source(x).softmax(1)[c::3].mean(0) for c in range(3)])
    torch.testing.assert_close(direct.relation_TS, expected)


def test_the_loss_of_the_source_head_is_worked_by_hand():
    method = CoTuning(toy_problem(), CoTuning.Config())
    method.relation_TS.copy_(torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    x, y = next(toy_problem().target.stream(8, 0))
    net = toy_problem().network()
    log_p = net.source_head(net.features(x)).log_softmax(1)
    each = [-(log_p[i, 0] + log_p[i, 1]) / 2 if y[i] == 0 else -log_p[i, y[i] + 1] for i in range(8)]
    assert set(y.tolist()) == {0, 1, 2}
    assert method.step(0)["source_loss"].item() == pytest.approx(sum(each).item() / 8, rel=1e-5)


@pytest.mark.parametrize("weight", [0.0, 2.3])
def test_both_losses_move_the_encoder(weight):
    plain, method = FineTune(toy_problem(), None), CoTuning(toy_problem(), CoTuning.Config(weight=weight))
    method.prepare()
    plain.step(0)
    method.step(0)
    pairs = zip(plain.net.encoder.parameters(), method.net.encoder.parameters(), strict=True)
    assert all(torch.allclose(a, b) for a, b in pairs) == (weight == 0)


def test_it_says_what_it_cannot_run_on():
    problem = toy_problem()
    assert CoTuning.why_incompatible(problem) == ""
    assert "no source" in CoTuning.why_incompatible(replace(problem, source=None))
    labels = toy_split([[0.0, 1.0], [1.0, 1.0]], 2)
    assert "source images have several labels" in CoTuning.why_incompatible(replace(problem, source=labels))
    assert "target images have several labels" in CoTuning.why_incompatible(replace(problem, target=labels))
