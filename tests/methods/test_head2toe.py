"""Head2Toe: the vectors of layers worked anew, the group lasso, what is kept, and a layer that tells."""

from dataclasses import replace

import pytest
import torch
from planted_layer import TELLING, planted_problem
from toy import toy_problem
from transferbench.methods.base import restarted_by
from transferbench.methods.components.moving_average import MovingAverage
from transferbench.methods.head2toe import Head2Toe, group_norms
from transferbench.methods.metrics import top1
from transferbench.methods.networks.encoders import SmallEncoder, build_encoder
from transferbench.methods.networks.network import Network
from transferbench.methods.networks.taps import Taps, pooled, unit_vectors
from transferbench.methods.recipe import OptimizerName


def network_of(backbone: str, **options) -> Network:
    return toy_problem(encoder=lambda: build_encoder(backbone, False, None, options)[0]).network().eval()


@pytest.mark.parametrize(("target_size", "side"), [(27, 3), (47, 3), (48, 4), (147, 9)])
def test_a_map_is_averaged_to_about_the_target_size(target_size, side):
    """[2,3,9,9]: 9, 15, 16 or 49 places a channel, so 3, 3, 4 or 7 a side: windows of 3, 3, 2 or 1."""
    map_ = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    window = 9 // side
    expected = [
        map_[b, c, i * window : (i + 1) * window, j * window : (j + 1) * window].mean()
        for b in range(2)
        for c in range(3)
        for i in range(side)
        for j in range(side)
    ]
    assert torch.allclose(pooled(map_, target_size).flatten(), torch.stack(expected), atol=1e-6)


@pytest.mark.parametrize("target_size", [0, 2, 3, 11])
def test_a_map_of_as_many_channels_is_averaged_as_a_whole(target_size):
    map_ = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(pooled(map_, target_size), map_.mean((2, 3)), atol=1e-6)


def test_sequences_are_averaged_over_neighbours_and_vectors_stay():
    """[1,2,7] and a target of 5: windows of 7 * 2 // 5 = 2 places, and the last place is left out."""
    sequence = torch.arange(14.0).view(1, 2, 7)
    assert pooled(sequence, 5).tolist() == [[0.5, 2.5, 4.5, 7.5, 9.5, 11.5]]
    assert pooled(sequence, 0).tolist() == [[3.0, 10.0]]
    assert torch.equal(pooled(sequence[0], 1), sequence[0])


def test_layers_are_what_convolutions_are_given_and_what_blocks_give():
    problem = toy_problem()
    net = problem.network().eval()
    x, _ = next(problem.target.batches(5))
    taps = Taps.found(net, x, all_layers=True, target_size=64)
    assert taps.names == [
        "stages.0.3",
        "stages.0",
        "stages.1.3",
        "stages.1",
        "stages.2.3",
        "stages.2",
        "stages.3.3",
    ]
    vectors = taps(x)
    assert [v.shape[1] for v in vectors] == taps.widths(x)
    assert torch.equal(vectors[-1], net.features(x))
    with torch.no_grad():
        value = x
        for i, stage in enumerate(net.encoder.stages):
            inner, value = stage[:3](value), stage(value)
            assert torch.allclose(vectors[2 * i], pooled(inner, 64), atol=1e-6)
            assert torch.allclose(vectors[2 * i + 1], pooled(value, 64), atol=1e-6)
    assert not any(m._forward_hooks for m in net.modules())


def test_blocks_alone_are_the_taps_otherwise():
    resnet = network_of("resnet18")
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    taps = Taps.found(resnet, x)
    assert (
        taps.names == [f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)][:-1]
    )  # the last is the features
    assert taps.widths(x) == [64, 64, 128, 128, 256, 256, 512, 512]
    for vector, stage in zip(taps(x)[1:-1:2], resnet.stages(x)[1:], strict=False):
        assert torch.allclose(vector, stage.mean((2, 3)), atol=1e-5)


