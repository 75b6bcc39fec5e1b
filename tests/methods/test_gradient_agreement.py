"""Methods that compare the source's gradient with the target's: against gradients taken apart."""

from dataclasses import replace

import pytest
import torch
from near_pair import build_near, in_float64, with_mislabelled_digits
from torch.nn import functional as F
from transferbench.methods.doge import DoGE
from transferbench.methods.grad_cosine import GradCosine, cosine_of


@pytest.fixture(scope="module")
def near(config_of, built_of):
    return build_near(config_of, built_of, "recipe.steps=200", "recipe.lr=0.02")


@pytest.fixture(scope="module")
def exact(near):
    return in_float64(near, batch_size=8)


def flat(loss, parameters, **options):
    return torch.cat([g.ravel() for g in torch.autograd.grad(loss, list(parameters), **options)])


def test_cosines_by_hand():
    a = [torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])]
    b = [torch.tensor([1.0]), torch.tensor([[2.0, 2.0]])]
    assert cosine_of(a, b).item() == pytest.approx(11 / 15)
    assert cosine_of(a, [-t for t in a]).item() == pytest.approx(-1)
    assert cosine_of(a, [0 * t for t in a]).item() == 0


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_the_sources_gradient_is_let_through_by_its_cosine(exact, weighted, scale):
    """With the source's loss turned round the cosine changes its sign, so one of the two is shut out."""
    config = GradCosine.Config(weighted=weighted, scale=scale)
    method, twin = GradCosine(exact, config), GradCosine(exact, config)
    net, rate = twin.net, exact.recipe.lr_at(50)
    (x_T, y_T), (x_S, y_S) = next(twin.target), next(twin.source)
    encoder = list(net.encoder.parameters())
    main = flat(F.cross_entropy(net.target(x_T), y_T), encoder)
    auxiliary = scale * flat(F.cross_entropy(net.source(x_S), y_S), encoder)
    cosine = F.cosine_similarity(main, auxiliary, dim=0)
    gate = max(cosine.item(), 0) if weighted else float(cosine > 0)
    before = torch.cat([p.detach().ravel() for p in encoder])
    metrics = method.step(50)
    after = torch.cat([p.detach().ravel() for p in method.net.encoder.parameters()])
    assert torch.allclose(before - after, rate * (main + gate * auxiliary), atol=1e-9)
    assert metrics["cosine"].item() == pytest.approx(cosine.item(), abs=1e-9)
    assert metrics["gate"].item() == pytest.approx(gate, abs=1e-9)


def test_the_heads_take_their_own_gradients(exact):
    """Even where nothing of the source's gets through to the encoder."""
    for scale in (1.0, -1.0):
        method, twin = (GradCosine(exact, GradCosine.Config(scale=scale)) for _ in range(2))
        x, y = next(twin.source)
        own = scale * flat(F.cross_entropy(twin.net.source(x), y), [twin.net.source_head.weight])
        method.step(50)
        moved = (twin.net.source_head.weight - method.net.source_head.weight).ravel()
        assert torch.allclose(moved, exact.recipe.lr_at(50) * own, atol=1e-9)


@pytest.mark.parametrize("loudness", [1.0, 1000.0])
def test_doges_scores_are_clipped_agreements(exact, loudness):
    method = DoGE(exact, DoGE.Config())
    net, encoder = method.net, list(method.net.encoder.parameters())
    (x, y), (x_S, y_S) = next(method.target), next(method.source)
    target_loss = loudness * F.cross_entropy(net.target(x), y)
    g_T = flat(target_loss, encoder, retain_graph=True)
    target_loss.backward()
    loss_B = loudness * F.cross_entropy(net.source(x_S), y_S, reduction="none")
    loss_D = torch.stack([loss_B[:3].mean(), loss_B[3:].mean(), -loss_B.mean()])
    clip = lambda g: g * min(1.0, 1 / g.norm().item())  # noqa: E731
    g_D = [clip(flat(loss, encoder, retain_graph=True)) for loss in loss_D]
    mean_norm = sum(g.norm() for g in g_D) / 3
    expected = [min(max((0.1 * g @ clip(g_T) / mean_norm).item(), 0), 0.5) for g in g_D]
    assert method.scores(loss_D, 0.1).tolist() == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert max(expected) > 0
    assert min(expected) == 0


def test_a_doge_score_has_a_ceiling(exact):
    """A domain that is the target, clipped to 1, beside nine silent ones: 10 rates, where 5 are allowed."""
    method = DoGE(exact, DoGE.Config())
    x, y = next(method.target)
    loss = 1000 * F.cross_entropy(method.net.target(x), y)
    loss.backward(retain_graph=True)
    scores = method.scores(torch.stack([loss, *[0 * loss] * 9]), 0.1)
    assert scores.tolist() == pytest.approx([0.5, *[0.0] * 9])


def test_doge_draws_few_classes_evenly(near):
    method = DoGE(replace(near, recipe=replace(near.recipe, batch_size=19)), DoGE.Config(num_domains=5))
    seen = set()
    for t in range(60):
        classes_D, rows = method.draw(t)
        labels = near.source.labels[rows].tolist()
        assert labels == torch.repeat_interleave(classes_D, torch.tensor([4, 4, 4, 4, 3])).tolist()
        assert len(set(labels)) == 5
        seen |= set(labels)
    assert len(seen) > 85
    assert torch.equal(method.draw(7)[1], method.draw(7)[1])


def test_doges_weights_move_by_the_scores_and_weigh_the_loss(exact):
    method, twin = (DoGE(exact, DoGE.Config(num_domains=3, scale=2.0)) for _ in range(2))
    assert method.class_weights().tolist() == [1.0] * 94
    scores = torch.tensor([0.05, 0.0, 0.1])
    method.scores = lambda loss_D, rate: scores
    metrics = method.step(50)
    classes_D, rows = twin.draw(50)
    log_weight = torch.zeros(94)
    log_weight[classes_D] = torch.tensor([1.0, 0.0, 2.0])  # over mu
    weight = 94 * log_weight.softmax(0)
    assert torch.allclose(method.class_weights(), weight)
    x, y = twin.source.fetch(rows).result()
    next(twin.target)
    loss_B = F.cross_entropy(twin.net.source(x), y, reduction="none")
    expected = 2 * torch.stack([weight[c] * loss_B[y == c].mean() for c in classes_D]).mean()
    assert metrics["source_loss"].item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_doge_weighs_mislabelled_classes_less(near, seed):
    method = DoGE(with_mislabelled_digits(near, seed, batch_size=32), DoGE.Config(mu=0.01))
    for t in range(20, 50):
        method.step(t)
    weight = method.log_weight_S.softmax(0)
    assert weight[:5].mean() > 1.5 * weight[5:10].mean()
