"""WiSE-FT and soups: planted means are found, and the choices are those of the papers."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from toy import toy_problem, toy_split
from transferbench.benchmarks.training.evaluate import evaluate
from transferbench.benchmarks.training.run import run_one
from transferbench.methods.base import Problem
from transferbench.methods.components.weight_vectors import (
    Judged,
    best_share,
    flat,
    greedy_soup,
    judge_of,
    predicting,
)
from transferbench.methods.soup import Selection, Soup
from transferbench.methods.wise_ft import WiSEFT


def near(planted_P: Tensor) -> Callable[[Tensor], Judged]:
    """Judge weights by their distance from planted ones."""
    return lambda vector_P: Judged(round(-(vector_P - planted_P).norm().item(), 4), 0.0)


def judged_problem(**changes: object) -> Problem:
    return toy_problem(holdout=toy_split([0, 1, 2] * 10, 3, "holdout"), **changes)


def trained(method: WiSEFT | Soup, steps: int = 8) -> None:
    for t in range(steps):
        method.step(t)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_the_planted_share_is_found(share):
    start_P, end_P = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    assert best_share(start_P, end_P, near(start_P.lerp(end_P, share))) == share


def test_of_equal_shares_the_nearest_to_the_start_is_taken():
    start_P, end_P = torch.zeros(3), torch.ones(3)
    assert best_share(start_P, end_P, lambda vector_P: Judged(1.0, 0.0)) == 0


def test_an_optimum_between_the_ends_is_found_on_holdout_images():
    """Planted: labels of the holdout are the answers of a network halfway between start and end."""
    problem = judged_problem()
    method = WiSEFT(problem, WiSEFT.Config())
    generator, head = torch.Generator().manual_seed(0), method.net.target_head
    method.net.eval()
    with torch.no_grad():
        feature_NF = torch.cat([method.net.features(x) for x, _ in problem.holdout.batches(30)])
        center_F = feature_NF.mean(0)
        planted_CF, way_CF = torch.randn(2, *head.weight.shape, generator=generator)
        planted, way = ((w_CF, -w_CF @ center_F) for w_CF in (planted_CF, 3 * way_CF))  # kernel and bias
        labels = (feature_NF @ planted[0].T + planted[1]).argmax(1)
    method.net.train()
    assert len(labels.unique()) == 3
    method.holdout.split.labels.copy_(labels)
    ends = []
    for sign in (0, -1, 1):
        with torch.no_grad():
            for own, middle, shift in zip((head.weight, head.bias), planted, way, strict=True):
                own.copy_(middle + sign * shift)
        ends.append(flat(predicting(method.net)))
    planted_P, start_P, _ = ends
    method.start_P.copy_(start_P)
    method.average()
    assert method.share.item() == pytest.approx(0.5)
    torch.testing.assert_close(flat(predicting(method.net)), planted_P)


def test_the_mean_is_between_probe_and_fine_tuned_network():
    problem = judged_problem()
    config = WiSEFT.Config(frozen_norms=False)
    method, twin = WiSEFT(problem, config), WiSEFT(problem, config)
    ends = []
    for share in (0.0, 1.0):
        own = WiSEFT(
            replace(problem, controls={"share": torch.tensor(share)}), WiSEFT.Config(frozen_norms=False)
        )
        trained(own)
        ends.append(flat(predicting(own.net)))
    trained(twin, 4)
    assert torch.equal(ends[0], flat(predicting(twin.net)))  # the probe's head on the encoder of the start
    trained(method)
    mean_P = ends[0].lerp(ends[1], method.share.item())
    assert torch.equal(flat(predicting(method.net)), mean_P)
    assert not torch.equal(*ends)
    replayed = WiSEFT(replace(problem, holdout=None, controls=method.controls()), config)
    trained(replayed)
    assert torch.equal(flat(predicting(replayed.net)), mean_P)


def test_the_score_of_the_chosen_mean_is_no_less_than_that_of_its_ends():
    problem = judged_problem(recipe={"steps": 30})
    method = WiSEFT(problem, WiSEFT.Config())
    trained(method, 30)
    score = evaluate(method, problem.holdout, 8)[0]["top1"]
    for share in (0.0, 1.0):
        own = WiSEFT(replace(problem, controls={"share": torch.tensor(share)}), WiSEFT.Config())
        trained(own, 30)
        assert score >= evaluate(own, problem.holdout, 8)[0]["top1"]


def test_a_soup_of_identical_models_is_the_model():
    model_P = torch.randn(20)
    models_KP = model_P.expand(3, -1)
    kept = greedy_soup(models_KP, near(model_P))
    assert kept == [0, 1, 2]
    torch.testing.assert_close(models_KP[kept].mean(0), model_P)


def test_a_greedy_soup_leaves_out_a_model_that_lowers_the_score():
    """Planted: with the second model on the other side the best one comes nearer; the others lead away."""
    planted_P = torch.zeros(4)
    models_KP = torch.stack([planted_P + distance for distance in (0.2, 5.0, -0.1, -0.3)])
    assert greedy_soup(models_KP, near(planted_P)) == [2, 0]


def test_a_broken_model_is_judged_the_worst():
    problem = judged_problem()
    method = Soup(problem, Soup.Config())
    trained(method)
    judge = judge_of(method.net, method.holdout, problem)
    broken_P = torch.full_like(method.models_KP[1], torch.nan)
    assert judge(broken_P) < judge(torch.randn_like(broken_P).abs())
    method.models_KP[1] = broken_P
    assert 1 not in method.selected()


@pytest.mark.parametrize("selection", list(Selection))
def test_a_soup_is_the_mean_of_its_models_and_is_replayed(selection):
    problem = judged_problem(recipe={"steps": 13})
    config = Soup.Config(selection=selection)
    method = Soup(problem, config)
    trained(method, 13)
    assert method.bounds == [3, 5, 8, 11, 13]
    kept = method.kept_K.bool()
    assert kept.all() or selection is Selection.greedy
    mean_P = method.models_KP[kept].mean(0)
    assert torch.equal(flat(predicting(method.net)), mean_P)
    assert len({tuple(model_P.tolist()) for model_P in method.models_KP}) == 4
    replayed = Soup(replace(problem, holdout=None, controls=method.controls()), config)
    trained(replayed, 13)
    assert torch.equal(flat(predicting(replayed.net)), mean_P)


def test_models_start_from_one_probe_at_different_rates():
    problem = judged_problem(recipe={"steps": 10})
    method = Soup(problem, Soup.Config(rate_factor=4.0, num_models=3))
    assert [method.factor(k) for k in range(3)] == pytest.approx([0.25, 1.0, 4.0])
    trained(method, 6)
    start_P = method.start_P.clone()
    method.begin(1)
    assert torch.equal(flat(predicting(method.net)), start_P)
    assert not method.stages.optimizer.state


@pytest.mark.parametrize("name", ["wise_ft", "soup"])
def test_a_run_on_all_labels_replays_the_choice_of_a_first_stage(name, config_of, tmp_path):
    config = config_of(name, "protocol=trainval", "recipe.steps=12")
    done = run_one(config, tmp_path)
    assert done["holdout"] is None
    assert done["test"]["top1"] > 0
    assert done["images"]["holdout"] == 0


def test_the_record_tells_what_was_chosen(config_of, tmp_path):
    given = ("recipe.steps=30", "source_recipe.steps=6")
    names = ("wise_ft", "soup", "surgical")
    found = {name: run_one(config_of(name, *given), tmp_path)["chosen_values"] for name in names}
    assert found["wise_ft"]["share"] in [i / 10 for i in range(11)]
    assert set(found["soup"]["models"]) <= {1, 2, 3, 4}
    assert found["soup"]["models"]
    assert found["surgical"]["part"] in (1, 2, 3)
    soup = Soup(judged_problem(), Soup.Config(probe_share=0.0))
    trained(soup)
    soup.kept_K = torch.tensor([1.0, 0, 0, 1])
    assert soup.chosen_values() == {"models": [1, 4]}
    for name, one in (("soup", "selection=uniform"), ("surgical", "part=2")):
        assert run_one(config_of(name, *given, f"method.{one}"), tmp_path)["chosen_values"] == {}
