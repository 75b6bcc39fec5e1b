"""L2TL, DVRL and DoGE against numbers and constants of their released code.

The numbers of L2TL are those of its code of 2020 under TensorFlow 2.15 for 12 steps.
"""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from toy import toy_problem, toy_split
from transferbench.benchmarks.config.compose import compose_request, rows
from transferbench.methods import doge
from transferbench.methods.base import Problem
from transferbench.methods.dvrl import DVRL, value_loss
from transferbench.methods.finetune import FineTune
from transferbench.methods.l2tl import L2TL
from transferbench.methods.l2tl_policy.reinforce import Policy, PolicyConfig
from transferbench.methods.l2tl_policy.settings import Normalizer, Preset, Settings, policy_config
from transferbench.methods.networks.encoders import DIGITS_CNNS, DigitsCNN
from transferbench.methods.networks.network import Network
from transferbench.methods.recipe import Recipe, Schedule
from transferbench.methods.scratch import Scratch

SAMPLE = [
    [50, 13, 50, 2, 35, 97, 23, 25, 83, 20],
    [37, 42, 35, 44, 38, 71, 94, 77, 15, 89],
    [39, 98, 85, 31, 93, 36, 51, 20, 77, 69],
    [64, 57, 96, 49, 54, 31, 64, 68, 41, 46],
    [41, 86, 37, 8, 86, 79, 76, 5, 68, 67],
    [10, 83, 17, 71, 64, 60, 94, 77, 20, 80],
    [64, 40, 2, 51, 72, 72, 62, 74, 42, 15],
    [26, 27, 65, 50, 64, 68, 17, 90, 47, 8],
    [65, 47, 75, 90, 35, 81, 20, 36, 55, 89],
    [69, 33, 93, 62, 27, 56, 82, 94, 24, 54],
    [33, 52, 3, 39, 25, 58, 54, 11, 81, 39],
    [21, 70, 17, 88, 63, 12, 76, 24, 42, 74],
]
ALPHA = [44, 14, 76, 17, 69, 11, 65, 27, 30, 21, 76, 35]
REWARD = [0.15625, 0.125, 0.21875, 0.25, 0.28125, 0.25, 0.21875, 0.21875, 0.21875, 0.21875, 0.28125, 0.15625]
ADVANTAGE = [
    0.0,
    -0.01480263,
    0.04981551,
    0.05749309,
    0.06707254,
    0.02817729,
    -0.00248374,
    -0.00204763,
    -0.00171335,
    -0.00145029,
    0.05215281,
    -0.06269525,
]
LOGP = [
    -9.21034,
    -9.21034,
    -9.210047,
    -9.210237,
    -9.210764,
    -9.213859,
    -9.20895,
    -9.211196,
    -9.214509,
    -9.215044,
    -9.135656,
    -9.203792,
]
Z_ROW0 = [
    -0.05023,
    -0.043098,
    0.041443,
    0.032917,
    0.024448,
    0.0129,
    0.032917,
    -0.055579,
    -0.056256,
    -0.055742,
    -0.033068,
    -0.052804,
]  # of class 0, at each step's action, after 12 steps
Z_SCALE = [
    -0.050261,
    -0.043106,
    0.047112,
    0.034055,
    0.02454,
    0.012971,
    -0.053412,
    -0.055585,
    -0.056276,
    -0.05577,
    0.047112,
    -0.05283,
]


def config_of_2020() -> PolicyConfig:
    return policy_config(Settings(preset=Preset.code_svhn).resolved(), 1200)


def test_policy_as_in_the_released_code():
    policy = Policy(10, config_of_2020(), 0, torch.device("cpu"))
    for t in range(12):
        actions = torch.tensor(SAMPLE[t]), torch.tensor([ALPHA[t]])
        logp = policy.log_prob(actions)
        assert logp.item() == pytest.approx(LOGP[t], abs=3e-5)
        assert policy.reinforce(logp, torch.tensor(REWARD[t])).item() == pytest.approx(ADVANTAGE[t], abs=1e-7)
    rows = torch.tensor([s[0] for s in SAMPLE])
    assert policy.weight_logits.detach()[0, rows].tolist() == pytest.approx(Z_ROW0, rel=1e-4)
    assert policy.scale_logits.detach()[torch.tensor(ALPHA)].tolist() == pytest.approx(Z_SCALE, rel=1e-4)


