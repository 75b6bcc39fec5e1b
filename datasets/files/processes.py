"""Tell whether the process that left something behind still lives, without trusting a clock."""

import hashlib
import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path

PROC = Path("/proc")


def process_name() -> str:
    """Name this process as no other is named: `<machine>-<pid>-<start>`."""
    return f"{_machine()}-{os.getpid()}-{_start(os.getpid()) or ''}"


def is_alive(name: str) -> bool | None:
    """Tell whether a process lives; None for one of another machine, which cannot be asked."""
    machine, _, rest = name.partition("-")
    pid, _, start = rest.partition("-")
    if machine != _machine() or not pid.isdecimal():
        return None
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):  # the latter for what is no number of a process
        return False
    except PermissionError:
        pass  # of another user, yet there
    return _start(int(pid)) == (start or None)  # else its number was given to another one


@cache
def _machine() -> str:
    """Name the machine, since it was booted, and what of it has process numbers of its own."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append((PROC / "sys/kernel/random/boot_id").read_text())
        parts.append(str((PROC / "self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _start(pid: int) -> str | None:
    """Give when a process began, in ticks since the boot; None for one that has ended, or no /proc."""
    try:
        state, *fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]
