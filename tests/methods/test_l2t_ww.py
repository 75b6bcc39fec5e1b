"""L2T-ww: the meta-gradient against finite differences of real steps, the loss by hand, a planted pair."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from toy import toy_problem
from transferbench import InputError
from transferbench.benchmarks.config.schema import Norms, Role
from transferbench.benchmarks.training.problem import _network_maker
from transferbench.datasets.augment import Augment
from transferbench.datasets.base import Split
from transferbench.datasets.pixels import MemoryPixels
from transferbench.methods.base import Problem
from transferbench.methods.components.unrolled import Unrolled
from transferbench.methods.l2t_ww import L2TWW, Pairing, WhatWhere, connectors, matching_loss
from transferbench.methods.networks.encoders import DIGITS_CNNS, DigitsCNN, SmallEncoder
from transferbench.methods.networks.network import Network
from transferbench.methods.recipe import OptimizerName, Recipe
from transferbench.methods.scratch import Scratch


class Narrow(SmallEncoder):
    """Four stages of a few channels, for 16 px."""

    def __init__(self, *widths):
        nn.Module.__init__(self)
        self.num_features = widths[-1]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
            for a, b in zip((3, *widths), widths, strict=False)
        )


class Exact(Network):
    """A network that does its arithmetic in float64."""

    def tapped(self, x):
        last, maps = self.encoder.forward_intermediates(x.double())
        return self.encoder.forward_head(last), maps

    def target(self, x):
        return self.target_head(self.tapped(x)[0])


def make_problem(exact: bool = False, **recipe) -> Problem:
    """Pose the toy problem with a teacher and a student that differ, and weigh all that a step has."""

    def network(pretrained=True, backbone=""):
        torch.manual_seed(int(pretrained))
        net = (Exact if exact else Network)(Narrow(3, 4, 5, 6), 4, 3, head_init_std=0.3)
        return net.double() if exact else net

    given = {"batch_size": 6, "lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}
    return replace(toy_problem(recipe={**given, **recipe}), network=network)


def in_float64(**recipe) -> L2TWW:
    """Build it with all in float64, weights of channels and pairs off their start, and a step taken."""
    method = L2TWW(make_problem(exact=True, **recipe), L2TWW.Config())
    method.student.double()
    method.weigh.double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in method.weigh.parameters():
            p.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype), alpha=0.3)
    method.step(0)
    return method


def judged(method: L2TWW, state: dict, batch: tuple) -> float:
    """Put a method back, take the thought steps in earnest, and give the target loss after them."""
    x, y = batch
    method.net.load_state_dict(state["net"])
    method.bridges.load_state_dict(state["bridges"])
    method.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
    teacher_maps = method.teacher.tapped(x)[1]
    for inner in (True, True, False):
        method.optimizer.zero_grad(set_to_none=False)
        if inner:
            weights = method.weigh([teacher_maps[m] for m, _ in method.pairs])
            method.matching(teacher_maps, method.net.tapped(x)[1], weights).backward()
        else:
            F.cross_entropy(method.net.target(x), y).backward()
        method.optimizer.step()
    return F.cross_entropy(method.net.target(x), y).item()


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_meta_gradient_is_the_slope_of_the_loss_after_real_steps(nesterov):
    method, twin = (in_float64(nesterov=nesterov) for _ in range(2))
    batch = next(method.target)
    teacher_maps = method.maps(method.teacher, batch[0])
    weights = method.weigh([teacher_maps[m] for m, _ in method.pairs])
    loss = method.unrolled_loss(teacher_maps, weights, *batch)
    loss.backward(inputs=list(method.weigh.parameters()))

    state = method.state_dict()
    for parameter in twin.student.parameters():
        parameter.grad = torch.zeros_like(parameter)  # of the source's head too, which no loss reaches
    assert judged(twin, state, batch) == pytest.approx(loss.item(), rel=1e-10)
    for name in ("what.1.weight", "what.14.bias", "where.4.weight", "where.15.bias", "where.3.bias"):
        parameter, own = method.weigh.get_parameter(name), twin.weigh.get_parameter(name)
        nudge = 1e-4 * parameter.grad / parameter.grad.norm()
        slope = []
        for sign in (1, -1):
            own.data.add_(sign * nudge)
            slope.append(judged(twin, state, batch))
            own.data.sub_(sign * nudge)
        slope = (slope[0] - slope[1]) / 2e-4
        assert slope > 1e-7
        assert parameter.grad.norm().item() == pytest.approx(slope, rel=1e-4)


def test_looking_ahead_leaves_all_as_it_is():
    method = L2TWW(make_problem(), L2TWW.Config())
    method.step(0)
    x, y = next(method.target)
    maps = method.maps(method.teacher, x)
    before = copy.deepcopy(method.state_dict())
    loss = method.unrolled_loss(maps, method.weigh([maps[m] for m, _ in method.pairs]), x, y)
    loss.backward(inputs=list(method.weigh.parameters()))
    after = method.state_dict()
    for part in ("net", "bridges"):
        assert all(torch.equal(v, after[part][k]) for k, v in before[part].items())
    velocities, now = before["optimizer"]["state"], after["optimizer"]["state"]
    assert velocities.keys() == now.keys()
    assert all(torch.equal(v["momentum_buffer"], now[k]["momentum_buffer"]) for k, v in velocities.items())
    assert all(p.grad is None for p in method.student.parameters())
    assert method.net.training
    assert all(norm.track_running_stats for norm in method.net.norms)


def test_a_step_trains_the_student_once():
    """By both losses, with the weights from before the step; norms see the batch once."""
    method, twin = (L2TWW(make_problem(), L2TWW.Config(beta=0.7)) for _ in range(2))
    x, y = next(twin.target)
    maps = twin.teacher.tapped(x)[1]
    loss = F.cross_entropy(twin.net.target(x), y)
    with torch.no_grad():
        state = copy.deepcopy(twin.net.state_dict())
        weights = twin.weigh([maps[m] for m, _ in twin.pairs])
    for (m, n), bridge, (what, where) in zip(twin.pairs, twin.bridges, weights, strict=True):
        own = twin.net.tapped(x)[1][n]
        distance = (F.interpolate(maps[m], own.shape[2:], mode="bilinear") - bridge(own)).square()
        loss = loss + 0.7 * (where[:, None, None, None] * what[:, :, None, None] * distance).sum() / (
            len(x) * own.shape[2] * own.shape[3]
        )
    loss.backward()
    twin.optimizer.step()
    metrics = method.step(0)
    assert (metrics["loss"] + metrics["matching"]).item() == pytest.approx(loss.item(), rel=1e-5)
    for (name, p), own in zip(method.student.named_parameters(), twin.student.parameters(), strict=True):
        assert torch.allclose(p, own, atol=1e-6), name
    assert all(torch.equal(v, method.net.state_dict()[k]) for k, v in state.items() if "running" in k)
    assert {int(norm.num_batches_tracked) for norm in method.net.norms} == {1}
    assert all(p.grad is None for p in method.student.parameters())


def test_only_the_weights_of_channels_and_pairs_are_meta_learned():
    method = L2TWW(make_problem(), L2TWW.Config(meta_lr=0.01, meta_weight_decay=0.0))
    before = {k: v.clone() for k, v in method.weigh.state_dict().items()}
    teacher = {k: v.clone() for k, v in method.teacher.state_dict().items()}
    method.step(0)
    for name, value in method.weigh.state_dict().items():
        moved = (value - before[name]).abs()
        assert moved.max().item() == pytest.approx(0.01, rel=1e-2), name  # Adam's first step
    assert all(torch.equal(v, method.teacher.state_dict()[k]) for k, v in teacher.items())


def test_a_worked_matching_loss():
    """Two images, one place, channels 2 of the teacher and 1 of the student."""
    (bridge,) = bridges = connectors([(2, 1)])
    bridge.weight.data = torch.tensor([2.0, -1.0]).view(2, 1, 1, 1)
    bridge.bias.data = torch.tensor([0.0, 1.0])
    teacher = torch.tensor([[1.0, 2.0], [3.0, 0.0]]).view(2, 2, 1, 1)
    student = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)  # seen as [2, 0] and [4, -1]
    what, where = torch.tensor([[0.5, 0.5], [0.25, 0.75]]), torch.tensor([1.0, 6.0])
    # image 1: .5 (1-2)^2 + .5 (2-0)^2 = 2.5; image 2: .25 (3-4)^2 + .75 (0+1)^2 = 1, six times
    got = matching_loss([teacher], [student], bridges, [(what, where)])
    assert got.item() == pytest.approx((2.5 + 6) / 2)
    twice = matching_loss([teacher] * 2, [student] * 2, nn.ModuleList([bridge] * 2), [(what, where)] * 2)
    assert twice.item() == pytest.approx(2.5 + 6)


def test_a_teacher_map_is_resized_to_the_student_map():
    bridges = nn.ModuleList([nn.Identity()])
    teacher, one = torch.arange(16.0).view(1, 1, 4, 4), [(torch.ones(1, 1), torch.ones(1))]
    student = torch.tensor([[2.5, 4.5], [10.5, 14.5]]).view(1, 1, 2, 2)  # means of four, the last 2 too high
    assert matching_loss([teacher], [student], bridges, one).item() == pytest.approx(4 / 4)
    assert matching_loss([torch.ones(1, 1, 1, 1)], [torch.zeros(1, 1, 2, 2)], bridges, one).item() == 1


def test_channels_start_alike_and_pairs_at_about_one():
    weigh = WhatWhere([4, 2])
    maps = [torch.randn(3, C, 5, 5, generator=torch.Generator().manual_seed(0)) for C in (4, 2)]
    for (what, where), C, layer, map_ in zip(weigh(maps), (4, 2), weigh.where, maps, strict=True):
        assert torch.equal(what, torch.full((3, C), 1 / C))
        expected = 1 + map_.mean((2, 3)) @ layer.weight[0]
        assert torch.allclose(where, expected.clamp(0, 6))
    for bias, clipped in ((9.0, 6.0), (-9.0, 0.0)):
        weigh.where[0].bias.data.fill_(bias)
        assert weigh(maps)[0][1].tolist() == [clipped] * 3


def test_the_pairs_of_stages():
    assert Pairing.all_all.pairs(2, 3) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert Pairing.one_to_one.pairs(4, 4) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert Pairing.one_to_one.pairs(2, 4) == [(0, 2), (1, 3)]
    assert Pairing.single.pairs(2, 4) == [(1, 3)]
    assert len(L2TWW(make_problem(), L2TWW.Config(num_stages=3)).pairs) == 9


@pytest.fixture(scope="module")
def residual():
    """Networks of a run with ResNet-10, as `make_problem` makes them."""
    config = SimpleNamespace(backbone="resnet10t", backbone_options={"drop_path_rate": 0.1}, recipe=Recipe())
    shared = {"pretrained": False, "checkpoint": None, "seed": 0, "role": Role.run, "bn": Norms.shared}
    vars(config).update(shared)
    target = SimpleNamespace(classes=("a", "b", "c"))
    return _network_maker(config, None, target, torch.device("cpu"), None)


def test_in_a_residual_network_the_stem_is_left_out(residual):
    method = L2TWW(replace(make_problem(), network=residual), L2TWW.Config(student="small"))
    assert type(method.net.encoder) is SmallEncoder  # whose four maps are all taken
    assert [b.in_channels for b in method.bridges[:4]] == [16, 32, 64, 128]
    assert [b.out_channels for b in method.bridges[::4]] == [64, 128, 256, 512]
    assert method.net.training
    assert not any(m.training for m in method.teacher.modules())


def test_features_and_maps_come_of_one_pass(residual):
    encoders = (SmallEncoder(), DigitsCNN(*DIGITS_CNNS["digits_cnn"]))
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for net, num_maps in zip((*(Network(e, 0, 3) for e in encoders), residual()), (4, 2, 5), strict=True):
        feature, maps = net.eval().tapped(x)
        assert torch.equal(feature, net.features(x))
        assert len(maps) == num_maps
        assert all(torch.equal(a, b) and a.requires_grad for a, b in zip(maps, net.stages(x), strict=True))


def test_a_student_of_fewer_stages():
    student = lambda: DigitsCNN(*DIGITS_CNNS["digits_cnn"])  # noqa: E731
    problem = make_problem()
    networks = lambda pretrained=True, backbone="": (  # noqa: E731
        Network(student(), 4, 3) if backbone else problem.network(pretrained)
    )
    split = replace(problem.target, augment=replace(problem.target.augment, image_size=32))
    method = L2TWW(replace(problem, target=split, network=networks), L2TWW.Config(student="digits_cnn"))
    assert method.pairs == [(m, n) for m in range(4) for n in range(2)]
    assert all(torch.isfinite(value) for value in method.step(0).values())


def test_what_cannot_be_differentiated_is_refused():
    problem = make_problem()
    assert L2TWW.why_incompatible(problem) == ""
    adam = replace(problem.recipe, optimizer=OptimizerName.adam)
    assert "steps of SGD, and the recipe's optimizer is adam" in L2TWW.why_incompatible(
        replace(problem, recipe=adam)
    )
    assert "compiled" in L2TWW.why_incompatible(
        replace(problem, recipe=replace(problem.recipe, compile=True))
    )
    hard = SimpleNamespace(encoder=nn.Sequential(nn.Conv2d(3, 4, 1), nn.Hardsigmoid()))
    networks = lambda pretrained=True, backbone="": hard if backbone == "hard" else problem.network()  # noqa: E731
    with pytest.raises(InputError, match="method.student=hard: a hard sigmoid"):
        L2TWW(replace(problem, network=networks), L2TWW.Config(student="hard"))
    with pytest.raises(InputError, match="inner_steps=0: expected 1 or more"):
        L2TWW.Config(inner_steps=0).resolved()


@pytest.mark.parametrize(("momentum", "largest"), [(0.0, 0.0), (0.9, 0.0), (0.9, 0.5), (0.9, 1e9)])
def test_a_thought_step_is_that_of_sgd(momentum, largest):
    """Without momentum there is no velocity to start from; a second group has a rate of its own."""
    x = torch.tensor([[1.0, -2.0]]).double()
    module = nn.Linear(2, 1).double()
    twin = copy.deepcopy(module)
    optimizer, real = (
        torch.optim.SGD(
            [
                {"params": [m.weight], "weight_decay": 0.5, "clip_grad": largest},
                {"params": [m.bias], "lr": 0.3, "clip_grad": largest},
            ],
            0.1,
            momentum,
        )
        for m in (module, twin)
    )
    ahead = Unrolled(module, optimizer)
    for _ in range(3):
        ahead.step(lambda: module(x).square().sum())
        real.zero_grad()
        twin(x).square().sum().backward()
        if largest:
            nn.utils.clip_grad_norm_(twin.parameters(), largest)
        real.step()
    assert ahead.at(lambda: module(x)).item() == pytest.approx(twin(x).item(), rel=1e-5 if largest else 1e-12)
    assert not any(optimizer.state.values())


def digits() -> Split:
    """Give 512 handwritten digits at 16 px."""
    data = load_digits()
    images = torch.from_numpy(15 * data.images[:512]).byte().repeat_interleave(2, 1).repeat_interleave(2, 2)
    pixels = MemoryPixels(images[:, None].repeat(1, 3, 1, 1), torch.ones(512))
    labels, names = torch.from_numpy(data.target[:512]).long(), tuple("0123456789")
    return Split("digits", names, pixels, labels, torch.arange(512), Augment(16, 0.8, False, mean_std="half"))


def test_pairs_that_match_count_most_when_teacher_and_student_are_the_same():
    """A trained network is both; connectors of a stage to itself start at the identity, others at random."""
    torch.manual_seed(0)
    net = Network(Narrow(6, 8, 10, 12), 0, 10, split_norms=False)
    problem = replace(toy_problem(recipe={"batch_size": 32, "weight_decay": 0.0}), target=digits())
    base = Scratch(replace(problem, network=lambda **_: net), None)
    for t in range(120):
        base.step(t)
    recipe = replace(problem.recipe, batch_size=16, lr=0.05)
    same = replace(problem, recipe=recipe, network=lambda **_: copy.deepcopy(net))
    method = L2TWW(same, L2TWW.Config(meta_lr=0.02))
    matches = torch.tensor([m == n for m, n in method.pairs])
    for index in matches.nonzero()[:, 0].tolist():
        nn.init.dirac_(method.bridges[index].weight)
        nn.init.zeros_(method.bridges[index].bias)

    def share() -> float:
        """How many times as much the pairs that match count as the others."""
        x, _ = next(same.target.batches(64))
        maps = method.maps(method.teacher, x)
        where = torch.stack([w.mean() for _, w in method.weigh([maps[m] for m, _ in method.pairs])])
        return (where[matches].mean() / where[~matches].mean()).item()

    assert 0.8 < share() < 1.2
    for t in range(20):
        method.step(t)
    assert share() > 1.8