def test_rates_fall_after_their_milestone():
    """`piecewise_constant` keeps the first value up to its boundary, and at it."""
    recipe = Recipe(steps=1200, lr=0.005, schedule=Schedule.milestones, milestones=[800])
    assert recipe.lr_at(800) == pytest.approx(0.005)
    assert recipe.lr_at(801) == pytest.approx(0.0005)


def test_the_policy_rate_falls_after_its_step():
    policy, rates = Policy(2, replace(config_of_2020(), lr_decay_step=3), 0, torch.device("cpu")), []
    for t in range(5):
        policy.reinforce(policy.log_prob((torch.tensor([1, 2]), torch.tensor([0]))), torch.tensor(0.1 * t))
        assert policy.optimizer is not None
        rates.append(policy.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.01, 0.01, 0.01, 0.01, 0.001])


@pytest.mark.parametrize(("weight", "expected"), [([0.5, 0.0], 1.7550813), ([0.0, 0.0], 2.0)])
def test_no_weight_of_a_softmax_is_zero(weight, expected):
    config = Settings(preset=Preset.code_svhn_2019, normalizer=Normalizer.softmax).resolved()
    loss = L2TL.source_loss(SimpleNamespace(config=config), torch.tensor([1.0, 3.0]), torch.tensor(weight))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", list(DIGITS_CNNS))
def test_first_kernels_of_the_digits_network_start_as_in_the_released_code(name):
    """Glorot uniform with one gray channel: 5 x 5 x 1 x 32."""
    torch.manual_seed(0)
    kernels = torch.cat([DigitsCNN(*DIGITS_CNNS[name]).convs[0].weight.sum(1) for _ in range(20)])
    assert kernels.std().item() == pytest.approx((2 / (25 + 25 * 32)) ** 0.5, rel=0.03)


@pytest.mark.parametrize("name", list(DIGITS_CNNS))
def test_first_kernels_of_the_digits_network_move_as_in_the_released_code(name):
    """On a gray image, the kernel moves by the rate times its gradient, as with one channel."""
    torch.manual_seed(0)
    net = DigitsCNN(*DIGITS_CNNS[name])
    first = net.convs[0]
    x = torch.rand(4, 1, 32, 32).expand(-1, 3, -1, -1)
    net(x).square().sum().backward()
    before, slope = first.weight.detach().sum(1), first.weight.grad[:, 0]
    torch.optim.SGD(net.parameters(), 1e-3).step()
    moved = (before - first.weight.detach().sum(1)) / 1e-3
    assert (moved / slope).median().item() == pytest.approx(1.0, rel=1e-2)


def test_the_digits_network_sees_brightness():
    torch.manual_seed(0)
    net, gray = DigitsCNN(*DIGITS_CNNS["digits_cnn"]), torch.rand(2, 1, 32, 32)
    color = torch.rand(2, 3, 32, 32)
    bright = (color * torch.tensor([0.299, 0.587, 0.114])[None, :, None, None]).sum(1, keepdim=True)
    assert torch.allclose(net(color), net(bright.expand(-1, 3, -1, -1)), atol=1e-6)
    direct = F.conv2d(gray, net.convs[0].weight, net.convs[0].bias, padding=2)
    assert torch.allclose(net.convs[0](gray.expand(-1, 3, -1, -1)), direct, atol=1e-6)


def test_doge_clips_as_for_a_target_outside_the_mixture():
    assert (doge.DoGE.Config().mu, doge.MAX_NORM) == (0.05, 1.0)


def test_the_loss_of_dvrls_estimator_as_in_the_released_code():
    p = torch.sin(torch.arange(1, 7, dtype=torch.float64)) * 0.4 + 0.5
    s = torch.tensor([1, 0, 0, 1, 1, 0.0]).double()
    ours = [value_loss(q, s, torch.tensor(0.037).double()).item() for q in (p, p * 0.1 + 0.9, p * 0.1)]
    assert ours == pytest.approx([0.2682279168, 49.6963594600, 51.0970964136], rel=1e-6)


class Once:
    """A stream of one batch."""

    weight_C = None

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.batch = x, y

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return self

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.batch


