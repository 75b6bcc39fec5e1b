"""Time rivals in interleaved rounds, and store the results.

A round runs every rival once, in an order that rotates from round to round. A result is the median over
rounds of the ratio within a round: other load on the machine then affects both sides equally.
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
        """Return the median over rounds."""
        return float(np.median(self.seconds[name]))

    def ratios(self, name: str, other: str) -> list[float]:
        """Return a rival's seconds relative to another's, round by round."""
        return [a / b for a, b in zip(self.seconds[name], self.seconds[other], strict=True)]

    def to_fastest(self, name: str, others: list[str]) -> list[float]:
        """Return a rival's seconds relative to the fastest of others, by median."""
        return self.ratios(name, min(others, key=self.median))


def cpu_clock() -> float:
    """Return the CPU seconds of this process, which other processes do not affect."""
    return time.process_time()


def device_clock(device: torch.device) -> Callable[[], float]:
    """Return the clock of a device: CPU seconds on a CPU; wall seconds after a sync on a GPU."""
    if device.type != "cuda":
        return cpu_clock

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


class Rounds:
    """Rounds of rivals, in an order that rotates.

    Args:
        rivals: functions by name.
        clock: function that returns seconds.
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
        """Return the times of all rounds after the first `warmup` ones."""
        return Times({name: own[warmup:] for name, own in self.seconds.items()})


def race(benchmark: Any, rounds: Rounds, count: int = 20, warmup: int = 3) -> Times:
    """Run rounds with pytest-benchmark, which itself times whole rounds.

    Args:
        benchmark: pytest-benchmark's fixture.
        rounds: the rivals.
        count: number of measured rounds.
        warmup: number of rounds before them.

    Returns:
        The times of the measured rounds.
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
    """Store a result, the median of values, for the table of `make speed`; return it.

    Args:
        benchmark: pytest-benchmark's fixture.
        what: description of the result.
        values: value of each round.
        unit: unit; `x` for a ratio.
        most: required maximum, or None.
        least: required minimum, or None.
    """
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    benchmark.extra_info.setdefault("figures", []).append(
        {"what": what, "value": middle, "low": low, "high": high, "unit": unit, "most": most, "least": least}
    )
    return middle
