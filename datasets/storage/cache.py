"""Cache decoded images: a memory-mapped uint8 file for each part, size and state of the data.

The folder is `$TRANSFERBENCH_CACHE` (default `~/.cache/transferbench`). A part that would need more than
`$TRANSFERBENCH_CACHE_GB` (default 20) is decoded on demand instead.
"""

import errno
import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from ... import InputError
from ...home import spare_folder
from ..base import Dataset
from ..decoding.remarks import Remark
from ..files.atomic import atomic_write
from ..files.lock import locked
from ..pixels import BICUBIC, DemandPixels, Images, MemoryPixels, Pixels
from .table import IndexedImages

MOST_NAME_BYTES = 80
CHUNK = 512  # images decoded between two writes


def folder() -> Path:
    """Return the cache folder; create it if missing. Without a writable home it is a temporary folder.

    Raises:
        InputError: `$TRANSFERBENCH_CACHE` names a folder that cannot be created.
    """
    given = os.environ.get("TRANSFERBENCH_CACHE")
    path = Path(given or "~/.cache/transferbench").expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if given:
            raise InputError(
                f"TRANSFERBENCH_CACHE={path}: cannot be created ({error.strerror}); expected a writable one"
            ) from error
        path = spare_folder() / "cache"
        path.mkdir(exist_ok=True)
    return path


def short(name: str) -> str:
    """Return the start of a name, for the name of a file, which has at most 255 bytes."""
    return name.encode("utf-8", "surrogateescape")[:MOST_NAME_BYTES].decode("utf-8", "ignore")


def pixels(dataset: Dataset, part: str, side: int, interpolation: str = BICUBIC) -> Pixels:
    """Return the pixels of a part at `side`; decode them unless the cache has them.

    Raises:
        InputError: if an image cannot be read, or the disk is full.
    """
    images = dataset.part(part).images
    if len(images) * side * side * 3 > _budget_bytes():
        return DemandPixels(images, side, num_threads=os.cpu_count() or 1, interpolation=interpolation)
    size = f"{side}px" + (f"-{interpolation}" if interpolation != BICUBIC else "")
    stem = f"{short(dataset.name)}-{part}-{size}-{dataset.fingerprint}"
    files = (folder() / f"{stem}.pixels.npy", folder() / f"{stem}.aspect.npy")
    if not all(f.exists() for f in files):
        words = f"decoding {dataset.name} {part}"
        with disk_errors("decoded images"), locked(files[0], f"another process is {words}"):
            if not all(f.exists() for f in files):
                _decode(images, side, interpolation, files, words)
    array, aspect = (np.load(f, mmap_mode="c") for f in files)
    return MemoryPixels(torch.from_numpy(array), torch.from_numpy(np.array(aspect)))


def _budget_bytes() -> float:
    given = os.environ.get("TRANSFERBENCH_CACHE_GB", "20")
    try:
        return float(given) * 1e9
    except ValueError:
        raise InputError(f"TRANSFERBENCH_CACHE_GB={given}: expected a number, such as 20") from None


def _decode(images: Images, side: int, interpolation: str, files: tuple[Path, Path], words: str) -> None:
    """Write the pixels, then the aspect ratios; print what decoding did to how many images."""
    aspects = []
    remarks = Counter[Remark]()
    with (
        atomic_write(files[0]) as draft,
        draft.open("wb") as f,
    ):  # a write to a memory map would crash on a full disk
        shape = (len(images), 3, side, side)
        np.lib.format.write_array_header_1_0(f, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for pixels, aspect in _chunks(images, side, interpolation, words, remarks):
            f.write(pixels.tobytes())
            aspects.append(aspect)
    with atomic_write(files[1]) as draft, draft.open("wb") as f:
        np.save(f, np.concatenate(aspects))
    for remark, count in remarks.items():
        print(f"{words}: {count} of {len(images)} images {remark}", file=sys.stderr)


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn an OSError of the cache's disk into a one-line error that names the file.

    Raises:
        InputError: if a write fails.
        FileNotFoundError: unchanged, if a file to read is missing.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "no space left" if full else f"cannot be written ({error.strerror})"
        raise InputError(
            f"{error.filename or folder()}: {reason} for {what}: "
            "free some space or set TRANSFERBENCH_CACHE to another folder, or TRANSFERBENCH_CACHE_GB=0 "
            "to decode on demand"
        ) from error


def _chunks(
    images: Images, side: int, interpolation: str, words: str, remarks: Counter[Remark]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pixels uint8 [n,3,S,S] and aspect ratios float32 [n], decoded by threads; count remarks."""
    said: list[Remark] = []
    given = {"remarks": said} if isinstance(images, IndexedImages) else {}
    starts = range(0, len(images), CHUNK)
    bar = track(starts, words, console=Console(stderr=True), transient=True, disable=len(starts) < 8)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in bar:
            rows = range(start, min(start + CHUNK, len(images)))
            decoded = list(threads.map(lambda i: images.decode(i, side, interpolation, **given), rows))
            remarks.update(said)
            said.clear()
            pixels = np.stack([image for image, _ in decoded]).transpose(0, 3, 1, 2)
            yield pixels, np.array([aspect for _, aspect in decoded], np.float32)
