"""Surgical fine-tuning and gradual unfreezing: parts by depth, the choice, and which weights change when."""

from dataclasses import replace

import pytest
import timm
import torch
from torch.nn import functional as F
from toy import toy_problem, toy_split, weights_of
from transferbench import InputError
from transferbench.methods.components.stages import by_depth
from transferbench.methods.gradual import Gradual
from transferbench.methods.networks.encoders import DigitsCNN, SmallEncoder
from transferbench.methods.networks.network import evaluation_mode
from transferbench.methods.surgical import Surgical

HEAD = {"target_head.weight", "target_head.bias"}


def names_of_parts(encoder, most):
    names = {id(p): name for name, p in encoder.named_parameters()}
    return [[names[id(p)] for p in part] for part in by_depth(encoder, most)]


def test_parts_are_whole_stages_in_order():
    assert [{n.split(".")[1] for n in part} for part in names_of_parts(SmallEncoder(), 4)] == [
        *map(set, "0123")
    ]
    assert len(by_depth(DigitsCNN((8, 8), (16,)), 4)) == 3
    resnet = names_of_parts(timm.create_model("resnet10t", num_classes=0), 4)
    assert [part[-1].split(".")[0] for part in resnet] == ["layer1", "layer2", "layer3", "layer4"]
    assert resnet[0][0].startswith("conv1")


@pytest.mark.parametrize(
    ("name", "options", "stage"),
    [
        ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}, "stages"),
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1), "embed_dim": 12}, "layers"),
    ],
)
def test_a_last_norm_is_not_a_part_of_its_own(name, options, stage):
    parts = names_of_parts(timm.create_model(name, num_classes=0, **options), 4)
    assert [{n.split(".")[1] for n in part if n.startswith(stage)} for part in parts] == [*map(set, "0123")]
    assert any("norm" in n and not n.startswith(stage) for n in parts[3])


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto", "mobilenetv2_100"])
def test_every_weight_is_in_one_part(name):
    encoder = timm.create_model(name, num_classes=0)
    found = sorted(n for part in names_of_parts(encoder, 4) for n in part)
    assert found == sorted(name for name, _ in encoder.named_parameters())


def changed_in(method, before) -> set[str]:
    return {name for name, p in method.net.named_parameters() if not torch.equal(p, before[name])}


def holdout():
    return replace(toy_problem(), holdout=toy_split([0, 1, 2] * 4, 3, "holdout"))


def test_a_given_part_and_the_head_alone_are_trained():
    method = Surgical(toy_problem(), Surgical.Config(part=2))
    before = weights_of(method.net)
    for t in range(3):
        assert method.step(t)["part"] == 2
    assert changed_in(method, before) == {n for n in before if n.startswith("encoder.stages.1.")} | HEAD


def test_a_part_is_chosen_by_trials_alone():
    few, enough = (replace(holdout(), recipe=replace(toy_problem().recipe, steps=n)) for n in (10, 40))
    assert Surgical(few, Surgical.Config(trial_share=0.2)).chosen_values() == {}
    assert Surgical(enough, Surgical.Config(trial_share=0.2)).chosen_values() == {"part": 1}


def test_trials_start_alike_and_the_best_is_trained_from_the_start_again():
    problem = replace(holdout(), recipe=replace(toy_problem().recipe, steps=40))
    method = Surgical(problem, Surgical.Config(trial_share=0.2))
    before = weights_of(method.net)
    for t in range(8):
        part = method.step(t)["part"].item()
        assert part == t // 2 + 1
        own = {n for n in before if n.startswith(f"encoder.stages.{t // 2}.")}
        assert changed_in(method, before) == own | HEAD
    assert (method.losses > 0).all()
    method.losses.copy_(torch.tensor([3.0, 1.0, 2.0, 4.0]))
    chosen = Surgical(problem, Surgical.Config(part=2))
    method.target.load_state_dict(chosen.target.state_dict())
    method.recipe = chosen.recipe
    for t in range(3):
        assert torch.equal(method.step(8 + t)["loss"], chosen.step(t)["loss"])


def test_a_method_that_is_restored_trains_the_part_that_was_chosen():
    problem = replace(holdout(), recipe=replace(toy_problem().recipe, steps=40))
    method, again = (Surgical(problem, Surgical.Config(trial_share=0.2)) for _ in range(2))
    for t in range(9):
        method.step(t)
    again.load_state_dict(method.state_dict())
    trained = [[name for name, p in m.net.named_parameters() if p.requires_grad] for m in (method, again)]
    assert trained[0] == trained[1]
    assert len(trained[0]) < len(list(method.net.parameters()))


def test_parts_are_judged_on_the_same_images():
    """Batches of eight do not divide twelve images: each is judged once."""
    method = Surgical(replace(holdout(), recipe=replace(toy_problem().recipe, steps=40)), Surgical.Config())
    assert len({method.holdout_loss().item() for _ in range(3)}) == 1
    x, y = next(method.holdout.split.batches(12))
    with evaluation_mode(method.net), torch.no_grad():
        assert method.holdout_loss().item() == pytest.approx(F.cross_entropy(method.net.target(x), y).item())
    with torch.no_grad():
        method.net.target_head.bias[0] = torch.nan
    assert method.holdout_loss() == torch.inf


def test_the_last_part_is_trained_if_there_is_no_step_for_trials():
    assert Surgical(holdout(), Surgical.Config(trial_share=0.2)).step(0)["part"] == 4


def test_a_second_stage_takes_the_choice_of_the_first():
    problem = replace(toy_problem(), controls={"losses": torch.tensor([3.0, 2.0, 1.0, 4.0])})
    method = Surgical(problem, Surgical.Config())
    assert method.step(0)["part"] == 3
    assert torch.equal(method.controls()["losses"], problem.controls["losses"])


def test_settings_that_cannot_be():
    with pytest.raises(InputError, match=r"method\.part=5: expected 0 to 4"):
        Surgical.Config(part=5).resolved()
    with pytest.raises(InputError, match=r"method\.part=6: the backbone has parts 1 to 4"):
        Surgical(toy_problem(), Surgical.Config(part=6, num_parts=9))


def test_gradual_unfreezing_comes_from_the_head_down():
    method = Gradual(toy_problem(), Gradual.Config(share=0.5))  # of 8 steps
    before = weights_of(method.net)
    assert [method.num_trained(t) for t in range(8)] == [0, 1, 2, 3, 4, 4, 4, 4]
    for t in range(4):
        method.step(t)
        own = {n for n in before if n.startswith("encoder.") and int(n.split(".")[2]) >= 4 - t}
        assert changed_in(method, before) == own | HEAD
    assert Gradual(toy_problem(), Gradual.Config(share=0)).num_trained(0) == 4
