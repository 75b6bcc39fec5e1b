"""The most memory that a run uses: of the GPU, or on a CPU of the process."""

import gc
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
CLEAR_PEAK = "5"  # proc(5): sets VmHWM back to the memory that is resident now


class PeakMemory:
    """Measures from its making on, in a worker that may have had other runs before.

    Attributes:
        of: what is measured: `gpu` (its tensors), `process` (all of it, libraries and images too), or,
            where the system keeps one mark for good, `process since its start`.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before = 0
        gc.collect()  # or what another run left behind would count
        self.of = self._reset()

    @property
    def bytes(self) -> int:
        """Give the most so far."""
        return max(self.before, self._read())

    def state_dict(self) -> dict[str, Any]:
        """Give the most so far."""
        return {"bytes": self.bytes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.before = state["bytes"]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what has a record of its own."""
        self.before = self.bytes
        yield
        self._reset()

    def _reset(self) -> str:
        """Forget what was before, if the system can; gives what is measured from here on."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return "gpu"
        try:
            CLEAR_REFS.write_text(CLEAR_PEAK)
        except OSError:  # not Linux, or a sandbox
            return "process since its start"
        return "process"

    def _read(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if STATUS.exists() and "VmHWM:" in (status := STATUS.read_text()):
            return 1024 * int(status.split("VmHWM:")[1].split()[0])
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
