"""DVRL's estimator: its loss by hand, its draws, and a reward that is planted."""

from dataclasses import replace
from math import log

import pytest
import torch
from torch.nn import functional as F
from transferbench.methods.dvrl import DVRL, seen, value_loss


@pytest.fixture(scope="module")
def problem(config_of, built_of):
    return built_of(config_of("finetune", "shots=20", "recipe.steps=200", "recipe.batch_size=32")).problem


def test_the_loss_by_hand():
    chance = torch.tensor([0.2, 0.5, 0.9], requires_grad=True)
    loss = value_loss(chance, torch.tensor([1.0, 0.0, 1.0]), torch.tensor(0.3))
    assert loss.item() == pytest.approx(-0.3 * (log(0.2) + log(0.5) + log(0.9)), rel=1e-5)
    loss.backward()
    assert chance.grad.tolist() == pytest.approx([-0.3 / 0.2, 0.3 / 0.5, -0.3 / 0.9], rel=1e-5)


@pytest.mark.parametrize(("chance", "wall"), [(0.96, 60.0), (0.5, 0.0), (0.07, 30.0)])
def test_chances_that_leave_no_choice_cost(chance, wall):
    loss = value_loss(torch.full((4,), chance), torch.ones(4), torch.zeros(()))
    assert loss.item() == pytest.approx(wall, abs=1e-3)


def test_what_is_seen_of_an_image():
    logits = torch.tensor([[0.2, 0.3, 0.5]]).log() + 7
    expected = [0.2, 0.3, 0.5, 0, 1, 0, 0.2, 0.7, 0.5]
    assert seen(logits, torch.tensor([1]))[0].tolist() == pytest.approx(expected, abs=1e-5)


def test_advantages_are_over_the_average_before(problem):
    method = DVRL(problem, DVRL.Config())
    got = [method.advantage(torch.tensor(r)).item() for r in (0.5, 0.7, 0.3)]
    assert got == pytest.approx([0.0, 0.2, 0.3 - 0.51], abs=1e-6)


def test_images_are_taken_by_their_chance(problem):
    method = DVRL(problem, DVRL.Config())
    chance = torch.tensor([0.0, 0.25, 1.0]).repeat(1000)
    taken = method.taken(chance, 0).reshape(-1, 3)
    assert taken.mean(0).tolist() == pytest.approx([0, 0.25, 1], abs=0.06)  # four deviations
    assert torch.equal(method.taken(chance, 3), method.taken(chance, 3))
    assert not torch.equal(method.taken(chance, 3), method.taken(chance, 4))


@pytest.mark.parametrize("chosen", [[0, 3, 4], []])
def test_the_source_loss_counts_what_is_taken(problem, chosen):
    method, twin = (DVRL(problem, DVRL.Config(scale=2.0)) for _ in range(2))
    taken = torch.zeros(32)
    taken[chosen] = 1
    method.taken = lambda chance, t: taken
    x, y = next(twin.source)
    loss = F.cross_entropy(twin.net.source(x), y, reduction="none")
    expected = 2 * loss[chosen].sum().item() / 32
    assert method.step(0)["source_loss"].item() == pytest.approx(expected, rel=1e-5)


def test_a_planted_reward_is_learned(problem):
    """Rewarded for images of even classes, it comes to prefer them, and reports it by class."""
    source = problem.source.subset(torch.nonzero(problem.source.labels < 10)[:, 0])
    method = DVRL(replace(problem, source=source), DVRL.Config())
    stream, drawn = method.source, {}
    method.source = iter(lambda: drawn.setdefault("batch", next(stream)), None)
    take = method.taken
    method.taken = lambda chance, t: drawn.setdefault("taken", take(chance, t))

    def reward():
        sign = 1 - 2 * (drawn.pop("batch")[1] % 2)
        return (drawn.pop("taken") * sign).mean()

    method.reward = reward
    for t in range(100):
        if t == 60:
            method.total_S.zero_()
            method.count_S.zero_()
        method.step(t)
    weight = method.class_weights()[:10]
    assert weight[::2].mean() > weight[1::2].mean() + 0.3
    assert not method.class_weights()[10:].any()


def test_an_estimator_is_replayed(problem):
    learned = DVRL(problem, DVRL.Config())
    learned.step(0)
    controls = learned.controls()
    replayed = replace(problem, holdout=None, controls=controls)
    method = DVRL(replayed, DVRL.Config())
    assert "reward" not in method.step(0)
    assert all(torch.equal(v, controls[k]) for k, v in method.controls().items())
    with pytest.raises(ValueError, match="no holdout images"):
        DVRL(replace(problem, holdout=None), DVRL.Config())
