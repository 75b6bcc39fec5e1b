"""Know the bytes of images: hash them once, and again only where a file may have changed.

A file has surely not changed if its size, its inode and its times of modification and of change are those
from before. Otherwise its images are hashed again, and equal bytes give the same hash: a copy, a restored
backup or a `touch` changes nothing.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from rich.console import Console
from rich.progress import track

from ... import InputError
from ..files.atomic import atomic_write
from .table import CHUNK, Table

MOST_IMAGES = 4_000_000  # of a data set, to hash all of them
MOST_BYTES = 256 << 30
NUM_SAMPLED = 1024  # images of a larger data set whose bytes are hashed
RECENT = 50_000_000  # ns; a file that has just changed may change again within one tick of the clock
RECENT_IN_SECONDS = 2_000_000_000  # ns; where the file system counts whole seconds
STAMP = np.dtype([("size", "<i8"), ("mtime", "<i8"), ("ctime", "<i8"), ("inode", "<u8")])
AT_A_TIME = 512  # images hashed between two steps of the progress bar


def contents(table: Table, kept: Path, words: str, rows: np.ndarray | None = None) -> bytes:
    """Return a hash of the bytes of images of a table, in order.

    Up to 4 million images and 256 GiB, all bytes are hashed, and the hashes are kept in `kept`. In a larger
    data set, it covers size and time of modification of every file, and the bytes of 1,024 evenly spaced
    images: a copy of such a set is the same only with the times of the original (`cp -a`, `rsync -a`).

    Args:
        table: the images.
        kept: file for the hashes; one that cannot be written is not an error.
        words: name of the data set, for the progress bar.
        rows: the images that count; None: all.
    """
    separate = np.flatnonzero(table.images["container"] == 0)
    files, containers = _stamps(table, separate), _container_stamps(table)
    num_bytes = _num_bytes(table, separate, files)
    if len(table) > MOST_IMAGES or num_bytes > MOST_BYTES:
        digest = hashlib.sha256()
        for stamps in (files, containers):
            digest.update(stamps["size"].tobytes() + stamps["mtime"].tobytes())
        for i in range(0, len(table), max(1, len(table) // NUM_SAMPLED)):
            digest.update(_hash(table, i))
        return digest.digest()
    hashes = _hashes(table, separate, files, containers, kept, words)
    return hashlib.sha256(np.ascontiguousarray(hashes if rows is None else hashes[rows]).data).digest()


def _hashes(
    table: Table, separate: np.ndarray, files: np.ndarray, containers: np.ndarray, kept: Path, words: str
) -> np.ndarray:
    """Return the hash of each image, uint64 [N]; those of unchanged files come from `kept`."""
    now = time.time_ns()
    hashes, changed = np.zeros(len(table), np.uint64), np.ones(len(table), bool)
    with suppress(OSError, ValueError, KeyError, BadZipFile), kept.open("rb") as f, np.load(f) as before:
        as_before = all(
            before[name].shape == array.shape for name, array in (("hashes", hashes), ("files", files))
        )
        if as_before and before["containers"].shape == containers.shape:
            hashes = before["hashes"]
            changed = before["again"] | (before["containers"] != containers)[table.images["container"]]
            changed[separate] |= before["files"] != files
    if not changed.any():
        return hashes
    again = changed.copy()
    try:
        for rows, found in _hashed(table, np.flatnonzero(changed), words):
            hashes[rows] = found
            again[rows] = False
    finally:  # the work so far also helps after a Ctrl-C
        again |= _is_recent(containers, now)[table.images["container"]]
        again[separate] |= _is_recent(files, now)
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(kept) as draft, draft.open("wb") as out:
                np.savez(out, hashes=hashes, files=files, containers=containers, again=again)
    return hashes


def _is_recent(stamps: np.ndarray, now: int) -> np.ndarray:
    """Return whether each file may change again without another time, bool [n]."""
    tick = np.where(stamps["ctime"] % 1_000_000_000 == 0, RECENT_IN_SECONDS, RECENT)
    return stamps["ctime"] > now - tick


def _hashed(table: Table, rows: np.ndarray, words: str) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Yield rows and the hashes of their images, by threads."""
    starts = range(0, len(rows), AT_A_TIME)
    few = len(starts) < 16
    bar = track(starts, f"reading {words}", console=Console(stderr=True), transient=True, disable=few)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in bar:
            own = rows[start : start + AT_A_TIME]
            found = threads.map(lambda i: _hash(table, i), own.tolist())
            yield own, [int.from_bytes(digest, "little") for digest in found]


def _hash(table: Table, i: int) -> bytes:
    """Return the hash of an image's bytes; zeros if it cannot be read, and so cannot be decoded."""
    try:
        return hashlib.blake2b(table.read(i), digest_size=8).digest()
    except InputError:
        return bytes(8)


def _stamps(table: Table, separate: np.ndarray) -> np.ndarray:
    """Return the STAMP of each image that is a separate file."""
    every = len(separate) == len(table)
    paths = table.all_paths() if every else (table.path(i) for i in separate.tolist())
    return np.fromiter((_stamp(table.root, path) for path in paths), STAMP, len(separate))


def _container_stamps(table: Table) -> np.ndarray:
    """Return the STAMP of each container; the first, which stands for separate files, is empty."""
    found = [(0, 0, 0, 0), *(_stamp(table.root, path) for path in table.containers[1:])]
    return np.array(found, STAMP)


def _stamp(root: Path, path: str) -> tuple[int, int, int, int]:
    """Return size, times and inode of a file; zeros if it cannot be read."""
    try:
        state = os.stat(f"{root}/{path}")  # noqa: PTH116  # Path takes twice as long
    except OSError:
        return 0, 0, 0, 0
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def _num_bytes(table: Table, separate: np.ndarray, files: np.ndarray) -> int:
    """Return the total size of the images."""
    total = int(files["size"].sum())
    if len(separate) < len(table):
        for start in range(0, len(table), CHUNK):
            rows = table.images[start : start + CHUNK]
            total += int(rows["num_bytes"][rows["container"] > 0].sum())
    return total
