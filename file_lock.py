"""Lock open files between processes, on each system; a lock ends with its file or its process."""

import time
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BUSY = BlockingIOError if fcntl else PermissionError  # the error if another process has the lock
PAUSE_SECONDS = 0.1  # between two tries on Windows, which cannot wait longer than ten seconds


def try_lock(file: IO[str]) -> bool:
    """Lock a file, unless another process has locked it; return whether that worked.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            file.seek(0)  # one byte is locked there, which need not exist
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except BUSY:
        return False
    return True


def lock(file: IO[str]) -> None:
    """Lock a file, when no other process has it any more. Raises OSError if the file system has no locks."""
    if fcntl:
        fcntl.flock(file, fcntl.LOCK_EX)
        return
    while not try_lock(file):
        time.sleep(PAUSE_SECONDS)
