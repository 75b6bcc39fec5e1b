"""Write files atomically: as a draft, which is renamed when it is complete.

A draft's name contains its process. The next writer in the folder removes the drafts of killed processes.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from .processes import is_alive, process_name

STALE_SECONDS = 86_400  # after so long without changes, another machine's draft is stale


def draft_of(path: Path) -> Path:
    """Return a new draft name for a file or folder, and remove stale drafts beside it."""
    sweep(path.parent)
    return path.with_name(f"{path.name}.{process_name()}.{uuid4().hex[:8]}.draft")


@contextmanager
def atomic_write(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a draft that replaces a file when the block succeeds, and is removed when it fails.

    Args:
        path: the file.
        durable: sync to disk, to survive a power cut.

    Raises:
        OSError: naming the file.
    """
    draft = draft_of(path)
    try:
        with path_in_errors(path, draft):
            yield draft
            if durable:
                _sync(draft, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
            draft.replace(path)
        if durable:
            with suppress(OSError):  # not supported by every file system
                _sync(path.parent)
    finally:
        with suppress(OSError):
            draft.unlink()


@contextmanager
def path_in_errors(path: Path, draft: Path | None = None) -> Iterator[None]:
    """Set the file's path in any OSError of the block: a failed write has none, or names the draft."""
    try:
        yield
    except OSError as error:
        if error.filename is None or (draft and str(error.filename) == str(draft)):
            error.filename = str(path)
            del error.filename2  # that of a rename; None would be printed
        raise


def sweep(folder: Path) -> None:
    """Remove the drafts in a folder that no running process is writing."""
    for draft in folder.glob("*.draft"):
        process = draft.name.split(".")[-3:-2]
        is_running = is_alive(process[0]) if process else None
        if is_running is False or (is_running is None and _is_stale(draft)):
            with suppress(OSError):
                shutil.rmtree(draft) if draft.is_dir() else draft.unlink()


def _is_stale(draft: Path) -> bool:
    with suppress(OSError):
        newest = max(p.lstat().st_mtime for p in (draft, *draft.rglob("*")))
        return time.time() - newest > STALE_SECONDS
    return False


def _sync(path: Path, mode: int = os.O_RDONLY) -> None:
    number = os.open(path, mode)
    try:
        os.fsync(number)
    finally:
        os.close(number)
