"""Credit by gradients where forward passes round: TF32 is emulated as in cuDNN, bfloat16 is real."""

from typing import Any

import pytest
import torch
from near_pair import build_near
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transferbench.methods.l2tl_policy import gradient_credit
from transferbench.methods.l2tl_policy.gradient_credit import Judge

aten = torch.ops.aten


def tf32(x: Any) -> Any:
    """Round float32 to 10 bits of mantissa, to the nearest."""
    if not isinstance(x, Tensor) or x.dtype is not torch.float32:
        return x
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


class Ampere(TorchDispatchMode):
    """Rounds what convolutions read where TF32 is allowed, as it is by default."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        is_conv = func in (aten.convolution.default, aten.convolution_backward.default)
        if is_conv and torch.backends.cudnn.allow_tf32:
            args = tuple(tf32(a) for a in args)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def judged(config_of, built_of):
    """A network after its start, a batch of the holdout and one of the source."""
    problem = build_near(config_of, built_of, "recipe.steps=200", "recipe.lr=0.02")
    net, size = problem.network(), 32
    return net, next(problem.holdout.stream(size, 0)), next(problem.source.stream(size, 0))


def credit(judged: Any, feature_BF: Tensor | None = None) -> Tensor:
    net, (x, y), (x_S, y_S) = judged
    judge = Judge(net, 0)
    direction, _ = judge.direction(net, x, y)
    return judge.credit(net, x_S, y_S, feature_BF, direction, relative=False)


def correlation(a: Tensor, b: Tensor) -> float:
    return torch.corrcoef(torch.stack([a, b]))[0, 1].item()


def test_tf32_does_not_reach_the_credit(judged, monkeypatch):
    exact = credit(judged)
    net, _, (x_S, _) = judged
    monkeypatch.setattr(gradient_credit, "is_rounded", lambda net, x: True)  # as on a GPU
    with Ampere():
        assert torch.backends.cudnn.allow_tf32
        with torch.no_grad():
            feature_BF = net.features(x_S)  # of the training step, and rounded
        rounded = credit(judged, feature_BF)
    assert correlation(rounded, exact) > 0.99


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_tf32_of_a_real_gpu_does_not_reach_the_credit(judged):
    """On a GPU without TF32 it holds as well."""
    exact = credit(judged)
    net, *batches = judged
    there = (net.to("cuda"), *([part.to("cuda") for part in batch] for batch in batches))
    assert torch.backends.cudnn.allow_tf32
    with torch.no_grad():
        feature_BF = there[0].features(there[2][0])  # of the training step, and rounded
    assert correlation(credit(there, feature_BF).cpu(), exact) > 0.99


def test_rounded_credit_would_be_noise(judged, monkeypatch):
    """The emulation is able to show the fault."""
    exact = credit(judged)
    monkeypatch.setattr(gradient_credit, "full_precision", lambda net: torch.no_grad())
    with Ampere():
        assert correlation(credit(judged), exact) < 0.9


def test_bfloat16_does_not_reach_the_credit(judged):
    exact = credit(judged)
    net, _, (x_S, _) = judged
    net.autocast = torch.bfloat16
    with torch.no_grad():
        feature_BF = net.features(x_S)
    assert correlation(credit(judged, feature_BF), exact) > 0.9
    assert net.autocast is torch.bfloat16
