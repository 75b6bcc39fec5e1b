"""Whether a run's figures stay finite, and where its loss jumps; the device is not waited for.

Several processes that share a run stop together, at the first step that was not finite in one of them.
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

EVERY = 100  # steps between two looks
RECENT = 100  # losses that tell what is usual
SPIKE = 5.0  # times the usual loss; and no less than half of where the run began
MOST_SKIPPED = 20  # steps in a row that `on_nan=skip` leaves out


class NanGuard:
    """Looks at the figures of every step, some steps late, and at the weights before they are saved.

    Args:
        method: what is trained.
        folder: of the run, for the error.
        on_nan: stop at the first figure that is not finite, or undo its step and go on. The latter waits
            for the device in every step.
    """

    def __init__(self, method: Method, folder: Path, on_nan: OnNan) -> None:
        self.method, self.folder, self.on_nan = method, folder, on_nan
        self.saved_at: int | None = None  # steps in the last checkpoint
        self.skipped: list[int] = []
        self.num_spikes = 0
        self._last = -1
        self._first: list[float] = []
        self._recent: list[float] = []
        self._spikes: list[dict[str, float]] = []
        self._held: list[tuple[int, Metrics]] = []
        self._sent: _Sent | None = None

    def state_dict(self) -> dict[str, Any]:
        """Give what has been seen; `check` comes first."""
        names = ("skipped", "num_spikes", "_first", "_recent", "_spikes")
        return {name: copy.copy(getattr(self, name)) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        for name, value in state.items():
            setattr(self, name, value)

    def step(self, t: int) -> Metrics:
        """Let the method take step t.

        Raises: RunFailed when figures of an earlier step are not finite.
        """
        if self.on_nan is OnNan.skip:
            return self._undoable(t)
        metrics = self.method.step(t)
        self._see(t, metrics)
        return metrics

    def check(self) -> None:
        """Look at all figures so far and at what would be saved; waits for the device.

        Raises: RunFailed.
        """
        self._send()
        self._read()
        name = not_finite(self.method.state_dict())
        self._stop_at((self._last, f"{name} is not finite after step {self._last + 1:,}") if name else None)

    def check_scores(self, scores: Mapping[str, float] | None, part: str, step: int) -> None:
        """See that a method can be judged. Raises: RunFailed."""
        if scores is not None and not math.isfinite(scores["loss"]):
            self._fail(f"the loss on {part} is {scores['loss']} after step {step:,}")

    def spikes(self) -> list[dict[str, float]]:
        """Give the jumps of the loss since this was asked last."""
        new, self._spikes = self._spikes, []
        return new

    def _see(self, t: int, metrics: Metrics) -> None:
        self._last = t
        self._held.append((t, metrics))
        if len(self._held) == EVERY:
            self._send()

    def _send(self) -> None:
        """Read the figures that were sent last, and send those held since on their way to the CPU."""
        self._read()
        if self._held:
            self._sent, self._held = _Sent(self._held), []

    def _read(self) -> None:
        if self._sent is None:
            return
        sent, self._sent = self._sent, None
        wrong = None
        for t, name, value in sent.figures():
            if not math.isfinite(value):
                wrong = t, f"{name} is {value} at step {t + 1:,}"
                break
            if name == "loss":
                self._judge(t, value)
        self._stop_at(wrong)

    def _judge(self, t: int, loss: float) -> None:
        """Note a loss that is far above the usual."""
        if len(self._recent) >= RECENT // 10:
            usual = median(self._recent)
            if loss > max(SPIKE * usual, median(self._first) / 2):
                self.num_spikes += 1
                self._spikes.append({"step": t + 1, "loss": loss, "usual": usual})
        if len(self._first) < RECENT // 10:
            self._first.append(loss)
        self._recent = [*self._recent[1 - RECENT :], loss]

    def _undoable(self, t: int) -> Metrics:
        """Take a step, and take it back when something is not finite; the streams go on."""
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
        """Stop where this or another process has met a step that was not finite."""
        if first := min(filter(None, distributed.all_gather(wrong)), default=None):
            self._fail(first[1])

    def _fail(self, what: str) -> None:
        kept = (
            "there is no checkpoint before it"
            if self.saved_at is None
            else f"{self.folder / 'checkpoint.pt'}, of step {self.saved_at:,}, is the last good checkpoint"
        )
        hint = "" if self.on_nan is OnNan.skip else ", or set on_nan=skip to leave such steps out"
        raise RunFailed(f"{what}; {kept}. Lower recipe.lr{hint}")


class _Sent:
    """Figures of some steps on their way from the device."""

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

    def figures(self) -> Iterator[tuple[int, str, float]]:
        """Give step, name and value, in the order in which they came."""
        if self.event is not None:
            self.event.synchronize()
        for (t, name), value in zip(self.keys, self.values.tolist(), strict=True):
            yield t, name, value


def not_finite(state: Mapping[str, Any]) -> str:
    """Name the first tensor of a state that holds NaN or infinity; empty where none does."""
    found = {name: tensor for name, tensor in tensors_in(state) if tensor.is_floating_point()}
    flags = [torch.isfinite(tensor).all() for tensor in found.values()]
    device = next((f.device for f in flags if f.device.type == "cuda"), torch.device("cpu"))
    if not flags or torch.stack([f.to(device) for f in flags]).all().item():
        return ""
    return next(name for name, tensor in found.items() if not torch.isfinite(tensor).all())
