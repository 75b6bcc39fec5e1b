"""Locks between processes, released when their process ends."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from .atomic import draft_of, path_in_errors


@contextmanager
def locked(path: Path, message: str = "") -> Iterator[None]:
    """Lock `path` for one process at a time, with `path.lock`; the lock ends with its process.

    The next process sees the files that the previous one wrote in the folder, also on NFS.

    Args:
        path: the file or folder to write; its parent exists.
        message: printed on stderr by a process that has to wait; empty: nothing.

    Raises:
        OSError: if the folder is not writable.
    """
    lock = path.with_name(f"{path.name}.lock")
    with ExitStack() as stack:
        while True:
            file = stack.enter_context(lock.open("a", encoding="utf-8"))
            _wait(file, message)
            if _is_current(lock, file):  # otherwise the previous process has removed it
                break
        stack.callback(_remove, lock)
        _refresh_nfs(path)
        yield


def _wait(file: IO[str], message: str) -> None:
    with suppress(OSError):  # the file system may have no locks
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if message:
                print(f"{message}; waiting", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)


def _is_current(lock: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _refresh_nfs(path: Path) -> None:
    """Change the folder, to make an NFS client drop its cache of missing names."""
    draft = draft_of(path)
    with path_in_errors(path, draft):
        draft.touch()
        draft.unlink()


def _remove(lock: Path) -> None:
    with suppress(OSError):  # a disk that became read-only reports its own error
        lock.unlink()
