"""A step asks nothing of the GPU: shown without one on tensors that have no values, and with one by CUDA."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from lives import on_waits
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from toy import toy_problem, toy_split
from transferbench.datasets.base import Split, Stream
from transferbench.methods import metrics
from transferbench.methods.finetune import FineTune
from transferbench.methods.l2tl import L2TL
from transferbench.methods.l2tl_policy.settings import Preset, Reward, Settings
from transferbench.methods.networks.encoders import SmallEncoder
from transferbench.methods.networks.network import Network

GPU = torch.device("cuda:0")
CLIPPED = {"clip_grad": 1.0}
AUGMENTED = [
    ("finetune", f"recipe.augment={policy}", "recipe.color_jitter=0.4", "recipe.random_erasing=0.5", mixing)
    for policy in ("trivial", "randaugment")
    for mixing in ("recipe.mixup=1", "recipe.cutmix=1")
]
COPY, READ = torch.ops.aten._to_copy.default, torch.ops.aten._local_scalar_dense.default
METHODS = {
    "finetune": (FineTune, FineTune.Config()),
    "l2tl": (L2TL, Settings().resolved()),
    "l2tl of the code": (L2TL, Settings(preset=Preset.code_svhn).resolved()),
    "l2tl by classes": (L2TL, Settings(reward=Reward.mean_per_class).resolved()),
}


class NoWaiting(TorchDispatchMode):
    """Refuses copies for which the host waits; a number of the host's own reads as 1."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        on_gpu = any(isinstance(a, torch.Tensor) and a.is_cuda for a in args)
        if func is READ and not on_gpu:
            return 1
        if func is COPY and (wanted := kwargs.get("device")):
            leaves, enters = on_gpu and wanted.type == "cpu", not on_gpu and wanted.type == "cuda"
            assert not leaves, "waits for a copy to the host"
            assert not enters or kwargs.get("non_blocking"), "waits for a copy to the device"
        return func(*args, **kwargs)


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let tensors of a GPU be made that have shapes and no values."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(Stream, "_rows", lambda self, k: torch.arange(self.batch_size))  # the host's work
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def _there(num_classes: int, name: str) -> Split:
    split = toy_split(list(range(num_classes)) * 16, num_classes, name)
    return replace(split, pixels=split.pixels.to(GPU), labels=split.labels.to(GPU), device=GPU)


def _network(pretrained: bool = True) -> Network:
    with torch.device(GPU):
        return Network(SmallEncoder(), 4, 3)


@pytest.mark.parametrize("name", METHODS)
def test_a_step_asks_nothing_of_a_gpu_that_holds_the_data(fake_gpu, monkeypatch, name):
    method, config = METHODS[name]
    problem = toy_problem(
        _there(3, "target"), _there(4, "source"), holdout=_there(3, "holdout"), device=GPU, recipe=CLIPPED
    )
    built = method(replace(problem, network=_network), config)
    learned = [p for group in built.optimizer.param_groups for p in group["params"]]
    if name != "finetune":
        learned += [built.policy.weight_logits, built.policy.scale_logits]

    def backward(loss: torch.Tensor) -> None:  # the engine needs a real device
        for p in learned:
            p.grad = torch.empty_like(p)

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    with NoWaiting():
        for t in range(2):
            assert all(value.device == GPU for value in built.step(t).values())


def _reads(x: torch.Tensor) -> Any:
    return x.sum().item()


@pytest.mark.parametrize(
    ("wait", "error"),
    [
        (_reads, DataDependentOutputException),
        (lambda x: x.cpu(), AssertionError),
        (lambda x: torch.ones(3).to(GPU), AssertionError),
        (lambda x: torch.bincount(x.long(), minlength=4), Exception),
        (lambda x: x[x > 0], Exception),
    ],
    ids=["item", "to the host", "to the device", "bincount", "mask"],
)
def test_waiting_is_found(fake_gpu, wait: Callable[[torch.Tensor], Any], error: type[Exception]):
    x = torch.empty(3, device=GPU)
    with NoWaiting(), pytest.raises(error):
        wait(x)


def test_accuracy_by_class_is_that_of_counting():
    logits, y = torch.eye(3)[[0, 0, 1, 2, 1]], torch.tensor([0, 0, 0, 2, 2])
    assert metrics.mean_per_class(logits, y).item() == pytest.approx((2 / 3 + 1 / 2) / 2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("spec", [("finetune",), ("l2tl",), *AUGMENTED], ids=" ".join)
def test_a_step_on_a_real_gpu_never_waits(build, spec):
    method = build(*spec, "device=cuda")
    for t in range(3):
        method.step(t)
    try:
        on_waits("error")
        for t in range(3, 6):
            method.step(t)
    finally:
        on_waits("default")