@pytest.mark.parametrize("num_taken", [1, 4])
def test_dvrls_source_loss_is_a_mean_over_the_batch(num_taken):
    """Algorithm 1 has (1 / B) sum s_i l_i, and so has Keras' sample_weight in the released code."""
    method = DVRL(toy_problem(holdout=toy_split([0, 1, 2] * 8, 3, "holdout")), DVRL.Config())
    x, y = torch.randn(8, 3, 16, 16), torch.randint(0, 4, (8,))
    taken = (torch.arange(8) < num_taken).float()
    method.source, method.taken = Once(x, y), lambda chance, t: taken
    method.target = Once(torch.randn(8, 3, 16, 16), torch.randint(0, 3, (8,)))
    with torch.no_grad():
        loss = F.cross_entropy(method.net.source(x), y, reduction="none")
    assert method.step(0)["source_loss"].item() == pytest.approx((taken * loss).mean().item(), rel=1e-4)


def recipe_2019(row: str) -> tuple[Recipe, Any]:
    overrides = ["target=svhn10", "source=mnist"]
    request = compose_request([*overrides, f"methods={row}"])
    ((_, settings),) = rows(request, [*overrides, f"methods={row}"])
    return request.recipe, settings


@pytest.mark.parametrize("row", ["scratch", "finetune"])
def test_fine_tuning_and_training_from_scratch_of_2019(row):
    """`mnist_svhn/finetuning.py`: 600 images are 9 steps of 64; the rate falls after epochs 80 and 120."""
    recipe, settings = recipe_2019(row)
    method = {"scratch": Scratch, "finetune": FineTune}[row](digits_problem(recipe), settings)
    assert [recipe.lr_at(t) for t in (0, 80 * 9, 80 * 9 + 1, 120 * 9, 120 * 9 + 1)] == pytest.approx(
        [1e-3, 1e-3, 1e-4, 1e-4, 1e-5]
    )
    assert decays(method.optimizer, method.net) == {"kernels": {1e-3}, "biases": {0.0}}
    assert method.net.target_head.weight.abs().max().item() <= glorot_bound(method.net.target_head)
    assert method.net.target_head.weight.std().item() == pytest.approx(
        glorot_bound(method.net.target_head) / 3**0.5, rel=0.1
    )


@pytest.mark.parametrize("row", ["uniform", "l2tl"])
def test_l2tl_of_2019_has_a_constant_rate_and_no_decay(row):
    recipe, settings = recipe_2019(row)
    method = L2TL(digits_problem(recipe), settings)
    assert {method.recipe.lr_at(t) for t in (0, 721, 5999)} == {1e-3}
    assert decays(method.optimizer, method.net) == {"kernels": {0.0}, "biases": {0.0}}
    assert method.net.target_head.weight.std().item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("svhn10", {10: 1e-3, 9999: 1e-3, "decay": 1e-3}),
        ("svhn5", {500: 1e-2, 501: 1e-3, 1501: 1e-4, "decay": 5e-4}),
    ],
)
def test_pre_training_as_in_the_released_code(target, expected):
    request = compose_request([f"target={target}"])
    own = request.source_recipe
    recipe = replace(request.recipe, **{k: v for k, v in vars(own).items() if k != "seed"})
    found = {t: recipe.lr_at(t) for t in expected if t != "decay"} | {"decay": recipe.weight_decay}
    assert found == pytest.approx(expected)


def digits_problem(recipe: Recipe) -> Problem:
    """Return a toy problem with the digits network of 2019 and a recipe."""

    def network(pretrained: bool = True) -> Network:
        torch.manual_seed(0)
        return Network(DigitsCNN(*DIGITS_CNNS["digits_cnn_2019"]), 10, 10, head_init_std=recipe.head_init_std)

    ten = toy_split(list(range(10)) * 8, 10, "holdout")
    return replace(toy_problem(source=ten, target=ten, holdout=ten), recipe=recipe, network=network)


def decays(optimizer: torch.optim.Optimizer, net: Network) -> dict[str, set[float]]:
    """Return the weight decays of kernels and of biases."""
    of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    kinds = {"kernels": [p for p in net.parameters() if p.ndim > 1]}
    kinds["biases"] = [p for p in net.parameters() if p.ndim == 1]
    return {name: {of[id(p)] for p in own} for name, own in kinds.items()}


def glorot_bound(head: Any) -> float:
    return (6 / (head.in_features + head.out_features)) ** 0.5
