"""Cost of a step of every row relative to fine-tuning, on the built-in pair of data sets."""

from typing import Any

from ...methods import catalog
from ..config.compose import suite_rows
from .build import build, stepper
from .interleaved import Rounds, device_clock, race, show


def bench_steps(benchmark: Any) -> None:
    """Time all rows with batches of 64, except for those in closed form."""
    rivals = {}
    for name, row in suite_rows().items():
        if catalog.load(row["method"]).closed_form:
            continue
        own = [f"{k}={v}" for k, v in row.items() if k != "method"]
        method, built = build(row["method"], "recipe.batch_size=64", *own)
        rivals[name] = stepper(method)
    times = race(benchmark, Rounds(rivals, device_clock(built.problem.device)), count=10)
    for name in rivals:
        if name != "finetune":
            show(benchmark, f"step of {name} / fine-tuning", times.ratios(name, "finetune"))
    show(benchmark, "fine-tuning step", [1e3 * s for s in times.seconds["finetune"]], unit="ms")
