"""Find near-duplicate images within a data set, and between a source and a target.

A near-duplicate of a test image (saved again, resized, a little brighter, or flipped) is a leak. The search
has two steps. Images whose 64-bit perceptual hashes differ in few bits are candidates. A candidate counts if
the thumbnails agree too: after normalizing brightness and contrast, they correlate and differ little
everywhere. Both steps use the whole image resized to a gray square. So a recolored copy is found, and a copy
that is framed, rotated, or cropped by a few percent is missed. Flipped copies count if both sets allow flips.

The limits were chosen on copies of 600 images per set. Percentage of copies found:

| copy | photographs | textures | digits, 28 and 16 px | X-rays, 28 px |
|---|---|---|---|---|
| JPEG quality 60; 3 times the size, JPEG 75; contrast 0.8, 1.2 | 100 | 99-100 | 99-100 | 100 |
| brightness 1.15, clipped | 98-100 | 98 | 100 | 100 |
| size 0.75, brightness 1.15, JPEG 60 | 96-100 | 95 | 59, 3 | 98 |
| brightness 1.3 | 73-76 | 77 | 98-100 | 85 |
| 2 % cropped off each edge | 7-25 | 11 | 0, - | 0 |

The photographs are from Food-101, Tiny ImageNet and Stanford Cars, the digits from MNIST and USPS, and the
textures from DTD, without the 5 % that are plain bands and have no hash. Of the 1.4e9 image pairs within
these sets, 42 match. By eye, 27 are the same image, and 15 the same texture in other colors. Small digits
contain less information: among those of 8x8 pixels, 7 of 1.6 million pairs match that are similar but not
the same. Some may match in the whole of MNIST too, which has 165 times as many pairs as were checked.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from ... import InputError
from ..base import Dataset, derive_seed
from ..files.atomic import atomic_write
from ..pixels import Images
from ..storage import cache

SIDE = 32  # of the thumbnails in pixels
GRAY = np.array([0.299, 0.587, 0.114], np.float32)
NONE = np.uint64(0)  # the hash of an image without one
NOISE = 8.0  # gray levels: smaller amplitudes are JPEG noise, or zero in a symmetric image
FEWEST = 8  # of the 63 frequencies above the noise; a flat image or a ramp has fewer
DISTANCE = 6  # maximum number of different bits between candidates
LEAST_CORRELATION = 0.95  # for fine patterns, which means of 2x2 pixels hide
MOST_DIFFERENCE = 0.6  # of the means of 2x2 pixels, in standard deviations
CROWD = 16  # up to this many images of one hash are compared with all others
BLOCK = 1 << 20  # pairs of hashes compared at once
PAIRS = 4096  # pairs of thumbnails compared at once

Hashed = tuple[Dataset, str, np.ndarray]  # a part, and the hashes of its images and flipped images [2,N]


def overlap(first: Dataset, first_part: str, second: Dataset, second_part: str) -> np.ndarray:
    """Find the near-duplicates between two parts, or within one part.

    Returns:
        Sorted pairs of rows [P,2]; within one part, each pair once with the smaller row first.
    """
    return _overlap(hash_part(first, first_part), hash_part(second, second_part))


def overlapping_rows(source: Dataset, target: Dataset) -> np.ndarray:
    """Find the source's training images [M] that also occur in any part of the target; cached."""
    training, parts = hash_part(source, "train"), [hash_part(target, part) for part in target.parts]
    limits = (DISTANCE, LEAST_CORRELATION, MOST_DIFFERENCE)
    digest = hashlib.sha256(repr((source.fingerprint, target.fingerprint, limits)).encode())
    for _, _, content in (training, *parts):
        digest.update(content.tobytes())  # depends also on which images are readable
    names = f"{cache.short(source.name)}-{cache.short(target.name)}"
    path = cache.folder() / f"{names}-overlap-{digest.hexdigest()[:16]}.npy"
    if not path.exists():
        _save(path, np.unique(np.concatenate([_overlap(training, part)[:, 0] for part in parts])))
    return np.load(path)


