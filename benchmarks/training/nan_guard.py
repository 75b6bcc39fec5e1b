"""Detect NaN, Inf and loss spikes without a device sync.

Processes that share a run stop together, at the first step that is not finite in any of them.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ... import RunFailed
from ...datasets import distributed
from ...methods.base import Method, Metrics
from ...methods.networks.tensor_files import tensors_in
from ..config.schema import OnNan

EVERY = 100  # steps between two checks
RECENT = 100  # losses whose median is the usual loss
SPIKE = 5.0  # a spike is this many times the usual loss, and at least half the first losses
MOST_SKIPPED = 20  # steps in a row that `on_nan=skip` may undo


class NanGuard:
    """A check of the metrics of every step, some steps later, and of the weights before each checkpoint.

    Args:
        method: the method that is trained.
        folder: the run's folder, for the error message.
        on_nan: stop at the first value that is not finite, or undo its step and continue. The latter
            synchronizes with the device in every step.
    """

    def __init__(self, method: Method, folder: Path, on_nan: OnNan) -> None:
        self.method, self.folder, self.on_nan = method, folder, on_nan
        self.saved_at: int | None = None  # step of the last checkpoint
        self.skipped: list[int] = []
        self.num_spikes = 0
        self._last = -1
        self._first: list[float] = []
        self._recent: list[float] = []
        self._spikes: list[dict[str, float]] = []
        self._held: list[tuple[int, Metrics]] = []
        self._sent: _Sent | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state. Call `check` first."""
        names = ("skipped", "num_spikes", "_first", "_recent", "_spikes")
        return {name: copy.copy(getattr(self, name)) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state."""
        for name, value in state.items():
            setattr(self, name, value)

    def step(self, t: int) -> Metrics:
        """Take step t of the method.

        Raises:
            RunFailed: a metric of an earlier step is not finite.
        """
        if self.on_nan is OnNan.skip:
            return self._undoable(t)
        metrics = self.method.step(t)
        self._see(t, metrics)
        return metrics

    def check(self) -> None:
        """Check all metrics so far and the state of the method; synchronize with the device.

        Raises:
            RunFailed: a value is not finite.
        """
        self._send()
        self._read()
        name = not_finite(self.method.state_dict())
        self._stop_at((self._last, f"{name} is not finite after step {self._last + 1:,}") if name else None)

    def check_scores(self, scores: Mapping[str, float] | None, part: str, step: int) -> None:
        """Check that the loss of an evaluation is finite. Raises RunFailed if not."""
        if scores is not None and not math.isfinite(scores["loss"]):
            self._fail(f"the loss on {part} is {scores['loss']} after step {step:,}")

    def spikes(self) -> list[dict[str, float]]:
        """Return the loss spikes since the last call."""
        new, self._spikes = self._spikes, []
        return new

    def _see(self, t: int, metrics: Metrics) -> None:
        self._last = t
        self._held.append((t, metrics))
        if len(self._held) == EVERY:
            self._send()

    def _send(self) -> None:
        """Read the metrics that were sent last; start the copy of those held since to the CPU."""
        self._read()
        if self._held:
            self._sent, self._held = _Sent(self._held), []

    def _read(self) -> None:
        if self._sent is None:
            return
        sent, self._sent = self._sent, None
        wrong = None
        for t, name, value in sent.values_of_steps():
            if not math.isfinite(value):
                wrong = t, f"{name} is {value} at step {t + 1:,}"
                break
            if name == "loss":
                self._judge(t, value)
        self._stop_at(wrong)

    def _judge(self, t: int, loss: float) -> None:
        """Note a loss far above the usual one."""
        if len(self._recent) >= RECENT // 10:
            usual = median(self._recent)
            if loss > max(SPIKE * usual, median(self._first) / 2):
                self.num_spikes += 1
                self._spikes.append({"step": t + 1, "loss": loss, "usual": usual})
        if len(self._first) < RECENT // 10:
            self._first.append(loss)
        self._recent = [*self._recent[1 - RECENT :], loss]

    def _undoable(self, t: int) -> Metrics:
        """Take a step; undo it if a value is not finite. The streams of batches do not go back."""
        before = copy.deepcopy(self.method.state_dict())
        metrics = self.method.step(t)
        if not distributed.any_rank(bool(not_finite(metrics) or not_finite(self.method.state_dict()))):
            self._see(t, metrics)
            return metrics
        own = vars(self.method)
        self.method.load_state_dict({k: v for k, v in before.items() if not isinstance(own.get(k), Iterator)})
        self.skipped.append(t + 1)
        if self.skipped[-MOST_SKIPPED:] == list(range(t + 2 - MOST_SKIPPED, t + 2)):
            self._fail(f"{MOST_SKIPPED} steps in a row up to step {t + 1:,} were not finite")
        self._last = t
        return metrics

    def _stop_at(self, wrong: tuple[int, str] | None) -> None:
        """Stop at the first step that is not finite in any process."""
        if first := min(filter(None, distributed.all_gather(wrong)), default=None):
            self._fail(first[1])

    def _fail(self, problem: str) -> None:
        kept = (
            "there is no checkpoint before it"
            if self.saved_at is None
            else f"{self.folder / 'checkpoint.pt'}, of step {self.saved_at:,}, is the last good checkpoint"
        )
        hint = "" if self.on_nan is OnNan.skip else ", or set on_nan=skip to undo such steps"
        raise RunFailed(f"{problem}; {kept}. Lower recipe.lr{hint}")


class _Sent:
    """Metrics of some steps, in an asynchronous copy from the device."""

    def __init__(self, held: list[tuple[int, Metrics]]) -> None:
        self.keys = [(t, name) for t, metrics in held for name in metrics]
        values = [value.detach() for _, metrics in held for value in metrics.values()]
        device = next((v.device for v in values if v.device.type == "cuda"), torch.device("cpu"))
        stacked = torch.stack([v.to(device).double() for v in values])
        self.event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self.values = torch.empty(stacked.shape, dtype=stacked.dtype, pin_memory=True)
            self.values.copy_(stacked, non_blocking=True)
            self.event = torch.cuda.Event()
            self.event.record()
        else:
            self.values = stacked

    def values_of_steps(self) -> Iterator[tuple[int, str, float]]:
        """Yield step, name and value in their order; wait for the copy."""
        if self.event is not None:
            self.event.synchronize()
        for (t, name), value in zip(self.keys, self.values.tolist(), strict=True):
            yield t, name, value


def not_finite(state: Mapping[str, Any]) -> str:
    """Return the name of the first tensor of a state that holds NaN or Inf; empty if there is none."""
    found = {name: tensor for name, tensor in tensors_in(state) if tensor.is_floating_point()}
    flags = [torch.isfinite(tensor).all() for tensor in found.values()]
    device = next((f.device for f in flags if f.device.type == "cuda"), torch.device("cpu"))
    if not flags or torch.stack([f.to(device) for f in flags]).all().item():
        return ""
    return next(name for name, tensor in found.items() if not torch.isfinite(tensor).all())
