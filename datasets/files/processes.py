"""Identify processes, and check whether they are still running, without relying on clocks."""

import hashlib
import os
import socket
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

PROC = Path("/proc")


def process_name() -> str:
    """Return a unique name of this process: `<machine>-<pid>-<start>`."""
    return f"{_machine()}-{os.getpid()}-{_start(os.getpid()) or ''}"


def is_alive(name: str) -> bool | None:
    """Return whether a process is running; None for a process of another machine."""
    machine, _, rest = name.partition("-")
    pid, _, start = rest.partition("-")
    if machine != _machine() or not pid.isdecimal():
        return None
    if os.name == "posix":  # on Windows the signal 0 is Ctrl-C
        try:
            os.kill(int(pid), 0)
        except (ProcessLookupError, ValueError, OverflowError):  # the last two: not a valid process id
            return False
        except PermissionError:
            pass  # it runs, as another user
    return _start(int(pid)) == (start or None)  # otherwise the id was reused


@cache
def _machine() -> str:
    """Return a short hash of the host, its boot and its process namespace."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append((PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8"))
        parts.append(str((PROC / "self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _start(pid: int) -> str | None:
    """Return the start time of a process in ticks since boot; None if it has ended or is hidden."""
    if sys.platform != "linux":
        return _start_elsewhere(pid)
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        state, *fields = text.rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]


def _start_elsewhere(pid: int) -> str | None:
    """Return the start time of a process in nanoseconds, on a system without /proc; None if it has ended."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time() * 1e9:.0f}"
    except (psutil.Error, OverflowError):
        return None