def near_pairs(first: np.ndarray, second: np.ndarray, distance: int = DISTANCE) -> np.ndarray:
    """Find the pairs of hashes that differ in at most `distance` bits.

    Exact, with one exception: if more than `CROWD` rows of both sides have equal or near hashes, the later
    rows of one side are only paired with the first `CROWD` rows of the other.

    Args:
        first: hashes [N]; `NONE` matches nothing.
        second: hashes [M].
        distance: maximum number of different bits.

    Returns:
        Sorted pairs of rows of both [P,2].
    """
    (all_first, few_first), (all_second, few_second) = _rows(first), _rows(second)
    found = _band_pairs(first, all_first, second, few_second, distance)
    if len(few_second) < len(all_second):
        found += _band_pairs(first, few_first, second, all_second, distance)
    codes = np.sort(np.concatenate(found))
    codes = codes[np.diff(codes, prepend=-1) > 0]  # np.unique takes ten times as long
    return np.stack(np.divmod(codes, max(1, len(second))), axis=1)


def _rows(side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows with a hash, and the first `CROWD` rows of each hash."""
    rows = np.flatnonzero(side != NONE)
    rows = rows[np.argsort(side[rows], kind="stable")]
    place = np.arange(len(rows)) - np.searchsorted(side[rows], side[rows])  # among the rows of equal hash
    return rows, rows[place < CROWD]


def _band_pairs(
    first: np.ndarray, rows_first: np.ndarray, second: np.ndarray, rows_second: np.ndarray, distance: int
) -> list[np.ndarray]:
    """Compare the rows that agree in at least one of `distance + 1` bands of bits; near rows always do.

    Return the pairs of each band, encoded as row of the first * M + row of the second.
    """
    width = min(63 // (distance + 1), 12)  # in bits; the lowest of the 64 is always set
    found = [np.empty(0, np.int64)]
    for band in range(distance + 1):
        buckets = (
            _buckets(side, rows, 1 + band * width, width)
            for side, rows in ((first, rows_first), (second, rows_second))
        )
        for a, b in zip(*buckets, strict=True):
            for some in np.array_split(a, 1 + len(a) * len(b) // BLOCK) if len(a) and len(b) else ():
                i, j = np.nonzero(np.bitwise_count(first[some, None] ^ second[b]) <= distance)
                found.append(some[i] * len(second) + b[j])
    return found


def _buckets(side: np.ndarray, rows: np.ndarray, shift: int, width: int) -> list[np.ndarray]:
    """Sort rows into 2^width buckets by a band of bits of their hashes."""
    keys = (side[rows] >> np.uint64(shift)) & np.uint64((1 << width) - 1)
    order = np.argsort(keys, kind="stable")
    return np.split(rows[order], np.searchsorted(keys[order], np.arange(1, 1 << width, dtype=np.uint64)))


def _overlap(first: Hashed, second: Hashed) -> np.ndarray:
    same = first[0] is second[0] and first[1] == second[1]  # a copy of a set is another set
    found = []
    for mirrored in (0, 1) if first[0].hflip and second[0].hflip else (0,):
        candidates = near_pairs(first[2][mirrored], second[2][0])
        if same:
            candidates = candidates[candidates[:, 0] < candidates[:, 1]]
        found.append(_confirm((first, second), candidates, bool(mirrored)))
    return np.unique(np.concatenate(found), axis=0)


def hash_part(dataset: Dataset, part: str) -> Hashed:
    """Hash the images of a part and their flipped images; cached if every image is readable.

    A bit says whether one of the 8x8 lowest frequencies of a thumbnail is above the noise; the bit of the
    mean is always set. An image that cannot be read, or in which few frequencies are above it, has `NONE`.
    """
    images = dataset.part(part).images
    key = derive_seed(dataset.fingerprint, len(images), SIDE, NOISE, FEWEST)
    path = cache.folder() / f"{cache.short(dataset.name)}-{part}-hashes-{key:016x}.npy"
    if path.exists():
        return dataset, part, np.load(path)
    found, all_read = [np.empty((2, 0), np.uint64)], True
    for thumbnails, read in _thumbnails(images, range(len(images)), f"hashing {dataset.name} {part}"):
        found.append(_hash(thumbnails))
        all_read &= read
    if all_read:
        _save(path, np.concatenate(found, axis=1))
    return dataset, part, np.concatenate(found, axis=1)


def _hash(thumbnails: np.ndarray) -> np.ndarray:
    """Hash thumbnails [n,S,S] and their flipped images, uint64 [2,n]."""
    from scipy.fft import dctn  # imported late: only a search for duplicates needs it

    lowest = dctn(thumbnails.astype(np.float32), axes=(1, 2), norm="ortho")[:, :8, :8]
    lowest[:, 0, 0] = 0
    few = (np.abs(lowest) > NOISE).sum(axis=(1, 2)) < FEWEST
    found = []
    for turned in (lowest, lowest * (-1) ** np.arange(8)):  # a flip changes the sign of odd frequencies
        bits = turned.reshape(-1, 64) > NOISE
        bits[:, 0] = True
        packed = np.packbits(bits, axis=1, bitorder="little").view("<u8")[:, 0]
        found.append(np.where(few, NONE, packed))
    return np.stack(found)


def _confirm(sides: tuple[Hashed, Hashed], candidates: np.ndarray, mirrored: bool) -> np.ndarray:
    """Keep the pairs of rows [C,2] whose thumbnails agree; with `mirrored`, the first image is flipped."""
    thumbnails, places = [], []
    for (dataset, part, _), rows in zip(sides, candidates.T, strict=True):
        wanted, place = np.unique(rows, return_inverse=True)
        decoded = _thumbnails(dataset.part(part).images, wanted.tolist(), f"comparing {dataset.name} {part}")
        thumbnails.append(np.concatenate([np.empty((0, SIDE, SIDE), np.uint8), *(t for t, _ in decoded)]))
        places.append(place)
    agree = [np.empty(0, bool)]
    for start in range(0, len(candidates), PAIRS):
        a, b = (t[p[start : start + PAIRS]] for t, p in zip(thumbnails, places, strict=True))
        agree.append(_thumbnails_agree(a[:, :, ::-1] if mirrored else a, b))
    return candidates[np.concatenate(agree)]


def _thumbnails_agree(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compare thumbnails [n,S,S] pair by pair, after normalizing brightness and contrast."""
    difference = _standardize(a) - _standardize(b)
    correlation = 1 - (difference**2).mean(axis=(1, 2)) / 2
    down = difference[:, 1:] + difference[:, :-1]
    largest = np.abs(down[:, :, 1:] + down[:, :, :-1]).max(axis=(1, 2)) / 4
    return (correlation >= LEAST_CORRELATION) & (largest <= MOST_DIFFERENCE)


def _standardize(thumbnails: np.ndarray) -> np.ndarray:
    spread = thumbnails.std(axis=(1, 2), keepdims=True, dtype=np.float32)
    centered = thumbnails - thumbnails.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    return centered / np.maximum(spread, 1)


def _thumbnails(images: Images, rows: Sequence[int], words: str) -> Iterator[tuple[np.ndarray, bool]]:
    """Yield gray thumbnails uint8 [n,S,S], decoded by threads, and whether all were readable."""
    starts = range(0, len(rows), cache.CHUNK)
    bar = track(starts, words, console=Console(stderr=True), transient=True, disable=len(starts) < 8)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in bar:
            decoded = list(threads.map(lambda i: _decoded(images, i), rows[start : start + cache.CHUNK]))
            black = np.zeros((SIDE, SIDE, 3), np.uint8)  # a flat image has no hash
            colors = np.stack([black if image is None else image for image in decoded])
            yield np.rint(colors @ GRAY).astype(np.uint8), all(image is not None for image in decoded)


def _decoded(images: Images, i: int) -> np.ndarray | None:
    try:
        return images.decode(i, SIDE)[0]
    except InputError:  # reported when the pixels are loaded; one image must not stop the scan
        return None


def _save(path: Path, content: np.ndarray) -> None:
    """Write an array atomically."""
    with cache.disk_errors("thumbnails"), atomic_write(path) as draft, draft.open("wb") as f:
        np.save(f, content)
