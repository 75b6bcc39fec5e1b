"""Decode once: a memory-mapped uint8 file for each part, size and state of the data.

The folder is `$TRANSFERBENCH_CACHE` (default `~/.cache/transferbench`); a part that would take more
than `$TRANSFERBENCH_CACHE_GB` (default 20) is decoded on demand instead.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from .. import InputError
from .base import Dataset
from .pixels import DemandPixels, Images, MemoryPixels, Pixels

CHUNK = 512  # images decoded between two writes


def folder() -> Path:
    """Give the cache folder, made when missing."""
    path = Path(os.environ.get("TRANSFERBENCH_CACHE", "~/.cache/transferbench")).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return path


def pixels(dataset: Dataset, part: str, side: int) -> Pixels:
    """Get the pixels of a part at `side`, decoding them unless the cache has them.

    Raises: InputError when an image cannot be read.
    """
    images = dataset.part(part).images
    if len(images) * side * side * 3 > float(os.environ.get("TRANSFERBENCH_CACHE_GB", "20")) * 1e9:
        return DemandPixels(images, side, num_threads=os.cpu_count() or 1)
    stem = folder() / f"{dataset.name}-{part}-{side}px-{dataset.fingerprint}"
    files = (stem.with_suffix(".pixels.npy"), stem.with_suffix(".aspect.npy"))
    if not all(f.exists() for f in files):
        _decode(images, side, files, f"decoding {dataset.name} {part}")
    array, aspect = (np.load(f, mmap_mode="c") for f in files)
    return MemoryPixels(torch.from_numpy(array), torch.from_numpy(np.array(aspect)))


def _decode(images: Images, side: int, files: tuple[Path, Path], words: str) -> None:
    """Write the pixels into drafts that are renamed when whole, so that processes do not fight."""
    drafts = [f.with_name(f"{f.name}.{os.getpid()}.draft") for f in files]
    try:
        array = np.lib.format.open_memmap(
            drafts[0], mode="w+", dtype=np.uint8, shape=(len(images), 3, side, side)
        )
        aspect = np.empty(len(images), np.float32)
        starts = range(0, len(images), CHUNK)
        bar = track(starts, words, console=Console(stderr=True), transient=True, disable=len(starts) < 8)
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for start in bar:
                rows = range(start, min(start + CHUNK, len(images)))
                for i, (image, ratio) in zip(
                    rows, threads.map(lambda i: images.decode(i, side), rows), strict=True
                ):
                    array[i], aspect[i] = image.transpose(2, 0, 1), ratio
        array.flush()
        with drafts[1].open("wb") as f:
            np.save(f, aspect)
        for draft, final in zip(drafts, files, strict=True):
            draft.replace(final)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)


def unreadable(images: Images) -> list[str]:
    """List the images that cannot be decoded, each as the error that it gives."""
    errors = []
    for i in range(len(images)):
        try:
            images.decode(i, 8)
        except InputError as error:
            errors.append(str(error))
    return errors
