"""Locks between processes, released when their process ends."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from ...file_lock import lock, try_lock
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
    place = path.with_name(f"{path.name}.lock")
    with ExitStack() as stack:
        if os.name == "nt":  # where an open file cannot be removed: by the last one that has it open
            stack.callback(_remove, place)
        while True:
            file = stack.enter_context(place.open("a", encoding="utf-8"))
            _wait(file, message)
            if _is_current(place, file):  # otherwise the previous process has removed it
                break
        stack.callback(_remove, place)
        _refresh_nfs(path)
        yield


def _wait(file: IO[str], message: str) -> None:
    with suppress(OSError):  # the file system may have no locks
        if not try_lock(file):
            if message:
                print(f"{message}; waiting", file=sys.stderr, flush=True)
            lock(file)


def _is_current(place: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(place.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _refresh_nfs(path: Path) -> None:
    """Change the folder, to make an NFS client drop its cache of missing names."""
    draft = draft_of(path)
    with path_in_errors(path, draft):
        draft.touch()
        draft.unlink()


def _remove(place: Path) -> None:
    with suppress(OSError):  # a disk that became read-only reports its own error
        place.unlink()
