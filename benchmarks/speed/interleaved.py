"""Rivals timed in interleaved rounds, and the figures that come of it.

A round runs every rival once, in an order that turns round by round; a ratio is taken within each round and
its median is the figure. So what the machine does besides weighs on both sides alike.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Times:
    """Seconds of each rival in each round."""

    seconds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """Give the median over rounds."""
        return float(np.median(self.seconds[name]))

    def ratios(self, name: str, other: str) -> list[float]:
        """Divide a rival's seconds by another's, round by round."""
        return [a / b for a, b in zip(self.seconds[name], self.seconds[other], strict=True)]

    def to_fastest(self, name: str, others: list[str]) -> list[float]:
        """Divide by the one of the others that has the lowest median."""
        return self.ratios(name, min(others, key=self.median))


def cpu_clock() -> float:
    """Give the CPU seconds of this process: what other processes do does not count."""
    return time.process_time()


def device_clock(device: torch.device) -> Callable[[], float]:
    """Give CPU seconds on a CPU, where one thread computes; or seconds after all work on a GPU."""
    if device.type != "cuda":
        return cpu_clock

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


class Rounds:
    """Runs rivals round by round, in an order that turns.

    Args:
        rivals: what is run, by name.
        clock: gives seconds.
    """

    def __init__(
        self, rivals: Mapping[str, Callable[[], object]], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.rivals, self.clock = rivals, clock
        self.order = list(rivals)
        self.seconds: dict[str, list[float]] = {name: [] for name in rivals}

    def __call__(self) -> None:
        """Run each rival once."""
        for name in self.order:
            begin = self.clock()
            self.rivals[name]()
            self.seconds[name].append(self.clock() - begin)
        self.order.append(self.order.pop(0))

    def times(self, warmup: int) -> Times:
        """Give the times of all rounds but the first ones."""
        return Times({name: own[warmup:] for name, own in self.seconds.items()})


def race(benchmark: Any, rounds: Rounds, count: int = 20, warmup: int = 3) -> Times:
    """Run rounds through pytest-benchmark, whose own timing is that of a whole round.

    Args:
        benchmark: pytest-benchmark's fixture.
        rounds: the rivals.
        count: rounds that count.
        warmup: rounds before, that do not.
    """
    benchmark.pedantic(rounds, rounds=count, warmup_rounds=warmup)
    return rounds.times(warmup)


def show(
    benchmark: Any,
    what: str,
    values: float | list[float],
    unit: str = "x",
    most: float | None = None,
    least: float | None = None,
) -> float:
    """Leave a figure, the median of values, for the table of `make speed`; gives it.

    Args:
        benchmark: pytest-benchmark's fixture.
        what: the figure in words.
        values: of every round.
        unit: `x` for a ratio.
        most: what it may be at most, where something is wanted.
        least: what it has to be at least.
    """
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    benchmark.extra_info.setdefault("figures", []).append(
        {"what": what, "value": middle, "low": low, "high": high, "unit": unit, "most": most, "least": least}
    )
    return middle
