"""LwF's distillation by hand, who answers it, and what it keeps."""

from dataclasses import replace

import pytest
import torch
from toy import toy_problem, toy_split, weights_of
from transferbench.methods.finetune import FineTune
from transferbench.methods.lwf import LwF, distillation


def test_distillation_is_the_divergence_of_softened_answers():
    """At temperature 2 logits (0, 2 ln 3) are odds 1:3, and (0, 0) are even."""
    old = torch.tensor([[0.0, 2 * torch.log(torch.tensor(3.0)).item()], [5.0, 5.0]])
    new = torch.zeros(2, 2)
    of_first = 0.25 * torch.log(torch.tensor(0.5)) + 0.75 * torch.log(torch.tensor(1.5))
    assert distillation(new, old, 2.0).item() == pytest.approx(of_first.item() / 2)
    assert distillation(old + 7, old, 2.0).item() == pytest.approx(0, abs=1e-6)


def test_the_gradient_of_distillation_has_no_factor_of_the_squared_temperature():
    new, old = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    new.requires_grad_()
    distillation(new, old, 3.0).backward()
    expected = ((new / 3).softmax(1) - (old / 3).softmax(1)) / 3 / 5
    torch.testing.assert_close(new.grad, expected)


def test_without_weight_it_is_fine_tuning():
    plain, method = FineTune(toy_problem(), None), LwF(toy_problem(), LwF.Config(weight=0.0))
    assert [plain.step(t)["loss"] for t in range(3)] == [method.step(t)["loss"] for t in range(3)]


def test_the_old_network_never_changes_and_both_heads_learn():
    method = LwF(toy_problem(), LwF.Config())
    old, new = ({k: v.clone() for k, v in net.state_dict().items()} for net in (method.old, method.net))
    method.step(0)
    method.step(1)
    assert all(torch.equal(v, old[k]) for k, v in method.old.state_dict().items())
    moved = {k for k in weights_of(method.net) if not torch.equal(method.net.state_dict()[k], new[k])}
    assert moved == set(weights_of(method.net))


def test_the_old_network_is_asked_about_the_same_crops_in_evaluation_mode():
    method = LwF(toy_problem(), LwF.Config())
    asked = []
    method.old.source, own = lambda x: asked.append(x) or own(x), method.old.source
    method.step(0)
    x, _ = next(toy_problem().target.stream(8, 0))
    assert torch.equal(asked[0], x)
    assert not any(m.training for m in method.old.modules())


def test_it_forgets_less_than_fine_tuning():
    """Planted: how far source answers on target images have drifted from the pre-trained ones."""
    drift = []
    for weight in (0.0, 4.0):
        method = LwF(toy_problem(recipe={"lr": 0.01}), LwF.Config(weight=weight))
        for t in range(40):
            drifted = method.step(t)["distillation"].item()
        drift.append(drifted)
    assert drift[1] < drift[0] / 4


def test_it_says_what_it_cannot_run_on():
    problem = toy_problem()
    assert LwF.why_incompatible(problem) == ""
    assert "no source" in LwF.why_incompatible(replace(problem, source=None))
    labels = toy_split([[0.0, 1.0], [1.0, 1.0]], 2)
    assert "several labels" in LwF.why_incompatible(replace(problem, source=labels))
