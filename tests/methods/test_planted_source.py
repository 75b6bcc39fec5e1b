"""A source of which half of the classes carry random labels: do the weights tell the halves apart?"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from planted_labels import planted
from sklearn.metrics import roc_auc_score
from torch import Tensor
from transferbench.methods import catalog
from transferbench.methods.base import Method, Problem
from transferbench.methods.datl import importance, label_marginal
from transferbench.methods.networks.network import Network

STEPS = 100
OPTIONS = (f"recipe.steps={STEPS}", "recipe.batch_size=16", "recipe.lr=0.02", "shots=5")


def train(method: Method, steps: int) -> float:
    method.prepare()
    for t in range(steps):
        torch.manual_seed(t)
        loss = method.step(t)["loss"]
    return loss.item()


@pytest.fixture(scope="module")
def stage(config_of: Callable[..., Any], built_of: Callable[..., Any]) -> tuple[Problem, Tensor, Any]:
    """Pre-train on the planted source, and build the target's problem from there."""
    pretraining = config_of("pretrain", "source_recipe.steps=200")
    source_problem = built_of(pretraining).problem
    spoilt_source, clean_S = planted(source_problem.source, seed=1)
    recipe = replace(source_problem.recipe, steps=200, batch_size=32, lr=0.1)
    base = catalog.load("pretrain")(
        replace(source_problem, source=spoilt_source, recipe=recipe), pretraining.settings
    )
    train(base, 200)
    problem = built_of(config_of("l2tl", *OPTIONS)).problem

    def network(pretrained: bool = True) -> Network:
        net = problem.network()
        net.adopt(base.net.state_dict())
        return net

    return replace(problem, source=spoilt_source, network=network), clean_S, config_of


@pytest.mark.parametrize("weights", ["learned", "uniform", "random"])
def test_l2tl_and_its_ablations_run_on_it(stage, weights, capsys):
    problem, clean_S, config_of = stage
    settings = config_of("l2tl", *OPTIONS, f"method.weights={weights}", "method.policy_lr=0.05").settings
    method = catalog.load("l2tl")(problem, settings)
    before = method.policy.weight_logits.detach().clone()
    assert train(method, STEPS) < 2.3
    moved = not torch.equal(before, method.policy.weight_logits.detach())
    assert moved == (weights == "learned")
    if weights == "learned":
        auc = roc_auc_score(clean_S, method.policy.expected()[0])
        with capsys.disabled():
            print(f"\nplanted source, {STEPS} steps: AUC of L2TL's weights {auc:.2f} (0.5: chance)")


def test_datl_weighs_by_the_classifier(stage, capsys):
    problem, clean_S, _ = stage
    p_T = label_marginal(problem.network(), problem.target, 2.0, 32)
    assert p_T.sum().item() == pytest.approx(1, abs=1e-4)
    weight_S = importance(p_T, torch.bincount(problem.source.labels, minlength=94) / len(problem.source))
    auc = roc_auc_score(clean_S, weight_S)
    with capsys.disabled():
        print(f"\nplanted source: AUC of DATL's weights {auc:.2f}")
    # Unsure of an image, the classifier spreads its probability over the classes that it could not
    # learn, and is sure only of few of the others: DATL prefers the spoilt half.
    assert abs(auc - 0.5) > 0.1
