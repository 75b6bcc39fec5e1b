"""One process at a time, by a lock that dies with its process."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from .atomic import draft_of, path_in_errors


@contextmanager
def locked(path: Path, words: str = "") -> Iterator[None]:
    """Let one process at a time to `path`, by `path.lock`; one that dies lets go.

    What the one before has put in the folder is seen by the next, also on NFS.

    Args:
        path: what is written; its folder is there.
        words: what a process that has to wait says on stderr; empty: nothing.

    Raises: OSError where the folder cannot be written to.
    """
    lock = path.with_name(f"{path.name}.lock")
    with ExitStack() as stack:
        while True:
            file = stack.enter_context(lock.open("a"))
            _wait(file, words)
            if _is_current(lock, file):  # else the one before has removed it
                break
        stack.callback(_remove, lock)
        _refresh_nfs(path)
        yield


def _wait(file: IO[str], words: str) -> None:
    with suppress(OSError):  # a file system without locks
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if words:
                print(f"{words}; waiting", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)


def _is_current(lock: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _refresh_nfs(path: Path) -> None:
    """Change the folder: a client of NFS then forgets which names it has not found there before."""
    draft = draft_of(path)
    with path_in_errors(path, draft):
        draft.touch()
        draft.unlink()


def _remove(lock: Path) -> None:
    with suppress(OSError):  # a disk that has become read-only has its own word
        lock.unlink()