def test_channels_are_found_where_they_come_last():
    """A transformer's tokens, linear layers on maps, and blocks that give such maps."""
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    vit = network_of("vit_tiny_patch16_224", img_size=32, depth=2)
    assert Taps.found(vit, x).widths(x) == [192, 192, 192]
    convnext = network_of("convnext_tiny", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
    taps = Taps.found(convnext, x, all_layers=True)
    widths = dict(zip(taps.names, taps.widths(x), strict=False))
    assert [widths[f"stages.{i}.blocks.0.mlp.fc1"] for i in range(4)] == [8, 16, 24, 32]
    assert [widths[f"stages.{i}.blocks.0.mlp.fc2"] for i in range(4)] == [32, 64, 96, 128]
    assert widths["stages.1.downsample.1"] == 8
    sizes = {"img_size": 32, "window_size": 2, "embed_dim": 4, "depths": (1,) * 4, "num_heads": (1,) * 4}
    swin = network_of("swin_tiny_patch4_window7_224", **sizes)
    taps = Taps.found(swin, x)
    widths = dict(zip(taps.names, taps.widths(x), strict=False))
    assert [widths[f"layers.{i}.blocks.0"] for i in range(4)] == [4, 8, 16, 32]


def test_vectors_are_of_unit_length_over_the_features_in_use():
    vectors = [torch.tensor([[3.0, 4.0, 5.0], [0.0, 0.0, 2.0]]), torch.tensor([[2.0], [-7.0]])]
    got = unit_vectors(vectors, [torch.tensor([1.0, 1.0, 0.0]), torch.ones(1)])
    assert torch.allclose(got, torch.tensor([[0.6, 0.8, 0, 1], [0, 0, 0, -1]]))


def test_the_sources_logits_are_a_layer():
    problem = toy_problem()
    method = Head2Toe(problem, Head2Toe.Config())
    x, _ = next(problem.target.batches(3))
    assert torch.equal(method.vectors(x)[-1], problem.network().eval().source(x))
    assert method.widths[-2:] == [128, 4]
    assert method.taps.names[-2:] == ["stages.3.3", "stages.3"]
    without = replace(problem, network=lambda: Network(SmallEncoder(), 0, 3))
    assert Head2Toe(without, Head2Toe.Config()).widths == method.widths[:-1]


def test_the_group_lasso_pulls_each_feature_by_its_direction():
    weight = torch.tensor([[3.0, 0.0, 1.0], [4.0, 0.0, 0.0]], requires_grad=True)
    norms = group_norms(weight)
    assert norms.tolist() == [5.0, 0.0, 1.0]
    norms.sum().backward()
    assert torch.allclose(weight.grad, torch.tensor([[0.6, 0.0, 1.0], [0.8, 0.0, 0.0]]))


def test_a_step_takes_the_penalty_along():
    after = []
    for penalty in (0.0, 0.3):
        config = Head2Toe.Config(penalty=penalty, optimizer=OptimizerName.sgd)
        method = Head2Toe(toy_problem(recipe={"lr": 0.1, "weight_decay": 0.5}), config)
        start = method.head.weight.detach().clone()
        method.step(0)
        after.append(method.head.weight.detach())
    expected = 0.1 * 0.3 * start / start.norm(dim=0)
    assert torch.allclose(after[0] - after[1], expected, atol=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.37, 1e-9, 1.0])
def test_exactly_the_share_is_kept_and_the_best(share):
    method = Head2Toe(toy_problem(), Head2Toe.Config(kept_share=share))
    torch.nn.init.ones_(method.head.bias)
    score = method.head.weight.detach().square().sum(0)
    method.select()
    kept = method.kept_F.bool()
    assert kept.sum() == max(1, int(share * len(kept)))
    assert kept.all() or score[kept].min() >= score[~kept].max()
    assert not any(p.any() for p in method.head.parameters())


def test_both_heads_share_the_steps():
    method = Head2Toe(toy_problem(recipe={"steps": 6, "lr": 0.1}), Head2Toe.Config(selection_share=0.5))
    for t in range(3):
        assert method.kept_F.all()
        method.step(t)
    before = method.head.weight.detach().clone()
    method.step(3)
    assert 0 < method.kept_F.sum() < len(method.kept_F)
    assert not torch.equal(before, method.head.weight)
    for t in (4, 5):
        method.step(t)
    used = method.head.weight.abs().sum(0) > 0
    assert not used[method.kept_F == 0].any()
    assert used[method.kept_F == 1].float().mean() > 0.9
    assert torch.equal(method.kept_F.sum(), torch.tensor(float(int(0.1 * len(method.kept_F)))))


def test_each_head_has_the_whole_schedule_and_no_weight_decay():
    recipe = {"steps": 8, "schedule": "warmup_cosine", "warmup_fraction": 0.5}
    method = Head2Toe(toy_problem(recipe=recipe), Head2Toe.Config(selection_share=0.5))
    rates = []
    for t in range(8):
        method.step(t)
        optimizer = method.selection_optimizer if t < 4 else method.optimizer
        rates.append(optimizer.param_groups[0]["lr"])
        assert all(group["weight_decay"] == 0 for group in optimizer.param_groups)
    assert rates == 2 * [0.05, 0.1, 0.1, 0.05]


def test_it_keeps_the_layer_that_tells():
    problem = planted_problem(recipe={"steps": 80, "lr": 0.05})
    method = Head2Toe(problem, Head2Toe.Config(kept_share=4 / 30, penalty=1e-3, target_size=0))
    assert TELLING in method.taps.names
    for t in range(80):
        method.step(t)
    by_layer = dict(zip(method.taps.names, method.kept_F.split(method.widths), strict=False))
    assert by_layer[TELLING].sum() == method.kept_F.sum() > 0
    x, y = next(problem.target.batches(36))
    assert top1(method.predict(x), y) > 0.95


def test_an_average_of_weights_begins_anew_with_the_selected_features():
    method = Head2Toe(toy_problem(recipe={"steps": 6, "lr": 0.1}), Head2Toe.Config(selection_share=0.5))
    average = MovingAverage(method.predicting(), 0.99)
    for t in range(6):
        with restarted_by(average.restart):
            method.step(t)
        average.update()
    with average.swapped():
        assert not (method.kept_F * (1 - method.kept_F)).any()
        assert not method.head.weight[:, method.kept_F == 0].any()
