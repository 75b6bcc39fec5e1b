"""Adam of TensorFlow and Keras, against worked numbers."""

import pytest
import torch
from torch import nn
from transferbench.methods.recipe import OptimizerName, Recipe, Schedule

GRADIENTS = (1e-6, -2e-7, 5e-7, 3e-8, 1e-6)


def moves(optimizer: torch.optim.Optimizer, weight: nn.Parameter, gradients: tuple[float, ...]):
    """Return the change of a weight in each step, in learning rates."""
    found = []
    for gradient in gradients:
        before = weight.detach().clone()
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        found.append((before - weight.detach()).item() / 1e-3)
    return found


def made(name: OptimizerName) -> tuple[torch.optim.Optimizer, nn.Parameter]:
    net = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(net.weight)
    recipe = Recipe(optimizer=name, lr=1e-3, weight_decay=0.0, schedule=Schedule.constant)
    return recipe.make_optimizer(net), net.weight


@pytest.mark.parametrize(
    ("name", "first"),
    [
        # m = 1e-7 and v = 1e-15: m / 0.1 / (sqrt(v / 0.001) + 1e-8) in torch
        (OptimizerName.adam, 1 / 1.01),
        # sqrt(0.001) / 0.1 x m / (sqrt(v) + 1e-8), and 1e-7
        (OptimizerName.adam_tf, 0.31622777 * 1e-7 / (3.1622777e-8 + 1e-8)),
        (OptimizerName.adam_keras, 0.31622777 * 1e-7 / (3.1622777e-8 + 1e-7)),
    ],
)
def test_the_first_step_at_a_small_gradient(name, first):
    assert moves(*made(name), GRADIENTS[:1]) == pytest.approx([first], rel=1e-6)


@pytest.mark.parametrize(("name", "epsilon"), [("adam_tf", 1e-8), ("adam_keras", 1e-7)])
def test_later_steps_as_tensorflow_writes_them(name, epsilon):
    m = v = 0.0
    expected = []
    for t, gradient in enumerate(GRADIENTS, 1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        expected.append((1 - 0.999**t) ** 0.5 / (1 - 0.9**t) * m / (v**0.5 + epsilon))
    assert moves(*made(OptimizerName(name)), GRADIENTS) == pytest.approx(expected, rel=1e-6)


def test_a_loaded_state_goes_on():
    optimizer, weight = made(OptimizerName.adam_tf)
    whole = moves(optimizer, weight, GRADIENTS)
    first, weight = made(OptimizerName.adam_tf)
    begun = moves(first, weight, GRADIENTS[:2])
    second, weight = made(OptimizerName.adam_tf)
    second.load_state_dict(first.state_dict())
    assert begun + moves(second, weight, GRADIENTS[2:]) == pytest.approx(whole, rel=1e-9)


def test_moments_that_start_anew_have_the_epsilon_of_a_start():
    optimizer, weight = made(OptimizerName.adam_tf)
    first = moves(optimizer, weight, GRADIENTS)
    optimizer.state.clear()
    assert moves(optimizer, weight, GRADIENTS) == pytest.approx(first, rel=1e-9)
