"""Seconds a step of every row of the comparison, side by side with fine-tuning: `make speed`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ..methods import catalog
from .config import compose_request, settings_of, suite_rows
from .pose import pose
from .resolve import run_config

OVERRIDES = ("shots=20", "recipe.batch_size=64", "threads=1")


def _step(row: dict[str, Any]) -> Callable[[], None]:
    method = row["method"]
    own = [f"{k}={v}" for k, v in row.items() if k != "method"]
    config = run_config(compose_request(OVERRIDES), method, settings_of(method, [*OVERRIDES, *own]), 0)
    posed = pose(config, load_weights=lambda net: None, pretrain=lambda *a, **k: None, controls=None)
    built = catalog.load(method)(posed.problem, config.settings)
    count = iter(range(10**9))

    def step() -> None:
        built.step(next(count) % config.recipe.steps)
        if posed.problem.device.type == "cuda":
            torch.cuda.synchronize()

    return step


@pytest.mark.parametrize("name", list(suite_rows()))
def bench_step(benchmark: Any, name: str) -> None:
    """Time one step on the embedded pair, after warm-up."""
    torch.set_num_threads(1)
    benchmark.pedantic(_step(suite_rows()[name]), rounds=20, warmup_rounds=5)
