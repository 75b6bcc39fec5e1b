"""Memory: no growth over thousands of steps; peaks on a GPU, relative to each other and to the estimate."""

import gc
from dataclasses import replace
from typing import Any

import pytest
import torch

from ...methods.base import Method
from ...methods.networks.encoders import SmallEncoder
from ...methods.networks.network import Network
from ..launch.memory import step_bytes
from ..training.memory import STATUS
from .build import ON_GPU, build, configured, stepper
from .interleaved import show

WARM, STEPS = 500, 5_000


def bench_resident_growth(benchmark: Any) -> None:
    """Measure the growth over 5,000 steps of L2TL with batches of 4 and a network of two convolutions."""
    method: Any
    built: Any
    method, built = build("l2tl", "recipe.batch_size=4")
    classes = built.problem.source.num_classes, built.problem.target.num_classes
    problem = replace(built.problem, network=lambda: Network(SmallEncoder((4,)), *classes))
    step = stepper(type(method)(problem, method.config))

    def steps(count: int) -> None:
        for _ in range(count):
            step()
        gc.collect()

    steps(WARM)
    before = _resident_bytes()
    benchmark.pedantic(steps, args=(STEPS,), rounds=1)
    growth = 100 * (_resident_bytes() / before - 1)
    show(benchmark, f"resident memory after {STEPS:,} steps of L2TL: growth", growth, "%", most=1.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("size", ON_GPU)
def bench_peak_of_l2tl(benchmark: Any, size: str) -> None:
    """Compare the peak memory of L2TL at B : B : 4 B with fine-tuning at 2 B."""
    given = dict(word.split("=") for word in ON_GPU[size])
    double = given | {"recipe.batch_size": str(2 * int(given["recipe.batch_size"]))}
    peaks = {}
    for method, settings in (("finetune", double), ("l2tl", given)):
        built = build(method, *(f"{key}={value}" for key, value in settings.items()))[0]
        peaks[method] = _peak_bytes(built)
        del built
    benchmark.pedantic(lambda: None)
    ratio = peaks["l2tl"] / peaks["finetune"]
    show(benchmark, f"peak memory of L2TL / fine-tuning at B_S + B_T: {size}", ratio, most=1.15)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("size", ON_GPU)
def bench_peak_of_the_estimate(benchmark: Any, size: str) -> None:
    """Compare the peak memory of fine-tuning with the estimate that `--dry-run` prints."""
    estimate = step_bytes(configured("finetune", *ON_GPU[size]))
    assert estimate is not None
    benchmark.pedantic(lambda: None)
    ratio = _peak_bytes(build("finetune", *ON_GPU[size])[0]) / estimate
    show(benchmark, f"peak memory of fine-tuning / its estimate: {size}", ratio, least=0.8, most=1.25)


def _peak_bytes(method: Method) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    step = stepper(method)
    for _ in range(5):
        step()
    return torch.cuda.max_memory_allocated()


def _resident_bytes() -> int:
    return 1024 * int(STATUS.read_text(encoding="utf-8").split("VmRSS:")[1].split()[0])
