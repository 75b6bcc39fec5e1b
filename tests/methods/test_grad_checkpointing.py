"""Activations that are computed again for gradients: the same training, in less memory."""

import pytest
import torch
from lives import COSTLY
from suited import TRANSFORMER
from transferbench import InputError
from transferbench.benchmarks.launch.memory import step_bytes
from transferbench.benchmarks.launch.plan import why_incompatible
from transferbench.methods import catalog

SETTING = "recipe.grad_checkpointing=true"
TWICE = ("l2t_ww", "meta_weights", "reweight")  # which take second derivatives
OTHER = ("delta", "spottune", "stochnorm")  # which need another network
NAMES = [
    name
    for name in catalog.names()
    if not catalog.load(name).closed_form and name not in ("pretrain", *TWICE, *OTHER)
]


def trained(method):
    method.prepare()
    losses = []
    for t in range(3):
        torch.manual_seed(t)  # of masks that the network draws
        losses.append(method.step(t)["loss"].item())
    return losses, method.net.state_dict()


@pytest.mark.parametrize(
    ("name", "given"), [*((name, ()) for name in NAMES), ("finetune", ("recipe.drop_path=0.3",))]
)
def test_it_trains_the_same(build, name, given):
    given = [*TRANSFORMER, "recipe.steps=6", *COSTLY.get(name, ()), *given]
    kept, again = (trained(build(name, *given, *more)) for more in ((), (SETTING,)))
    assert again[0] == pytest.approx(kept[0], rel=1e-5)
    torch.testing.assert_close(again[1], kept[1], atol=1e-5, rtol=1e-4)


def test_a_step_of_a_deep_network_takes_less_memory(config_of):
    deep = ("backbone_options.depth=12", "recipe.batch_size=32")
    kept, again = (step_bytes(config_of("finetune", *TRANSFORMER, *deep, *more)) for more in ((), (SETTING,)))
    assert again < 0.5 * kept


def test_second_derivatives_do_not_go_through_it(config_of, results):
    rows = [config_of(name, *TRANSFORMER, SETTING, *COSTLY.get(name, ())) for name in ("finetune", *TWICE)]
    found = why_incompatible(rows, results).values()
    assert {config.method for config, _ in found} == set(TWICE)
    assert {reason for _, reason in found} == {"second derivatives do not go through recomputed activations"}


@pytest.mark.parametrize(
    ("backbone", "words"),
    [("resnet10t", "batch norms of resnet10t would count each batch twice"), ("tiny", "batch norms of tiny")],
)
def test_batch_norms_are_refused(build, backbone, words):
    with pytest.raises(InputError, match=f"{SETTING}: {words}"):
        build("finetune", f"backbone={backbone}", SETTING)


def test_a_network_that_cannot_is_refused(build):
    with pytest.raises(InputError, match=f"{SETTING}: vgg11 does not support it; expected false"):
        build("finetune", "backbone=vgg11", SETTING)


def test_a_digest_does_not_know_its_absence(config_of):
    assert "grad_checkpointing" not in config_of("finetune").resolved()["recipe"]
