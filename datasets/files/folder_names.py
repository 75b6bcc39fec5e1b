"""Names of folders and files with a meaning of their own: the parts of a data set, and what is never data."""

import os
import re
from pathlib import Path

from ... import InputError

PART_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("holdout", "val", "valid", "validation", "dev"), "holdout"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
DROPPINGS = (  # of archivers, file managers and servers; all hidden names (with a dot) are ignored, too
    *("__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini", "Icon\r", "$RECYCLE.BIN", "RECYCLER"),
    *("System Volume Information", "lost+found", "@eaDir", "@Recycle", "@Recently-Snapshot", "@tmp"),
    *("#recycle", "#snapshot", "__pycache__"),
)
IS_DROPPING = re.compile(rf"(?:^|/)(?:\.|(?:{'|'.join(map(re.escape, DROPPINGS))})(?:/|$))", re.IGNORECASE)


def is_dropping(path: str) -> bool:
    """Return whether a path is hidden or a known dropping, or is inside such a folder."""
    return IS_DROPPING.search(path) is not None


def part_of(folder: str) -> str:
    """Return the part that a folder's name means, in any case: train, holdout or test; else empty."""
    return PART_NAMES.get(folder.lower(), "")


def listing(place: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, without droppings. Raises InputError if it cannot be read."""
    try:
        with os.scandir(place) as entries:
            return [entry for entry in entries if not is_dropping(entry.name)]
    except OSError as error:
        raise InputError(f"{place}: cannot be read ({error.strerror})") from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_seen(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Return whether a folder is in a set of devices and inodes, and add it: links in circles end."""
    state = folder.stat()
    key = (state.st_dev, state.st_ino)
    found = key in seen
    seen.add(key)
    return found
