"""Bi-Tuning's contrast against the Kullback-Leibler divergence in its long form, its queue and its keys."""

from collections import deque
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from toy import toy_problem, toy_split
from transferbench.methods.bi_tuning import BiTuning, divergence, embed


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(shape, generator=generator, dtype=torch.double), dim=-1)


def method_of(**settings: object) -> BiTuning:
    return BiTuning(toy_problem(), BiTuning.Config(**{"num_keys": 4, "width": 6, **settings}))


def test_the_divergence_is_kl_from_even_shares():
    """Own key first, then those of the class, then all others, one image at a time."""
    own, others, y = unit(5, seed=1)[:, None].squeeze(), unit(5, 3, 4), torch.tensor([0, 2, 1, 1, 0])
    total = 0.0
    for i in range(5):
        rest = [others[i, c] for c in range(3) if c != y[i]]
        log_p = (torch.cat((own[i : i + 1], others[i, y[i]], *rest)) / 0.07).log_softmax(0)
        wanted = torch.zeros(13, dtype=torch.double)
        wanted[:5] = 1 / 5
        total += F.kl_div(log_p, wanted, reduction="sum").item()
    assert divergence(own, others, y, 0.07).item() == pytest.approx(total / 5)


def test_the_divergence_by_hand():
    """Two classes, one key each, all alike: a quarter... a third each, where a half was wanted of two."""
    flat = divergence(torch.zeros(1), torch.zeros(1, 2, 1), torch.tensor([1]), 0.5)
    assert flat.item() == pytest.approx(torch.tensor(1.5).log().item())
    apart = divergence(torch.tensor([30.0]), torch.tensor([[[-30.0], [30.0]]]), torch.tensor([1]), 1.0)
    assert apart.item() == pytest.approx(0, abs=1e-6)


def test_the_contrast_of_a_batch_is_worked_anew():
    method = method_of()
    x, y = next(toy_problem().target.stream(8, 0))
    feature, z, h = embed(method.net, method.projector, x)
    key_z = embed(method.key_net, method.key_projector, x.flip(3))[1].detach()
    head = method.net.target_head
    with torch.no_grad():
        head.bias.copy_(torch.tensor([2.0, -1.0, 0.5]))
    total = 0.0
    for i in range(8):
        c = y[i]
        w = F.normalize(torch.cat((head.weight[c], head.bias[c : c + 1])), dim=0)
        rest = [k for k in range(3) if k != c]
        scores_z = [
            z[i] @ key_z[i],
            *(method.queue_z[c] @ z[i]),
            *(method.queue_z[rest].flatten(0, 1) @ z[i]),
        ]
        own = F.normalize(torch.cat((feature[i], torch.ones(1))), dim=0)
        scores_h = [w @ own, *(method.queue_h[c] @ w), *(method.queue_h[rest].flatten(0, 1) @ w)]
        for scores in (scores_z, scores_h):
            log_p = (torch.stack(scores) / 0.07).log_softmax(0)
            total += (-log_p[:5].mean() - torch.tensor(5.0).log()).item() / 8
    got = method.contrast(z, h, key_z, y)
    assert got.item() == pytest.approx(total, rel=1e-4)
    got.backward()
    assert head.weight.grad is None  # held fixed
    assert method.projector.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("batches", [[[0, 1, 1]], [[0, 0], [0, 1, 0, 0], [2, 0]], [[1] * 11, [1, 0, 1]]])
def test_the_queue_keeps_the_last_keys_of_each_class(batches):
    method = method_of()
    expected = [deque(range(-4, 0), maxlen=4) for _ in range(3)]
    method.queue_z[:] = torch.arange(-4.0, 0)[None, :, None]
    method.queue_h[:] = method.queue_z[:, :, :1]
    number = 0
    for batch in batches:
        key = torch.arange(number, number + len(batch)).float()[:, None]
        for c in batch:
            expected[c].append(number)
            number += 1
        method.remember(key.expand(-1, 6), -key.expand(-1, 129), torch.tensor(batch))
    for c in range(3):
        assert sorted(method.queue_z[c, :, 0].tolist()) == sorted(expected[c])
        assert [abs(k) for k in method.queue_h[c, :, -1].tolist()] == [
            abs(k) for k in method.queue_z[c, :, 5]
        ]


def test_keys_come_from_a_second_view_through_weights_that_follow(monkeypatch):
    method = method_of(momentum=0.9)
    trained = [*method.net.parameters(), *method.projector.parameters()]
    keys = [*method.key_net.parameters(), *method.key_projector.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(trained, keys, strict=True))
    with torch.no_grad():
        for p in trained:
            p.add_(1.0)
    after = [0.9 * key + 0.1 * p for key, p in zip(keys, trained, strict=True)]
    seen = []
    monkeypatch.setattr(
        "transferbench.methods.bi_tuning.embed", lambda net, p, x: seen.append(x) or embed(net, p, x)
    )
    method.step(0)
    for got, wanted in zip(keys, after, strict=True):
        torch.testing.assert_close(got, wanted)
    x, y = next(toy_problem().target.stream(8, 0))
    assert torch.equal(seen[0], x)
    assert not torch.equal(seen[0], seen[1])
    same_colour = [torch.cdist(*(s.mean((2, 3)) for s in seen))[i].argmin().item() for i in range(8)]
    assert sum(i == found for i, found in enumerate(same_colour)) >= 6  # other crops of the same images
    assert method.place_T.tolist() == torch.bincount(y, minlength=3).remainder(4).tolist()
    assert method.target.num_images == method.second.num_images == 8
    assert method.second.drawn == 1  # other crops at every step


def test_the_losses_see_the_queue_from_before_the_batch():
    method = method_of()
    queues = []
    contrast = method.contrast
    method.contrast = lambda *given: queues.append(method.queue_h.clone()) or contrast(*given)
    start = method.queue_h.clone()
    method.step(0)
    assert torch.equal(queues[0], start)
    assert not torch.equal(method.queue_h, start)


def test_it_pulls_a_class_together():
    """Planted: brightness tells the class; a class comes together sooner than by the labels alone."""
    apart = []
    for weight in (0.0, 1.0):
        split = toy_split([0, 1, 2] * 8, 3)
        split.pixels.pixels[:] = split.pixels.pixels // 4 + 90 * split.labels[:, None, None, None].byte()
        problem = toy_problem(split, recipe={"lr": 0.001, "batch_size": 24})
        method = BiTuning(problem, BiTuning.Config(num_keys=4, width=8, momentum=0.5, weight=weight))
        curve = [method.step(t)["contrast"].item() for t in range(20)]
        apart.append(sum(curve[10:]))
    assert apart[1] < apart[0] / 2


def test_labels_without_classes_are_refused():
    problem = toy_problem()
    assert BiTuning.why_incompatible(problem) == ""
    assert "several labels" in BiTuning.why_incompatible(replace(problem, target=toy_split([[0.0, 1.0]], 2)))
