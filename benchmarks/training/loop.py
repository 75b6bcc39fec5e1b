"""The training loop: timed steps; evaluation, logging and checkpoints are not timed."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from ... import InputError
from ...datasets import distributed
from ...datasets.base import Split, derive_seed
from ...methods.base import Method, restarted_by, saved_by
from ...methods.components.moving_average import MovingAverage
from ...methods.networks.network import evaluation_mode
from ...methods.networks.tensor_files import read_tensors
from . import interrupt
from .clock import Clock
from .curve_log import EventWriter
from .evaluate import evaluate
from .flops import counter_class
from .memory import PeakMemory
from .misfit import is_out_of_memory
from .nan_guard import NanGuard
from .record import append_line, write_tensors

CHECKPOINTS = ("checkpoint.pt", "previous.pt", "draft.pt")  # the newest, the one before it, the next
SAVE_SHARE = 100  # minimum time between two checkpoints, relative to the time to save one


class Training:
    """The training of one method, with all state that a checkpoint holds.

    Processes that share a run take their steps together; the first one evaluates, logs and saves.

    Args:
        method: the method.
        watch: check for NaN and Inf.
        clock: clock of `prepare` and `step`.
        memory: peak memory of the run.
        holdout: images that the curve is measured on, or None.
        seed: seed of the global random generator, which is set anew at each step.
        folder: folder of checkpoints and curve.
        rests_on: the pre-trainings that the method has used so far.
        checkpoint_seconds: longest time between two checkpoints. It grows for a large network: saving
            takes at most a hundredth of the time.
        classes: classes of a source with a known truth; then the curve holds their weights, too.
        ema: largest decay of the moving average of the weights, which is evaluated; 0: none.
    """

    def __init__(
        self,
        method: Method,
        watch: NanGuard,
        clock: Clock,
        memory: PeakMemory,
        holdout: Split | None,
        seed: int,
        folder: Path,
        rests_on: list[dict[str, Any]],
        checkpoint_seconds: float = 600.0,
        classes: Sequence[str] = (),
        ema: float = 0.0,
    ) -> None:
        self.counting = counter_class()
        self.watch = watch
        self.method, self.clock, self.holdout, self.seed, self.folder = method, clock, holdout, seed, folder
        self.memory, self.rests_on = memory, rests_on
        self.save_every = checkpoint_seconds
        self.classes = classes
        self.ema = ema
        self.average: MovingAverage | None = None
        self.step = 0
        self.flops_per_step = 0
        self.curve: list[dict[str, Any]] = []
        self.events: EventWriter | None = None

    def run(self, steps: int, evaluations: int, batch_size: int, beat: Callable[[int, Any], None]) -> None:
        """Train to the end, from the last checkpoint if there is one; the method then holds any average.

        Args:
            steps: number of steps.
            evaluations: number of points of the curve.
            batch_size: images per forward pass of an evaluation.
            beat: called with the step and a new point of the curve, or None.

        Raises:
            Interrupted: the process is asked to stop; a checkpoint is saved.
            RunFailed: a metric or weight is not finite; the last checkpoint stays.
        """
        is_prepared = self._resume()
        self._saved = time.monotonic()
        if not is_prepared:
            with self.clock.preparing(), saved_by(self._save_preparation):
                self.method.prepare()
            self._begin_average()
        for stop in _stops(steps, evaluations):
            while self.step < stop:
                metrics = self._advance(stop, beat)
                self.watch.check()
                if self.step == stop:
                    self._log(metrics, batch_size)
                if distributed.is_first():
                    self._save()
                if distributed.any_rank(interrupt.requested()):
                    raise interrupt.Interrupted(f"{self.folder}: saved at step {self.step} of {steps}")
                beat(self.step, self.curve[-1] if self.step == stop else None)
        if self.average:
            self.average.swap()
        if self.events:
            self.events.close()

    def _begin_average(self) -> None:
        """Start the moving average of what the method predicts with."""
        if self.ema:
            with evaluation_mode(self.method.net):
                self.average = MovingAverage(self.method.predicting(), self.ema)

    def _save_preparation(self) -> None:
        """Save in the middle of `prepare` if a checkpoint is due or the process is asked to stop.

        Raises:
            Interrupted: the process is asked to stop.
        """
        asked = distributed.any_rank(interrupt.requested())
        if asked or distributed.on_first(lambda: time.monotonic() - self._saved > self.save_every):
            self.clock.add_preparation()
            with self.clock.paused():
                self.watch.check()
                if distributed.is_first():
                    self._save(is_prepared=False)
        if asked:
            raise interrupt.Interrupted(f"{self.folder}: saved in the middle of its preparation")

    def _advance(self, stop: int, beat: Callable[[int, Any], None]) -> dict[str, torch.Tensor]:
        """Take steps until `stop`, or until a checkpoint is due; return the metrics of the last step."""
        restart = self.average.restart if self.average else lambda: None
        # torch.manual_seed looks for every kind of accelerator at each call
        on_cpu = self.clock.device.type == "cpu"
        set_seed = torch.default_generator.manual_seed if on_cpu else torch.manual_seed
        with self.clock.stepping(lambda: self.step), restarted_by(restart):
            while self.step < stop:
                set_seed(derive_seed(self.seed, "step", self.step))
                metrics = self._counted() if self.step == 0 else self.watch.step(self.step)
                if self.average:
                    self.average.update()
                self.step += 1
                beat(self.step, None)
                is_late = distributed.is_first() and time.monotonic() - self._saved > self.save_every
                if distributed.any_rank(interrupt.requested() or is_late):
                    break
        return metrics

    def _counted(self) -> dict[str, torch.Tensor]:
        """Take the first step and count its floating-point operations; it is not compiled: kernels hide them.

        Not those of a method in closed form, which may find its pass over the images in the cache.
        """
        if self.method.closed_form:
            return self.watch.step(0)
        with self.counting(display=False) as counter, torch.compiler.set_stance("force_eager"):
            metrics = self.watch.step(0)
        self.flops_per_step = distributed.size() * counter.get_total_flops()
        return metrics

    def _log(self, metrics: dict[str, torch.Tensor], batch_size: int) -> None:
        """Evaluate, and add a point to the curve and its file."""
        scores = distributed.on_first(self._scores, batch_size)
        self.watch.check_scores(scores, "holdout", self.step)
        train = {k: distributed.mean(v).item() for k, v in metrics.items()}
        point: dict[str, Any] = {
            "step": self.step,
            "seconds": self.clock.prepare + self.clock.step,
            "holdout": scores,
            "train": {k: v if math.isfinite(v) else None for k, v in train.items()},
        }
        if self.classes and (weight_S := self.method.class_weights()) is not None:
            point["class_weights"] = dict(zip(self.classes, weight_S.tolist(), strict=True))
        if spikes := self.watch.spikes():
            point["spikes"] = spikes
        self.curve.append(point)
        if distributed.is_first():
            self._write(point)

    def _write(self, point: dict[str, Any]) -> None:
        """Add a point to the files of the curve."""
        append_line(self.folder / "metrics.jsonl", point)
        if self.events:
            self.events.write(point)

    def _scores(self, batch_size: int) -> dict[str, float] | None:
        """Return the scores on the holdout, or None without one."""
        if self.holdout is None:
            return None
        with self.average.swapped() if self.average else nullcontext():
            return evaluate(self.method, self.holdout, batch_size)[0]

    def _save(self, is_prepared: bool = True) -> None:
        """Write a draft, keep the previous checkpoint, and put the new one in place."""
        state = {
            "is_prepared": is_prepared,
            "step": self.step,
            "flops_per_step": self.flops_per_step,
            "curve": self.curve,
            "rests_on": self.rests_on,
            "clock": self.clock.state_dict(),
            "memory": self.memory.state_dict(),
            "watch": self.watch.state_dict(),
            "method": self.method.state_dict(),
            **({"average": self.average.state_dict()} if self.average else {}),
        }
        begin = time.monotonic()
        current, previous, draft = (self.folder / name for name in CHECKPOINTS)
        write_tensors(draft, state)
        if current.exists():
            current.replace(previous)
        draft.replace(current)
        self._saved = time.monotonic()
        self.watch.saved_at = self.step
        self.save_every = max(self.save_every, SAVE_SHARE * (self._saved - begin))

    def _resume(self) -> bool:
        """Load the newest intact checkpoint, and rewrite the log up to its step.

        Returns:
            Whether `prepare` is done in it.

        Raises:
            InputError: the checkpoint is not of this run.
        """
        state = distributed.on_first(self._newest)
        if distributed.is_first():
            (self.folder / "metrics.jsonl").unlink(missing_ok=True)
        if state is None:
            return False
        try:
            is_prepared = self._load(state)
        except Exception as error:  # intact, but not a checkpoint of this run
            if is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"{self.folder / CHECKPOINTS[0]}: not a checkpoint of this run ({reason}); remove it, and "
                "the run starts again"
            ) from error
        for point in self.curve if distributed.is_first() else ():
            self._write(point)
        return is_prepared

    def _newest(self) -> dict[str, Any] | None:
        """Return the content of the newest intact checkpoint, or None."""
        for name in CHECKPOINTS[:2]:
            path = self.folder / name
            if not path.exists():
                continue
            try:
                return read_tensors(path)  # each tensor goes home when it is loaded
            except ValueError:  # cut off by a full disk, or damaged
                continue
        return None

    def _load(self, state: Any) -> bool:
        """Load all state from a checkpoint; return whether `prepare` is done in it."""
        self.method.load_state_dict(state["method"])
        if state["is_prepared"]:
            self._begin_average()
        if self.average:
            self.average.load_state_dict(state["average"])
        self.clock.load_state_dict(state["clock"])
        self.memory.load_state_dict(state["memory"])
        self.watch.load_state_dict(state["watch"])
        self.step, self.flops_per_step = int(state["step"]), int(state["flops_per_step"])
        self.curve = list(state["curve"])
        self.rests_on[:] = state[
            "rests_on"
        ]  # in place: the pre-trainings of `prepare` are added to this list
        self.watch.saved_at = self.step
        return bool(state["is_prepared"])


def _stops(steps: int, evaluations: int) -> list[int]:
    """Return the steps of the evaluations, at equal distances; the last is at the end."""
    count = min(steps, evaluations)
    return [round(steps * (i + 1) / count) for i in range(count)]
