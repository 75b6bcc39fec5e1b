"""The peak memory of a run: of the GPU, or of the process on a CPU."""

import gc
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
CLEAR_PEAK = "5"  # proc(5): resets VmHWM to the resident memory


class PeakMemory:
    """The peak memory since this object was made; earlier runs of the same worker do not count.

    Attributes:
        of: the measured memory: `gpu` (tensors), `process` (including libraries and images), or
            `process since its start` if the system cannot reset the peak.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.before = 0
        gc.collect()  # objects of an earlier run must not count
        self.of = self._reset()

    @property
    def bytes(self) -> int:
        """Return the peak so far, in bytes."""
        return max(self.before, self._read())

    def state_dict(self) -> dict[str, Any]:
        """Return the peak so far."""
        return {"bytes": self.bytes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved peak."""
        self.before = state["bytes"]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude another run, which has its own record."""
        self.before = self.bytes
        yield
        self._reset()

    def _reset(self) -> str:
        """Reset the peak if the system can; return the kind of memory that is measured from now on."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return "gpu"
        try:
            CLEAR_REFS.write_text(CLEAR_PEAK, encoding="utf-8")
        except OSError:  # not Linux, or a sandbox
            return "process since its start"
        return "process"

    def _read(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if STATUS.exists() and "VmHWM:" in (status := STATUS.read_text(encoding="utf-8")):
            return 1024 * int(status.split("VmHWM:")[1].split()[0])
        if not resource:
            import psutil

            return psutil.Process().memory_info().peak_wset
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
