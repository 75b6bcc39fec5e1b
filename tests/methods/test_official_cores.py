"""Losses and updates against numbers that their authors' code gave on the same small inputs (float64)."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transferbench.methods import bi_tuning, bss, delta, emd, lwf, uot
from transferbench.methods.components import class_relationship
from transferbench.methods.components.trajectory import Metric, PathGradient
from transferbench.methods.components.unrolled import Unrolled
from transferbench.methods.networks.channel_attention import attention_of


def wave(*shape, k=1.0):
    return torch.sin(k * torch.arange(1, int(np.prod(shape)) + 1, dtype=torch.float64)).view(*shape)


def test_delta():  # tllib/regularization/delta.py, AttentionBehavioralRegularization
    old, new = (
        [wave(64, 3, 2, 2), wave(64, 2, 1, 1, k=0.7)],
        [wave(64, 3, 2, 2, k=1.3), wave(64, 2, 1, 1, k=0.4)],
    )
    attention = wave(3).softmax(0), wave(2).softmax(0)
    assert delta.map_change(new, old, attention).item() == pytest.approx(159.28082470801175, rel=1e-9)


def test_delta_attention():  # tllib examples/delta.py
    expected = [
        0.12003022716598921,
        0.12240298437071669,
        0.09806375259869908,
        0.07567679611814275,
        0.07138858214518365,
    ]
    expected += [
        0.08685573723966925,
        0.11380656656570355,
        0.1252641640577019,
        0.10604141325380156,
        0.0804697764843924,
    ]
    assert attention_of(wave(10)).tolist() == pytest.approx(expected, rel=1e-9)


def test_bss():  # tllib/regularization/bss.py
    x, tall = (
        torch.tensor(np.random.RandomState(0).randn(5, 8)),
        torch.tensor(np.random.RandomState(1).randn(9, 4)),
    )
    ours = [bss.spectral_tail(x, 1).item(), bss.spectral_tail(x, 3).item(), bss.spectral_tail(tall, 2).item()]
    assert ours == pytest.approx([0.7758537485473894, 15.175734520248266, 6.832749144821206], rel=1e-9)


def test_lwf():  # tllib/regularization/knowledge_distillation.py
    assert lwf.distillation(wave(4, 6), wave(4, 6, k=0.3), 3.0).item() == pytest.approx(
        0.039332324094240444, rel=1e-9
    )


def domains():
    source, target = wave(6, 4, k=1.7) * 3, wave(4, 4, k=2.3) * 2
    return source, target


def test_emd():  # DomainSimilarityDemo.ipynb, pyemd
    source, target = domains()
    distance = torch.cdist(source, target, compute_mode="donot_use_mm_for_euclid_dist")
    mass = torch.tensor([5, 9, 2, 7, 3, 4.0]), torch.tensor([3, 1, 4, 2.0])
    assert emd.earth_movers_distance(distance, *mass) == pytest.approx(3.544006419399572, rel=1e-9)


def test_uot():  # UOT_selection/sinkhorn_unbalanced.py
    source, target = domains()
    cost = (1 - F.normalize(source) @ F.normalize(target).T) / 0.1
    plan = uot.unbalanced_plan(cost, torch.ones(6).double(), torch.ones(4).double())
    expected = [
        0.19071838765761176,
        0.5037724980692094,
        0.7070362612688137,
        0.5066184789195481,
        0.2243882942581276,
    ]
    assert plan.sum(1).tolist() == pytest.approx([*expected, 1.6928883686825298], rel=1e-7)


def test_bi_tuning_projection():  # tllib/regularization/bi_tuning.py with KLDivLoss(batchmean)
    unit = lambda t, d=1: F.normalize(t, dim=d)  # noqa: E731
    queue, query, key = unit(wave(3, 2, 4, k=0.9), 2), unit(wave(3, 4, k=0.2)), unit(wave(3, 4, k=0.8))
    others = torch.einsum("bd,tkd->btk", query, queue)
    ours = bi_tuning.divergence((query * key).sum(1), others, torch.tensor([2, 0, 2]), 0.07)
    assert ours.item() == pytest.approx(9.365187222525812, rel=1e-7)


def test_meta_gradient_through_momentum_sgd():  # alinlab/L2T-ww, train/meta_optimizers.py, ten steps
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Parameter(torch.tensor([1.0, 3.0]).double())
            self.b = nn.Parameter(torch.tensor([[-1.0, -2.0], [1.0, 0.0]]).double())

    two, weight = Two(), torch.full((2, 2), 0.1).double().requires_grad_()
    ahead = Unrolled(two, torch.optim.SGD(two.parameters(), 0.1, momentum=0.9, weight_decay=0.01))
    for _ in range(10):
        ahead.step(lambda: two.a.pow(2).mean() + (weight * two.b**2).sum())
    loss = ahead.at(lambda: (two.a * two.b).mean())
    (slope,) = torch.autograd.grad(loss, weight)
    assert loss.item() == pytest.approx(0.24605046413686654, rel=1e-9)
    assert slope.flatten().tolist() == pytest.approx(
        [-0.8172172158865608, -4.903303295319365, 0.8172172158865608, 0.0], rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize(
    ("metric", "stabilized", "expected"),
    [
        (Metric.length, True, [8.897467047606087, 16.77688112009446]),
        (Metric.energy, True, [445.1335412396742, 1207.294738842834]),
        (Metric.length, False, [-16.089241355375798, -43.546293258409676]),
    ],
)
def test_leap(metric, stabilized, expected):  # amzn/metalearn-leap, leap.py and updaters.py, five steps
    x, y = (
        torch.tensor([[1.0, 2.0], [-1.0, 0.5], [0.3, -1.0]]).double(),
        torch.tensor([[1.0], [0.0], [-1.0]]).double(),
    )
    net = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, -2.0]]))
    path, optimizer = (
        PathGradient(list(net.parameters()), metric, stabilized),
        torch.optim.SGD(net.parameters(), 0.4),
    )
    path.begin()
    for t in range(5):
        loss = ((net(x * (1 + 0.6 * (t % 2))) - y) ** 2).mean()
        loss.backward()
        path.add(loss.detach())
        optimizer.step()
        optimizer.zero_grad()
    assert path.total_P.tolist() == pytest.approx(expected, rel=1e-9)


def test_co_tuning_reverse():  # module/relationship_learning.py, its regressions at their optimum (tol 1e-12)
    r = np.random.RandomState(0)
    p = r.dirichlet(np.ones(6) * 0.6, 40)
    y = r.randint(0, 3, 40)
    p[np.arange(40), y] += 0.25
    q = r.dirichlet(np.ones(6) * 0.6, 20)
    z = r.randint(0, 3, 20)
    q[np.arange(20), z] += 0.25
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    ours = class_relationship.reverse_relation(*map(torch.tensor, (p, y, q, z)), 3)
    assert ours.numpy() == pytest.approx(
        np.array(
            [
                [0.472174, 0.000495, 0.030037, 0.137053, 0.183707, 0.176534],
                [0.018718, 0.749064, 0.00453, 0.045041, 0.102755, 0.079891],
                [0.001074, 0.008588, 0.580956, 0.26078, 0.106926, 0.041676],
            ]
        ),
        abs=2e-5,
    )
