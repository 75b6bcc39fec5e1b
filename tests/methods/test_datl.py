"""DATL's importance weights by hand, and the draws that they steer."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transferbench.datasets.augment import Augment
from transferbench.datasets.base import Split
from transferbench.datasets.pixels import MemoryPixels
from transferbench.methods.base import Problem
from transferbench.methods.datl import DATL, Init, importance, label_marginal
from transferbench.methods.networks.encoders import SmallEncoder
from transferbench.methods.networks.network import Network
from transferbench.methods.pretrain import Matcher, Pretrain, drawn_without_replacement
from transferbench.methods.recipe import Recipe


class ChannelMeans(nn.Module):
    """A source classifier of three classes: a logit is the mean of a color, 0 to 1."""

    def source(self, x: Tensor) -> Tensor:
        assert not self.training
        return x.mean((2, 3))


def split_of(labels: list[int], num_classes: int, colors: Tensor | None = None, name: str = "s") -> Split:
    colors = torch.randint(0, 256, (len(labels), 3)) if colors is None else colors
    pixels = colors.to(torch.uint8)[:, :, None, None].expand(-1, -1, 16, 16)
    return Split(
        name=name,
        classes=tuple(f"c{i}" for i in range(num_classes)),
        pixels=MemoryPixels(pixels, torch.ones(len(labels))),
        labels=torch.tensor(labels),
        index=torch.arange(len(labels)),
        augment=Augment(16, mean_std="none"),
    )


def problem_of(source: Split, target: Split, pretrain: Callable[..., None] | None = None) -> Problem:
    def network(pretrained: bool = True) -> Network:
        torch.manual_seed(0)
        return Network(SmallEncoder(), source.num_classes, target.num_classes)

    return Problem(
        source=source,
        target=target,
        holdout=None,
        recipe=Recipe(steps=4, batch_size=8, image_size=16),
        seed=0,
        device=torch.device("cpu"),
        network=network,
        pretraining_images=0,
        pretrain=pretrain or (lambda *a, **k: pytest.fail("no pre-training was asked for")),
        controls=None,
        score="top1",
    )


@pytest.mark.parametrize("temperature", [0.1, 1.0, 2.0])
def test_label_marginal_averages_probabilities(temperature):
    colors = torch.tensor([[255, 0, 0], [0, 255, 255], [51, 102, 153], [51, 102, 153], [0, 0, 0]])
    net = ChannelMeans()
    got = label_marginal(net, split_of([0] * 5, 1, colors), temperature, batch_size=2)
    raised = np.exp(colors.numpy() / 255 / temperature)
    expected = (raised / raised.sum(1, keepdims=True)).mean(0)
    assert got.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert net.training  # put back


def test_importance_is_the_ratio_of_marginals():
    p_T = torch.tensor([0.5, 0.3, 0.1, 0.1])
    p_S = torch.tensor([0.25, 0.6, 0.0, 0.15])
    assert importance(p_T, p_S).tolist() == pytest.approx([2.0, 0.5, 0.0, 0.666667], abs=1e-6)


def test_a_specialist_is_asked_for_with_the_weights():
    asked: list[dict[str, Any]] = []
    source, target = split_of([0] * 6 + [1] * 3 + [3] * 3, 4), split_of([0, 1] * 5, 2, name="t")
    problem = problem_of(source, target, lambda net, **given: asked.append(given))
    shares = {"specialist_share": 0.5, "specialist_lr": 0.03}
    config = DATL.Config(init=Init.random, matcher=Matcher.elastic, num_samples=7, **shares)
    method = DATL(problem, config)
    assert method.class_weights().tolist() == [0] * 4
    method.prepare()
    p_T = label_marginal(problem.network(), target, 2.0, 4)
    expected = (p_T / torch.tensor([0.5, 0.25, 1.0, 0.25])).tolist()
    weights = method.class_weights().tolist()
    assert weights == pytest.approx([*expected[:2], 0.0, expected[3]], abs=2e-6)
    assert asked == [
        {
            "class_weights": weights,
            "matcher": Matcher.elastic,
            "num_samples": 7,
            "from_generalist": False,
            "steps_share": 0.5,
            "lr": 0.03,
        }
    ]


def test_draws_without_replacement():
    weight = torch.tensor([0.0, 1.0, 3.0]).repeat(100)
    drawn = drawn_without_replacement(weight, 120, seed=0)
    assert len(drawn.unique()) == 120
    assert (weight[drawn] > 0).all()
    assert torch.equal(drawn, drawn_without_replacement(weight, 120, seed=0))
    assert not torch.equal(drawn, drawn_without_replacement(weight, 120, seed=1))
    assert (weight[drawn] == 3).sum() > 75  # 80 to 100 lie in the heavier class; in proportion to size 60


def test_a_heavy_class_is_used_up_before_a_light_one_begins():
    weight = torch.tensor([1e-6, 1e6]).repeat(50)
    drawn = drawn_without_replacement(weight, 60, seed=0)
    assert (weight[drawn] > 1).sum() == 50


def test_first_draws_follow_the_weights():
    weight = torch.tensor([1.0, 3.0])
    first = [drawn_without_replacement(weight, 1, seed).item() for seed in range(1000)]
    assert sum(first) == pytest.approx(750, abs=55)  # four deviations


@pytest.mark.parametrize(("num_samples", "expected"), [(0, 5), (3, 3), (100, 6)])
def test_how_many_are_drawn_without_replacement(num_samples, expected):
    weight = torch.tensor([1.0] * 6 + [0.0] * 4)
    assert len(drawn_without_replacement(weight, num_samples, seed=0)) == expected


@pytest.mark.parametrize("matcher", Matcher)
def test_pretraining_draws_weighted_classes_alone(matcher):
    source = split_of([0, 1, 2, 3] * 20, 4)
    config = Pretrain.Config(class_weights=[0.0, 3.0, 0.0, 1.0], matcher=matcher, num_samples=24)
    stream = Pretrain(problem_of(source, source), config).source
    rows, labels = zip(*(stream.draw() for _ in range(60)), strict=True)
    labels = torch.cat(labels)
    assert set(labels.tolist()) == {1, 3}
    images = stream.split.index[torch.cat(rows)].tolist()
    if matcher is Matcher.same:
        assert (labels == 1).float().mean().item() == pytest.approx(0.75, abs=0.08)
        assert len(set(images)) == 40
    else:
        assert len(set(images)) == 24
        assert {images.count(i) for i in set(images)} == {20}  # by epochs


def test_pretraining_without_weights_draws_every_image():
    source = split_of([0, 1, 2, 3] * 4, 4)
    stream = Pretrain(problem_of(source, source), Pretrain.Config()).source
    assert sorted(torch.cat([stream.draw()[0] for _ in range(2)]).tolist()) == list(range(16))


def test_head_only_pretraining_leaves_the_encoder_as_it_is():
    source = split_of([0, 1, 2, 3] * 4, 4)
    method = Pretrain(problem_of(source, source), Pretrain.Config(head_only=True))
    before = {k: v.clone() for k, v in method.net.state_dict().items()}
    method.step(3)
    changed = {k for k, v in method.net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"source_head.weight", "source_head.bias"}
