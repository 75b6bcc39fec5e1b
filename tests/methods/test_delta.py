"""DELTA's penalty as the sum it stands for, and its attention against filters that are set to zero."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toy import toy_problem, toy_split, weights_of
from transferbench import InputError
from transferbench.methods.base import Problem
from transferbench.methods.delta import DELTA, map_change
from transferbench.methods.networks.channel_attention import (
    attention_of,
    features_and_maps,
    hooked,
    layers_of_stages,
    losses_without,
)
from transferbench.methods.networks.encoders import DIGITS_CNNS, DigitsCNN, SmallEncoder, build_encoder
from transferbench.methods.networks.network import Network

LAYERS = [f"stages.{i}.3" for i in range(4)]


class Opaque(SmallEncoder):
    """Maps are not what any module gives, as in a transformer."""

    def forward_intermediates(self, x):
        last, taps = super().forward_intermediates(x)
        return last, [tap.flip(3) for tap in taps]


class Shared(nn.Module):
    """One activation that runs before a layer and after it, and a map that is changed in place."""

    num_features = 4

    def __init__(self):
        super().__init__()
        self.first, self.second, self.act = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU()

    def forward(self, x):
        return self.act(self.second(self.act(self.first(x).add_(0.1)))).mean((2, 3))


def test_the_change_is_the_published_sum_over_64_images():
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4, 2, 5), (3, 2, 1, 1)]
    new, old = ([torch.randn(s, generator=generator) for s in shapes] for _ in range(2))
    attention = [torch.rand(s[1], generator=generator) for s in shapes]
    total = 0.0
    for layer, (_, C, H, W) in enumerate(shapes):
        for b in range(3):
            for c in range(C):
                distance = torch.norm(new[layer][b, c] - old[layer][b, c]).item() ** 2
                total += 0.5 * C * attention[layer][c].item() / (H * W) * distance
    got = map_change(new, old, tuple(attention))
    assert got.item() == pytest.approx(total * 64 / 3, rel=1e-5)


def test_attention_is_a_softmax_of_standardised_losses():
    loss = np.array([0.1, 0.5, 0.2, 1.2])
    odds = np.exp((loss - loss.mean()) / loss.std() / 5)
    got = attention_of(torch.from_numpy(loss))
    assert got.tolist() == pytest.approx((odds / odds.sum()).tolist())
    assert attention_of(torch.ones(4)).tolist() == pytest.approx([0.25] * 4)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_loss_without_a_filter_is_that_with_its_weights_zero(layer, monkeypatch):
    monkeypatch.setattr("transferbench.methods.networks.channel_attention.IMAGES_AT_ONCE", 8 * 5)
    net = toy_problem().network().eval()
    x, y = next(toy_problem().target.stream(8, 0))
    got = losses_without(net, net.target_head, layer, x, y)
    filters = net.encoder.get_submodule(layer).weight
    expected = []
    with torch.no_grad():
        for j in range(len(filters)):
            own = filters[j].clone()
            filters[j] = 0
            expected.append(F.cross_entropy(net.target(x), y).item())
            filters[j] = own
    assert len(set(expected)) > 3
    assert got.tolist() == pytest.approx(expected, rel=1e-4)


def test_the_layers_are_the_last_convolutions_of_the_stages():
    x = torch.zeros(1, 3, 32, 32)
    small = toy_problem().network().eval()
    assert layers_of_stages(small, x, 4) == layers_of_stages(small, x, 9) == LAYERS
    assert layers_of_stages(small, x, 2) == LAYERS[2:]
    digits = toy_problem(encoder=lambda: DigitsCNN(*DIGITS_CNNS["digits_cnn"])).network()
    assert layers_of_stages(digits, x, 4) == ["convs.0", "convs.3"]
    assert not any(m._forward_hooks for m in small.modules())


@pytest.mark.parametrize(
    ("backbone", "layers"),
    [
        ("resnet18", [f"layer{i}.1.conv2" for i in (1, 2, 3, 4)]),
        ("seresnet18", [f"layer{i}.1.conv2" for i in (1, 2, 3, 4)]),  # not the gates
        ("densenet121", [f"features.denseblock{i}" for i in (1, 2, 3)] + ["features.norm5"]),  # not a branch
    ],
)
def test_the_layers_of_a_backbone_of_timm_have_the_channels_of_its_stages(backbone, layers):
    net = toy_problem(encoder=lambda: build_encoder(backbone, False, None, {})[0]).network().eval()
    x = torch.zeros(1, 3, 64, 64)
    assert layers_of_stages(net, x, 4) == layers
    maps, stages = features_and_maps(net, layers, x)[1], net.stages(x)[-4:]
    assert [m.shape[1] for m in maps] == [m.shape[1] for m in stages]


@pytest.mark.parametrize("layer", ["layer2.0.conv1", "layer1.1", "layer4.1.conv2"])
def test_what_comes_before_a_layer_is_computed_once(layer, monkeypatch):
    net = toy_problem(encoder=lambda: build_encoder("resnet18", False, None, {})[0]).network().eval()
    x, y = next(toy_problem().target.batches(2))
    expected = losses_one_by_one(net, layer, x, y, 3)
    convolve, ran = nn.Conv2d.forward, []
    monkeypatch.setattr(nn.Conv2d, "forward", lambda m, x: ran.append(m) or convolve(m, x))
    assert losses_without(net, net.target_head, layer, x, y)[:3].tolist() == pytest.approx(expected, rel=1e-4)
    assert ran.count(net.encoder.conv1) == 2  # for the number of filters, and for what comes before
    assert "forward" not in vars(net.encoder.conv1)


def test_a_module_is_replayed_as_it_was_and_not_where_it_runs_twice():
    net = toy_problem(encoder=Shared).network().eval()
    x, y = next(toy_problem().target.batches(2))
    got = losses_without(net, net.target_head, "second", x, y)
    assert got.tolist() == pytest.approx(losses_one_by_one(net, "second", x, y, 4), rel=1e-5)


def losses_one_by_one(net: Network, layer: str, x: torch.Tensor, y: torch.Tensor, size: int) -> list[float]:
    """Run the whole network for each of the first filters."""
    losses = []
    for j in range(size):
        without = {layer: lambda m, _, out, j=j: out.index_fill(1, torch.tensor([j]), 0)}
        with torch.no_grad(), hooked(net, without):
            losses.append(F.cross_entropy(net.target(x), y).item())
    return losses


def test_maps_are_taken_on_the_way_to_the_features():
    net = toy_problem().network().eval()
    x, _ = next(toy_problem().target.batches(4))
    feature, maps = features_and_maps(net, LAYERS, x)
    assert torch.equal(feature, net.features(x))
    for i, stage in enumerate(net.encoder.stages):
        assert torch.equal(maps[i], stage[:4](x))
        x = stage(x)


def test_a_backbone_without_maps_is_refused():
    assert DELTA.why_incompatible(toy_problem()) == ""
    assert "maps of convolutions" in DELTA.why_incompatible(toy_problem(encoder=Opaque))
    with pytest.raises(InputError, match="method=delta: .* expected a convolutional backbone"):
        DELTA(toy_problem(encoder=Opaque), DELTA.Config())


def test_prepare_weighs_filters_and_leaves_both_networks_alone():
    method = DELTA(toy_problem(), DELTA.Config(attention_batches=2))
    assert method.attention_Z.tolist() == pytest.approx([1 / c for c in (16, 32, 64, 128) for _ in range(c)])
    before = [{k: v.clone() for k, v in net.state_dict().items()} for net in (method.old, method.net)]
    method.prepare()
    for net, state in zip((method.old, method.net), before, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    parts = method.attention_Z.split(method.widths)
    assert [p.sum().item() for p in parts] == pytest.approx([1.0] * 4)
    assert all(len(p.unique()) > 3 for p in parts)
    uniform = DELTA(toy_problem(), DELTA.Config(attention=False))
    uniform.prepare()
    assert len(uniform.attention_Z.unique()) == 4


def test_attention_is_measured_by_a_head_that_was_fitted():
    method = DELTA(toy_problem(toy_split([0, 1, 2, 2, 2, 2] * 8, 3)), DELTA.Config())
    method.fit_judge()
    x, y = next(method.target.split.batches(48))
    feature = method.old.features(x)
    loss = [F.cross_entropy(h(feature), y).item() for h in (method.old.target_head, method.judge)]
    assert loss[1] < loss[0] - 0.1


def test_a_planted_filter_gets_the_attention():
    """The head sees a single feature: without its filter the loss grows most."""
    method = DELTA(toy_problem(), DELTA.Config())
    head = copy.deepcopy(method.old.target_head)
    x, y = next(toy_problem().target.batches(24))
    feature = method.old.features(x)
    useful = feature.std(0).argmax()
    with torch.no_grad():
        head.weight.zero_()
        head.weight[y[feature[:, useful].argmax()], useful] = 5.0
        y = head(feature).argmax(1)
        attention = attention_of(losses_without(method.old, head, LAYERS[-1], x, y))
    assert attention.argmax() == useful
    assert attention.max() > 5 / 128


def test_the_penalty_of_a_step_is_worked_anew():
    problem = toy_problem(recipe={"lr": 0.01})
    method = DELTA(problem, DELTA.Config(alpha=0.3, beta=0.7, attention=False))
    x, _ = next(problem.target.stream(8, 0))
    old, new = problem.network().eval(), problem.network()
    with torch.no_grad():
        changes = [
            (b - a).square().sum((0, 2, 3)) / a[0, 0].numel()  # C * (1 / C) = 1 for each channel
            for a, b in zip(
                features_and_maps(old, LAYERS, x)[1], features_and_maps(new, LAYERS, x)[1], strict=True
            )
        ]
    size = sum(p.square().sum() for p in new.target_head.parameters()).item()
    expected = 0.3 / 2 * 64 / 8 * sum(c.sum().item() for c in changes) + 0.35 * size
    assert method.step(0)["penalty"].item() == pytest.approx(expected, rel=1e-4)


def test_it_stays_close_to_the_old_maps():
    """From a network whose running statistics are those of its images, as after a pre-training."""
    moved = []
    for alpha in (0.0, 0.1):
        problem = toy_problem(recipe={"lr": 1e-3, "batch_size": 24, "weight_decay": 0.5})
        problem = replace(problem, network=lambda problem=problem: settled(problem))
        method = DELTA(problem, DELTA.Config(alpha=alpha, beta=0.0, attention=False))
        start = weights_of(method.old)
        assert all(group["weight_decay"] == 0 for group in method.optimizer.param_groups)
        for t in range(20):
            method.step(t)
        assert all(torch.equal(p, start[name]) for name, p in weights_of(method.old).items())
        x, _ = next(problem.target.batches(24))
        maps, old_maps = (features_and_maps(net.eval(), LAYERS, x)[1] for net in (method.net, method.old))
        moved.append(sum((a - b).square().mean().item() for a, b in zip(maps, old_maps, strict=True)))
    assert moved[1] < moved[0] / 2


def settled(problem: Problem) -> Network:
    """Let a network's running statistics come to rest."""
    net = problem.network()
    stream = problem.target.stream(24, 1)
    with torch.no_grad():
        for _ in range(40):
            net.features(next(stream)[0])
    return net
