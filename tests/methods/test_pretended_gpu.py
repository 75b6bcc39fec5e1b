"""Every method on a pretended GPU: the same values as on a CPU, no mixed devices, and no waits in a step."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transferbench
from lives import AGAIN, COSTLY, MAY_WAIT, REPLAY, START, STEP, STEPS, life, method_device, resumed
from pretended_gpu import Mismatch, pretended
from quadrants import NAME, quadrants_known
from suited import SUITED
from torch import Tensor
from transferbench.benchmarks.config.schema import Role, RunConfig
from transferbench.benchmarks.training.problem import build_problem
from transferbench.benchmarks.training.tuning import trials
from transferbench.datasets.pixels import DemandPixels, MemoryPixels, batch_to_device
from transferbench.methods import catalog
from transferbench.methods.finetune import FineTune

PACKAGE = Path(transferbench.__file__).parent
TINY = ["backbone=tiny", "recipe.batch_size=16", "recipe.image_size=16", "recipe.steps=6"]
VARIANTS = [
    ("l2tl", "method.weights=uniform"),
    ("l2tl", "method.preset=code_svhn"),
    ("l2tl", "method.alpha=walk", "method.reward=auroc"),
    ("l2tl", "method.credit=present"),
    ("l2tl", "method.credit=gain"),
    ("linear_probe", "method.taps=3"),
    ("co_tuning", "method.relation=direct"),
    ("finetune", "recipe.optimizer=adam"),
    ("finetune", "recipe.optimizer=adamw", "recipe.layer_decay=0.8"),
    ("l2tl", "bn=shared"),
    ("finetune", "bn=shared"),
    ("finetune", "bn=frozen"),
    ("finetune", "recipe.clip_grad=1", "recipe.class_weights=balanced"),
    ("finetune", "recipe.test_crops=ten", "recipe.crop_pct=0.875"),
]
SPECS = [(name,) for name in catalog.names()] + VARIANTS
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: it is asked itself")


def check_contract(
    config: Callable[[str], RunConfig],
    folder: Path,
    allowed: str = "",
    waits_in: Iterable[str] = STEPS,
    **gpu: Any,
) -> None:
    """Check that a method lives on the pretended GPU as on a CPU.

    Args:
        config: gives the run for `cpu` and `cuda`.
        folder: for checkpoints.
        allowed: what is in the place of waits that have to be.
        waits_in: the phases in which nothing else may wait.
        gpu: how the GPU is.

    Raises: AssertionError, or the Mismatch that CUDA would refuse.
    """
    here = life(config("cpu"), folder)
    with pretended(PACKAGE, **gpu) as machine:
        brought = resumed(config("cuda"), folder)
        there = life(config("cuda"), folder, lambda name: setattr(machine, "phase", name))
    alike = partial(pytest.approx, rel=2e-3, abs=2e-5, nan_ok=True)
    assert there == alike(here)
    unbroken = {key: here[key.replace(AGAIN, STEP)] for key in here if key.startswith(AGAIN)}
    assert {key: here[key] for key in unbroken} == alike(unbroken)
    for carried in (brought, resumed(config("cpu"), folder)):  # to a GPU, and back
        assert carried == alike({key: here[key] for key in carried})
    assert all(math.isfinite(value) for key, value in here.items() if "loss" in key)
    drawn = [draw for draw in machine.draws if draw.phase in (START, REPLAY)]
    assert not drawn, f"not the start of a CPU: {drawn}"
    found = [w for w in machine.waits if w.phase in waits_in and not (allowed and allowed in w.where)]
    waits = Counter((w.phase, w.what, w.where) for w in found)
    assert not waits, "\n".join(map(str, waits))


@pytest.mark.parametrize("spec", SPECS, ids=" ".join)
def test_a_method_lives_on_a_gpu_as_on_a_cpu(config_of, tmp_path, spec):
    name, *given = spec
    options = [*TINY, *COSTLY.get(name, ()), *SUITED.get(name, ()), *given]
    waits_in = () if catalog.load(name).closed_form else STEPS
    check_contract(
        lambda device: config_of(name, *options, f"device={device}"),
        tmp_path,
        MAY_WAIT.get(name, ""),
        waits_in,
    )


@pytest.mark.parametrize("name", ["finetune", "l2tl"])
def test_a_trial_lives_on_a_gpu(config_of, tmp_path, name):
    trial = lambda device: trials(config_of(name, *TINY, "tune=auto", f"device={device}"))[-1]  # noqa: E731
    assert trial("cpu").role is Role.trial
    check_contract(trial, tmp_path)


@pytest.mark.parametrize("name", ["finetune", "l2tl", "l2tl_gradients", "linear_probe"])
def test_several_labels_live_on_a_gpu(config_of, tmp_path, monkeypatch, name):
    quadrants_known(monkeypatch)
    given = (f"target={NAME}", "source=glyphs", "preset=embedded", "shots=null", "score=auroc", *TINY)
    check_contract(lambda device: config_of(name, *given, f"device={device}"), tmp_path)


KEPT = "datasets/base.py"  # where a source on the CPU learns which of its images the policy kept: one copy


@pytest.mark.parametrize("name", ["finetune", "l2tl"])
@pytest.mark.parametrize("place", ["memory of the host", "files"])
def test_pixels_that_the_gpu_does_not_hold_are_no_wait(config_of, tmp_path, monkeypatch, name, place):
    if place == "files":
        monkeypatch.setenv("TRANSFERBENCH_CACHE_GB", "0")
    config = lambda device: config_of(name, *TINY, f"device={device}")  # noqa: E731
    pixels = build_problem(config("cpu")).problem.target.pixels
    assert isinstance(pixels, DemandPixels if place == "files" else MemoryPixels)
    check_contract(config, tmp_path, KEPT if name == "l2tl" else "", memory=0)


def test_large_images_reach_the_gpu_by_one_copy(monkeypatch):
    images = [torch.full((3, 96, 96), i, dtype=torch.uint8) for i in range(4)]
    with pretended(PACKAGE) as machine:
        pins, pin = [], torch.Tensor.pin_memory
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pins.append(hasattr(x, "pinned")) or pin(x))
        pixels, _ = batch_to_device((images, torch.ones(4)), torch.device("cuda"))
        assert not machine.waits
        assert pixels.is_cuda
        assert pixels.cpu()[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert pins == [True, False]  # stacked where it is pinned; the aspect ratios are few


Step = Callable[[FineTune, dict[str, Tensor]], Any]


def _other_weights(method: FineTune, metrics: dict[str, Tensor]) -> None:
    with torch.no_grad():
        method.net.target_head.bias[0] += 0.01


def _other_generator(method: FineTune, metrics: dict[str, Tensor]) -> None:
    torch.randn(3, device=metrics["loss"].device, generator=torch.Generator())


def _mixed(method: FineTune, metrics: dict[str, Tensor]) -> None:
    torch.stack([metrics["loss"], torch.tensor(1.0)])


PLANTED: dict[str, tuple[Step, str]] = {
    "a mixed operation": (_mixed, "expected all tensors on one device"),
    "an item": (lambda method, metrics: metrics["loss"].item(), "a value is read"),
    "a condition": (lambda method, metrics: bool(metrics["loss"] > 0), "a value is read"),
    "an unpinned copy": (
        lambda method, metrics: torch.ones(3).to(metrics["loss"].device, non_blocking=True),
        "memory that is not pinned",
    ),
    "a pinned copy that is waited for": (
        lambda method, metrics: torch.ones(3).pin_memory().to(metrics["loss"].device),
        "without non_blocking",
    ),
    "a generator of the CPU": (_other_generator, "a generator of GPU None for a tensor of GPU 0"),
    "a metric of the host": (
        lambda method, metrics: metrics.update(one=torch.ones(())),
        "metrics of a step on another device",
    ),
    "other weights": (_other_weights, "comparison failed"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_of_a_step_is_found(config_of, tmp_path, monkeypatch, fault):
    planted, words = PLANTED[fault]
    step = FineTune.step

    def faulty(method: FineTune, t: int) -> dict[str, Tensor]:
        metrics = step(method, t)
        if method_device(method) == "cuda":
            planted(method, metrics)
        return metrics

    monkeypatch.setattr(FineTune, "step", faulty)
    with pytest.raises((AssertionError, Mismatch), match=words):
        check_contract(lambda device: config_of("finetune", *TINY, f"device={device}"), tmp_path)


def test_a_planted_start_by_the_generator_of_the_gpu_is_found(config_of, tmp_path, monkeypatch):
    begin = FineTune.__init__

    def faulty(method: FineTune, problem: Any, config: Any) -> None:
        begin(method, problem, config)
        head = method.net.target_head
        with torch.no_grad():
            head.weight.copy_(0.01 * torch.randn(head.weight.shape, device=problem.device))

    monkeypatch.setattr(FineTune, "__init__", faulty)
    with pytest.raises(AssertionError, match="not the start of a CPU"):
        check_contract(lambda device: config_of("finetune", *TINY, f"device={device}"), tmp_path)


def test_a_planted_state_that_a_checkpoint_lacks_is_found(config_of, tmp_path, monkeypatch):
    step = FineTune.step

    def faulty(method: FineTune, t: int) -> dict[str, Tensor]:
        method.seen = [*getattr(method, "seen", []), t]  # not a tensor, nor Stateful
        return {**step(method, t), "seen": torch.full_like(step(method, t)["loss"], len(method.seen))}

    monkeypatch.setattr(FineTune, "step", faulty)
    with pytest.raises(AssertionError, match="after a resume"):
        check_contract(lambda device: config_of("finetune", *TINY, f"device={device}"), tmp_path)


WRONG: dict[str, Callable[[torch.Tensor], Any]] = {
    "a sum with a tensor of the CPU": lambda x: x + torch.ones(3),
    "a stack": lambda x: torch.stack([x.sum(), torch.tensor(1.0)]),
    "indices of the GPU": lambda x: torch.arange(3)[x.long()],
    "a generator of the CPU": lambda x: torch.rand(3, device="cuda", generator=torch.Generator()),
    "numpy": lambda x: x.numpy(),
    "another GPU": lambda x: x + torch.ones(3, device="cuda:1"),
}
WAITING: dict[str, Callable[[torch.Tensor], Any]] = {
    "item": lambda x: x.sum().item(),
    "cpu": lambda x: x.cpu(),
    "a mask": lambda x: x[x > 0],
    "indices of the CPU": lambda x: x[torch.tensor([0])],
    "nonzero": lambda x: x.nonzero(),
    "memory that is not pinned": lambda x: torch.ones(3).to("cuda"),
    "eigenvalues": lambda x: torch.linalg.eigvalsh(torch.diag(x)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cuda_refuses_is_refused(name):
    with pretended(PACKAGE, count=2):
        x = torch.zeros(3, device="cuda")
        with pytest.raises((Mismatch, TypeError)):
            WRONG[name](x)


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_is_noted(name):
    with pretended(PACKAGE) as machine:
        WAITING[name](torch.ones(3, device="cuda"))
    assert len(machine.waits) == 1


def test_a_copy_to_the_host_is_late():
    with pretended(PACKAGE, count=2) as machine:
        x = torch.ones(2, device="cuda:1")
        host = torch.empty(2, pin_memory=True)
        host.copy_(x, non_blocking=True)
        event = torch.cuda.Event()
        event.record()  # on cuda:0, which is current
        event.synchronize()
        assert host.isnan().all()
        torch.cuda.synchronize("cuda:1")
        assert host.tolist() == [1, 1]
        assert not machine.waits
