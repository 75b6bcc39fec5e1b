"""Files that are there whole or not at all: written as a draft, which is renamed when it is done.

A draft's name tells its process: one that a killed process has left is swept by the next writer beside it.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from .processes import is_alive, process_name

STALE_SECONDS = 86_400  # a draft of another machine, where nothing has changed for so long


def draft_of(path: Path) -> Path:
    """Name a draft of a file or folder, and sweep what dead processes have left beside it."""
    sweep(path.parent)
    return path.with_name(f"{path.name}.{process_name()}.{uuid4().hex[:8]}.draft")


@contextmanager
def atomic_write(path: Path, durable: bool = True) -> Iterator[Path]:
    """Give a draft that takes the place of a file when the block ends well, and is gone when not.

    Args:
        path: the file.
        durable: it outlives a power cut from then on.

    Raises: OSError that names the file.
    """
    draft = draft_of(path)
    try:
        with path_in_errors(path, draft):
            yield draft
            if durable:
                _sync(draft)
            draft.replace(path)
        if durable:
            with suppress(OSError):  # not every file system can
                _sync(path.parent)
    finally:
        with suppress(OSError):
            draft.unlink()


@contextmanager
def path_in_errors(path: Path, draft: Path | None = None) -> Iterator[None]:
    """Let an error of the system name the file, which that of a write does not, and not its draft."""
    try:
        yield
    except OSError as error:
        if error.filename is None or (draft and str(error.filename) == str(draft)):
            error.filename, error.filename2 = str(path), None
        raise


def sweep(folder: Path) -> None:
    """Remove the drafts in a folder that no living process is at."""
    for draft in folder.glob("*.draft"):
        process = draft.name.split(".")[-3:-2]
        lives = is_alive(process[0]) if process else None
        if lives is False or (lives is None and _is_stale(draft)):
            with suppress(OSError):
                shutil.rmtree(draft) if draft.is_dir() else draft.unlink()


def _is_stale(draft: Path) -> bool:
    with suppress(OSError):
        newest = max(p.lstat().st_mtime for p in (draft, *draft.rglob("*")))
        return time.time() - newest > STALE_SECONDS
    return False


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
