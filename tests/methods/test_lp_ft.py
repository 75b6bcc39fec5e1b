"""LP-FT: what moves in which stage, and the two schedules."""

import pytest
import torch
from toy import toy_problem, weights_of
from transferbench.methods.finetune import FineTune
from transferbench.methods.lp_ft import LPFT
from transferbench.methods.recipe import Recipe, Schedule


def state_of(method: LPFT) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in method.net.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("frozen_norms", [True, False])
def test_the_head_moves_first_and_then_everything(frozen_norms):
    method = LPFT(toy_problem(), LPFT.Config(probe_share=0.25, frozen_norms=frozen_norms))
    states = [state_of(method)]
    for t in range(3):
        method.step(t)
        states.append(state_of(method))
        assert all(p.grad is None for p in method.net.encoder.parameters())  # nothing piles up in the probe
    head = {"target_head.weight", "target_head.bias"}
    assert changed(states[0], states[1]) == changed(states[1], states[2]) == head
    weights = {name for name in weights_of(method.net) if not name.startswith("source_head")}
    own = {f"encoder.{name}" for name, _ in method.net.encoder.named_buffers()}
    assert changed(states[2], states[3]) == (weights if frozen_norms else weights | own)


def test_the_probe_sees_the_features_as_they_are_judged():
    method = LPFT(toy_problem(), LPFT.Config())
    x = next(toy_problem().target.batches(8))[0]
    logits = method.stages.probed(x)
    method.net.eval()
    assert torch.equal(logits, method.predict(x))


@pytest.mark.parametrize("frozen_norms", [True, False])
def test_modes_are_the_same_before_and_after_a_step(frozen_norms):
    """So that a run that is resumed in any stage is the run that went through."""
    method = LPFT(toy_problem(), LPFT.Config(frozen_norms=frozen_norms))
    modes = [m.training for m in method.net.modules()]
    assert modes.count(False) == (len(method.net.norms) if frozen_norms else 0)
    for t in (0, 4):
        method.step(t)
        assert [m.training for m in method.net.modules()] == modes


def test_each_stage_has_a_whole_schedule(monkeypatch):
    warm = {"steps": 20, "schedule": Schedule.warmup_cosine, "warmup_fraction": 0.5}
    method = LPFT(toy_problem(recipe=warm), LPFT.Config(probe_share=0.2, probe_lr=1.0))
    rates = []
    monkeypatch.setattr(
        "transferbench.methods.components.probe_first.train_step",
        lambda forward, stream, optimizer, rate: rates.append(rate),
    )
    for t in range(20):
        method.step(t)
    assert rates[:4] == pytest.approx([0.5, 1.0, 1.0, 0.5])
    assert rates[4:12] == pytest.approx([0.1 * i / 8 for i in range(1, 9)])
    assert rates[12] == pytest.approx(0.1)
    assert 0 < rates[19] < rates[18] < 0.1


def test_milestones_are_shortened_with_the_steps():
    recipe = Recipe(steps=100, lr=1.0, schedule=Schedule.milestones, milestones=[50, 75])
    stage = recipe.shortened(40)
    assert [stage.lr_at(t) for t in (0, 20, 21, 30, 31, 39)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_without_a_probe_it_is_fine_tuning():
    plain = FineTune(toy_problem(), None)
    method = LPFT(toy_problem(), LPFT.Config(probe_share=0.0, frozen_norms=False))
    assert [plain.step(t)["loss"] for t in range(3)] == [method.step(t)["loss"] for t in range(3)]


def test_the_probe_finds_a_head_that_fits_the_features():
    """Planted: labels are a linear function of features; the fine-tuning starts from a low loss."""
    problem = toy_problem(recipe={"steps": 200, "lr": 1.0})
    method = LPFT(problem, LPFT.Config(probe_share=1.0))
    x, _ = next(problem.target.batches(24))
    method.net.eval()
    planted = method.net.source_head(method.net.features(x))[:, :3].argmax(1)
    method.target.split.labels.copy_(planted)
    assert len(planted.unique()) > 1
    method.stages.train_mode()
    losses = [method.step(t)["loss"].item() for t in range(200)]
    assert sum(losses[-20:]) < 0.6 * sum(losses[:20])


def test_the_probe_counts_as_judging():
    assert LPFT.images_per_step(LPFT.Config(probe_share=0.25), Recipe(batch_size=64)) == (48, 16)


@pytest.mark.parametrize(("probe_lr", "rate"), [(0.0, 0.5 * 4), (0.3, 0.3)])
def test_a_rate_of_the_probe_is_no_multiple_of_the_encoders(probe_lr, rate):
    recipe = {"lr": 0.5, "head_lr_factor": 4.0, "schedule": Schedule.constant}
    method = LPFT(toy_problem(recipe=recipe), LPFT.Config(probe_lr=probe_lr))
    method.step(0)
    assert {group["lr"] for group in method.stages.probe_optimizer.param_groups} == {rate}
