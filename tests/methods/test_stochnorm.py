"""StochNorm: which branch a channel takes, with which statistics, and when they move."""

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from toy import toy_problem
from transferbench.methods.finetune import FineTune
from transferbench.methods.networks.encoders import DIGITS_CNNS, DigitsCNN
from transferbench.methods.stochnorm import Stochastic, StochNorm, make_stochastic

NORMS = [(nn.BatchNorm2d, (6, 400, 3, 3)), (nn.BatchNorm1d, (6, 400)), (BatchNormAct2d, (6, 400, 3, 3))]


def norm_and_images(kind: type, shape: tuple[int, ...], p: float = 0.5):
    """Make a norm with statistics of its own, its stochastic form, and a batch."""
    generator = torch.Generator().manual_seed(0)
    plain, norm = kind(shape[1]), kind(shape[1])
    with torch.no_grad():
        for tensor in (plain.weight, plain.bias, plain.running_mean, plain.running_var):
            tensor.copy_(torch.rand(shape[1], generator=generator) + 0.5)
    norm.load_state_dict(plain.state_dict())
    make_stochastic(norm, p, torch.Generator().manual_seed(1))
    return plain, norm, 3 * torch.randn(shape, generator=generator) + 1


@pytest.mark.parametrize(("kind", "shape"), NORMS)
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_every_channel_takes_one_branch_as_a_whole(kind, shape, p):
    plain, norm, x = norm_and_images(kind, shape, p)
    got = norm(x)
    by_running = plain.eval()(x)  # by the statistics from before the batch
    by_batch = plain.train()(x)
    to_channel = lambda z: z.transpose(0, 1).flatten(1)  # noqa: E731
    got, by_running, by_batch = map(to_channel, (got, by_running, by_batch))
    is_running = torch.isclose(got, by_running, atol=1e-5).all(1)
    is_batch = torch.isclose(got, by_batch, atol=1e-5).all(1)
    assert (is_running ^ is_batch).all()
    assert is_batch.float().mean().item() == pytest.approx(p, abs=0.1)


@pytest.mark.parametrize(("kind", "shape"), NORMS)
def test_statistics_move_as_ever_and_once(kind, shape):
    plain, norm, x = norm_and_images(kind, shape)
    plain(x)
    norm(x)
    for name, expected in plain.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name), expected)
    assert norm.num_batches_tracked == 1


@pytest.mark.parametrize(("kind", "shape"), NORMS)
def test_evaluation_is_by_running_statistics(kind, shape):
    plain, norm, x = norm_and_images(kind, shape)
    assert torch.equal(plain.eval()(x), norm.eval()(x))
    assert norm.num_batches_tracked == 0


def test_gradients_flow_through_the_branch_that_is_taken():
    x = torch.randn(5, 4, dtype=torch.double, generator=torch.Generator().manual_seed(3)).requires_grad_()

    def forward(x: torch.Tensor) -> torch.Tensor:
        norm = nn.BatchNorm1d(4).double()
        make_stochastic(norm, 0.5, torch.Generator().manual_seed(0))
        return norm(x)

    assert torch.autograd.gradcheck(forward, x)
    one_by_one = torch.autograd.functional.jacobian(forward, x)
    crossing = [one_by_one[0, c, 1, c].item() for c in range(4)]  # images meet in the batch's branch alone
    assert 0 < sum(value == 0 for value in crossing) < 4


def test_it_keeps_a_norm_in_place():
    plain, method = FineTune(toy_problem(), None), StochNorm(toy_problem(), StochNorm.Config(probability=0.2))
    assert len(method.net.norms) == 8
    assert all(isinstance(norm, Stochastic) and norm.probability == 0.2 for norm in method.net.norms)
    assert [(k, v.shape) for k, v in plain.net.state_dict().items()] == [
        (k, v.shape) for k, v in method.net.state_dict().items()
    ]
    decay = [[len(group["params"]) for group in m.optimizer.param_groups] for m in (plain, method)]
    assert decay[0] == decay[1]


def test_with_the_batch_alone_it_is_fine_tuning():
    plain, method = (
        FineTune(toy_problem(), None),
        StochNorm(toy_problem(), StochNorm.Config(probability=1.0)),
    )
    assert [plain.step(t)["loss"] for t in range(3)] == [method.step(t)["loss"] for t in range(3)]
    assert plain.step(3)["loss"] != StochNorm(toy_problem(), StochNorm.Config()).step(3)["loss"]


def test_branches_depend_on_the_step_and_on_the_seed():
    """And on nothing that went before, so that a resumed run draws them again."""
    draws = []
    for seed, before, t in ((0, 0, 1), (0, 5, 1), (0, 0, 2), (1, 0, 1)):
        method = StochNorm(toy_problem(seed=seed), StochNorm.Config())
        torch.rand(before, generator=method.generator)
        method.step(t)
        draws.append(torch.rand(3, generator=method.generator).tolist())
    assert draws[0] == draws[1]
    assert len({tuple(draw) for draw in draws[1:]}) == 3


def test_a_network_without_norms_is_refused():
    assert StochNorm.why_incompatible(toy_problem()) == ""
    without = toy_problem(encoder=lambda: DigitsCNN(*DIGITS_CNNS["digits_cnn"]))
    assert "batch norms" in StochNorm.why_incompatible(without)
