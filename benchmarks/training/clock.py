"""The clock of a run: it times `prepare` and `step` alone, and synchronizes with the device."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

from ...methods.base import measured_by


class Clock:
    """The sums of seconds in `prepare`, in `step`, and in the parts of steps."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.prepare = 0.0
        self.step = 0.0
        self.per_step: list[float] = []  # mean seconds of a step in each interval
        self.parts: dict[str, float] = {}
        self._pairs: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._begin = 0.0  # start of the preparation time that is not added yet

    def state_dict(self) -> dict[str, Any]:
        """Return the sums."""
        names = ("prepare", "step", "per_step", "parts")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from saved sums."""
        for name, value in state.items():
            setattr(self, name, value)

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Time the preparation."""
        self._begin = self._now()
        yield
        self.add_preparation()

    def add_preparation(self) -> None:
        """Add the preparation time up to now, for a checkpoint in the middle of it."""
        now = self._now()
        self.prepare += now - self._begin
        self._begin = now

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude work from the timing, such as another run that has its own clock."""
        begin = self._now()
        with measured_by(lambda name: _untimed()):
            yield
        self._begin += self._now() - begin

    @contextmanager
    def stepping(self, count: Callable[[], int]) -> Iterator[None]:
        """Time an interval of steps and their parts; `count` returns the number of steps so far."""
        begin, first = self._now(), count()
        with measured_by(self._measure_cuda if self.device.type == "cuda" else self._measure):
            yield
        seconds = self._now() - begin
        for name, start, end in self._pairs:
            self.parts[name] = self.parts.get(name, 0.0) + start.elapsed_time(end) / 1e3
        self._pairs.clear()
        self.step += seconds
        self.per_step.append(seconds / (count() - first))

    @property
    def per_step_median(self) -> float:
        """Return the median over intervals of the seconds per step."""
        return median(self.per_step) if self.per_step else 0.0

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def _measure(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.parts[name] = self.parts.get(name, 0.0) + time.perf_counter() - begin

    @contextmanager
    def _measure_cuda(self, name: str) -> Iterator[None]:
        """Record CUDA events around a part; the device is synchronized at the end of the interval only."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        yield
        end.record()
        self._pairs.append((name, start, end))


@contextmanager
def _untimed() -> Iterator[None]:
    yield
