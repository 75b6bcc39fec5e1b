"""Which source classes are near: class means, and transport between them, against independent figures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from near_pair import build_near
from scipy.optimize import minimize
from scipy.stats import wasserstein_distance
from sklearn.metrics import roc_auc_score
from transferbench import InputError
from transferbench.methods.components.class_means import best_classes, class_means
from transferbench.methods.components.joint import Chosen
from transferbench.methods.datl import Init
from transferbench.methods.emd import EMD, earth_movers_distance
from transferbench.methods.pretrain import Matcher
from transferbench.methods.uot import UOT, unbalanced_plan


@pytest.fixture(scope="module")
def near_problem(config_of, built_of):
    return build_near(config_of, built_of)


def is_digit(problem):
    return torch.tensor([name.isdigit() for name in problem.source.classes])


def test_class_means_are_those_of_each_class_alone(near_problem):
    net, split = near_problem.network(), near_problem.target
    split = split.subset(torch.nonzero(split.labels != 3)[:, 0])
    mean, count = class_means(net, split, batch_size=7)
    assert net.training  # put back
    net.eval()
    for c in range(10):
        rows = torch.nonzero(split.labels == c)[:, 0]
        assert count[c] == len(rows) == (0 if c == 3 else 20)
        if len(rows):
            ((x, _),) = split.subset(rows).batches(100)
            assert torch.allclose(mean[c], net.features(x).double().mean(0), atol=1e-5)
    assert not mean[3].any()


def test_several_labels_have_no_class_means(near_problem):
    split = near_problem.target
    split = replace(split, labels=torch.nn.functional.one_hot(split.labels).float())
    with pytest.raises(InputError, match="several labels; expected one class each"):
        class_means(near_problem.network(), split, 8)
    assert "several labels" in UOT.why_incompatible(replace(near_problem, target=split))
    assert UOT.why_incompatible(near_problem) == ""


def test_the_best_classes_are_kept():
    score = torch.tensor([0.1, 3.0, -torch.inf, 2.0, 2.0])
    assert best_classes(score, 0.4).tolist() == [0, 1, 0, 1, 0]
    assert best_classes(score, 0.6).tolist() == [0, 1, 0, 1, 1]
    assert best_classes(score, 0.01).tolist() == [0, 1, 0, 0, 0]
    assert best_classes(score, 1).tolist() == [1, 1, 0, 1, 1]  # never one without an image


def test_chosen_images_alone_are_drawn_and_the_choice_is_saved(near_problem):
    def labels(stream):
        return torch.cat([next(stream)[1] for _ in range(10)])

    stream = Chosen(near_problem.source, 16, seed=0)
    weight = torch.zeros(94)
    weight[[5, 70]] = torch.tensor([0.2, 3.0])
    stream.choose_classes(weight)
    assert labels(stream).unique().tolist() == [5, 70]
    assert stream.num_images == 160
    resumed = Chosen(near_problem.source, 16, seed=0)
    resumed.load_state_dict(stream.state_dict())
    assert resumed.num_images == 160
    assert torch.equal(labels(stream), labels(resumed))


def test_the_unbalanced_plan_is_the_objectives_minimum():
    """A general minimiser finds the same plan, at masses that are not all one."""
    cost = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)).double() * 5
    mass_S, mass_T = torch.tensor([1.0, 2.0, 0.5, 1.0]).double(), torch.tensor([1.0, 1.0, 0.3]).double()

    def divergence(a, b):
        return (a * (a / b).log() - a + b).sum()

    def objective(log_plan):
        plan = torch.tensor(log_plan).reshape(4, 3).requires_grad_()
        p = plan.exp()
        value = (cost * p).sum() + (p * (plan - 1)).sum()
        value = value + 1 * divergence(p.sum(1), mass_S) + 100 * divergence(p.sum(0), mass_T)
        (gradient,) = torch.autograd.grad(value, plan)
        return value.item(), gradient.numpy().ravel()

    found = minimize(objective, np.zeros(12), jac=True, method="BFGS", options={"gtol": 1e-8})
    expected = torch.tensor(np.exp(found.x)).reshape(4, 3)
    assert torch.allclose(unbalanced_plan(cost, mass_S, mass_T), expected, rtol=1e-5, atol=1e-8)


def test_the_unbalanced_plan_of_pot():
    """Row sums that POT 0.9.7 gives: sinkhorn_unbalanced(ones, ones, cost, reg=1, reg_m=(1, 100))."""
    cost = torch.tensor([[0.0, 4.0], [2.0, 1.0], [9.0, 7.0]]).double()
    plan = unbalanced_plan(cost, torch.ones(3).double(), torch.ones(2).double())
    assert plan.sum(1).tolist() == pytest.approx([0.9362048, 1.00827969, 0.0484113], abs=1e-6)


def test_a_class_without_mass_is_sent_none():
    cost = torch.zeros(3, 2).double()
    plan = unbalanced_plan(cost, torch.tensor([1.0, 0.0, 1.0]).double(), torch.ones(2).double())
    assert plan.isfinite().all()
    assert plan.sum(1).tolist() == pytest.approx([0.99, 0.0, 0.99], abs=0.02)


def test_uot_finds_the_printed_digits_for_the_written_ones(near_problem):
    method = UOT(near_problem, UOT.Config(kept_share=0.2))
    assert roc_auc_score(is_digit(near_problem), method.importance()) > 0.75
    method.prepare()
    kept = method.class_weights() > 0
    assert kept.sum() == 19
    assert torch.equal(method.source.rows, torch.nonzero(kept[near_problem.source.labels])[:, 0])


def test_a_class_without_an_image_is_never_kept(near_problem):
    rows = torch.nonzero(near_problem.source.labels > 40)[:, 0]
    method = UOT(replace(near_problem, source=near_problem.source.subset(rows)), UOT.Config(kept_share=1))
    method.prepare()
    assert torch.equal(method.class_weights() > 0, torch.arange(94) > 40)


def test_the_source_loss_is_scaled(near_problem):
    """One step of plain SGD moves the source head by the scale times its gradient."""
    moved = []
    for scale in (0.5, 2.0):
        problem = replace(near_problem, recipe=replace(near_problem.recipe, weight_decay=0.0, lr=1.0))
        method = UOT(problem, UOT.Config(scale=scale))
        before = method.net.source_head.weight.detach().clone()
        method.step(0)
        moved.append(method.net.source_head.weight.detach() - before)
    assert torch.allclose(moved[1], 4 * moved[0], atol=1e-6)
    assert moved[0].abs().max() > 1e-4


def test_the_earth_movers_distance_on_a_line():
    """On a line it is the area between the two cumulative distributions."""
    generator = torch.Generator().manual_seed(1)
    place_S, place_T = (torch.rand(n, generator=generator).double() for n in (7, 4))
    mass_S, mass_T = (torch.randint(1, 50, (n,), generator=generator).double() for n in (7, 4))
    got = earth_movers_distance((place_S[:, None] - place_T).abs(), mass_S, mass_T)
    assert got == pytest.approx(wasserstein_distance(place_S, place_T, mass_S, mass_T))


def test_the_earth_movers_distance_by_hand():
    distance = torch.tensor([[1.0, 4.0], [2.0, 3.0], [0.0, 0.0]])
    two = earth_movers_distance(distance, torch.tensor([6.0, 2.0, 0.0]), torch.tensor([1.0, 1.0]))
    assert two == pytest.approx(0.5 * 1 + 0.25 * 4 + 0.25 * 3)  # the class without mass lies nearest
    one = earth_movers_distance(distance[1:2], torch.tensor([9.0]), torch.tensor([3.0, 1.0]))
    assert one == pytest.approx(0.75 * 2 + 0.25 * 3)


def test_emd_ranks_each_class_alone_and_pretrains_on_the_nearest(near_problem):
    asked = []
    rows = torch.nonzero(near_problem.target.labels < 8)[5:, 0]  # uneven classes, and two without an image
    problem = replace(
        near_problem,
        target=near_problem.target.subset(rows),
        pretrain=lambda net, **given: asked.append(given),
    )
    method = EMD(problem, EMD.Config(init=Init.random, specialist_share=0.5, specialist_lr=0.03))
    method.prepare()
    net = problem.network()
    mean_S, _ = class_means(net, problem.source, 64)
    mean_T, count_T = class_means(net, problem.target, 64)
    distance = torch.cdist(mean_S, mean_T)
    alone = [earth_movers_distance(row[None], torch.ones(1), count_T) for row in distance]
    nearest = sorted(range(94), key=alone.__getitem__)[:19]
    weight = method.class_weights()
    assert torch.nonzero(weight)[:, 0].tolist() == sorted(nearest)
    assert asked[0].pop("matcher") is Matcher.same
    assert asked == [
        {
            "class_weights": weight.tolist(),
            "num_samples": 0,
            "from_generalist": False,
            "steps_share": 0.5,
            "lr": 0.03,
        }
    ]
    kept = earth_movers_distance(distance, weight * 50, count_T)
    assert method.similarity[1].item() == pytest.approx(np.exp(-0.01 * kept), abs=1e-5)
    assert method.similarity[1] > method.similarity[0]


@pytest.mark.parametrize("digit", [3, 5])
def test_emd_keeps_the_printed_digit_for_a_target_of_that_digit(near_problem, digit):
    target = near_problem.target.subset(torch.nonzero(near_problem.target.labels == digit)[:, 0])
    method = EMD(replace(near_problem, target=target), EMD.Config(kept_share=0.05))
    method.prepare()
    kept = [near_problem.source.classes[s] for s in torch.nonzero(method.class_weights())[:, 0]]
    assert len(kept) == 5
    assert str(digit) in kept
