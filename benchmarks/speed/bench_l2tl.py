"""Cost of an L2TL step relative to fine-tuning, next to the ratio of their floating-point operations."""

from typing import Any

import pytest

from .build import ON_CPU, SIZES, build, flops, stepper
from .interleaved import Rounds, device_clock, race, show

NEAR_FLOOR = 1.05  # largest cost relative to the ratio of operations
BY_GRADIENTS = 1.5  # largest cost relative to a step of the paper's L2TL


@pytest.mark.parametrize("size", SIZES)
def bench_l2tl_step(benchmark: Any, size: str) -> None:
    """Time steps with batches B : B : 4 B (target, source, holdout) from memory, as in the paper."""
    finetune, built = build("finetune", *SIZES[size])
    l2tl, _ = build("l2tl", *SIZES[size])
    floor = flops(l2tl) / flops(finetune)
    rivals = {"l2tl": stepper(l2tl), "finetune": stepper(finetune)}
    times = race(benchmark, Rounds(rivals, device_clock(built.problem.device)), count=10, warmup=2)
    show(benchmark, f"floor of L2TL / fine-tuning, by operations: {size}", floor)
    ratio = times.ratios("l2tl", "finetune")
    show(benchmark, f"L2TL step / fine-tuning step: {size}", ratio, most=NEAR_FLOOR * floor)


@pytest.mark.parametrize("size", ON_CPU)  # fp32 only
def bench_credit_by_gradients(benchmark: Any, size: str) -> None:
    """Time the step of L2TL by gradients on equal batches (docs/explanation/learned-weights.md)."""
    built = {name: build(name, *SIZES[size]) for name in ("l2tl", "l2tl_gradients")}
    clock = device_clock(built["l2tl"][1].problem.device)
    rivals = {name: stepper(method) for name, (method, _) in built.items()}
    times = race(benchmark, Rounds(rivals, clock), count=10, warmup=2)
    ratio = times.ratios("l2tl_gradients", "l2tl")
    show(benchmark, f"L2TL step by gradients / by rewards: {size}", ratio, most=BY_GRADIENTS)
