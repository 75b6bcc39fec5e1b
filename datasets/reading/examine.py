"""Decode every image of a part once: errors, what decoding did, and whether the part shows anything."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from PIL import Image
from rich.console import Console
from rich.progress import track

from ... import InputError
from ..decoding.formats import is_of_suffix
from ..decoding.remarks import Remark
from ..decoding.rgb import has_more_frames, upright_rgb
from ..pixels import Images
from ..storage.table import IndexedImages

CHUNK = 512  # images decoded between two steps of the progress bar
SIDE = 32  # pixels per side of images that are not files
THUMBNAIL = (16, 16)  # pixels; images with equal thumbnails are alike
DARK, LIGHT = (
    17,
    238,
)  # almost black: all levels below DARK; almost white: all above LIGHT; 12 of 16 bits end at 16
NEARLY_ALL = 0.99  # of the pixels of an image
ONE_COLOR = "of a single color"  # such images show nothing, like the next three
BLACK, WHITE = "that are almost black", "that are almost white"
DEEP_BLACK = "of more than 8 bits that are almost black: scale their values to the whole range"
MOSTLY = {
    color: f"that are {color} in {NEARLY_ALL:.0%} of their pixels or more" for color in ("black", "white")
}


class Seen(NamedTuple):
    """One decoded image: remarks on it, in words that follow a number of images, and its thumbnail."""

    remarks: list[str]
    thumbnail: bytes


@dataclass
class Examined:
    """The images of a part, each decoded once.

    Attributes:
        errors: one line for each image that cannot be decoded.
        faults: one line for each reason why most images show nothing.
        remarks: one line for each other remark, with the number of images and an example.
    """

    errors: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def examine(images: Images, name: str) -> Examined:
    """Decode all images of a part, by threads.

    A part is at fault if all its images are alike, or if more than half of them show nothing: they are of a
    single color, or almost black or white. Images with a light or dark ground, such as digits, do show
    something.

    Args:
        images: those of the part.
        name: of the part, for the lines.
    """
    found = Examined()
    count, example = Counter[str](), dict[str, int]()
    thumbnails: set[bytes] = set()
    num_seen = 0
    for i, seen in enumerate(_each(images, f"examining {name}")):
        if isinstance(seen, InputError):
            found.errors.append(str(seen))
            continue
        num_seen += 1
        if len(thumbnails) < 2:
            thumbnails.add(seen.thumbnail)
        for remark in seen.remarks:
            count[remark] += 1
            example.setdefault(remark, i)
    for remark, number in count.items():
        line = f"{name}: {number} of {len(images)} images {remark}, such as {_place(images, example[remark])}"
        most = 2 * number > num_seen
        if remark in MOSTLY.values() and not most:
            continue
        is_fault = most and remark in (ONE_COLOR, BLACK, WHITE, DEEP_BLACK)
        (found.faults if is_fault else found.remarks).append(line)
    if num_seen > 1 and len(thumbnails) == 1:
        found.faults.append(f"{name}: all {num_seen} images decode to the same pixels")
    return found


def _each(images: Images, words: str) -> Iterator[Seen | InputError]:
    """Yield what each image shows, in order, or its error."""

    def seen(i: int) -> Seen | InputError:
        try:
            return _seen(images, i)
        except InputError as error:
            return error

    starts = range(0, len(images), CHUNK)
    bar = track(starts, words, console=Console(stderr=True), transient=True, disable=len(starts) < 8)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in bar:
            yield from threads.map(seen, range(start, min(start + CHUNK, len(images))))


def _seen(images: Images, i: int) -> Seen:
    """Decode one image at its own size. Raises InputError if it cannot be decoded."""
    remarks: list[str] = []
    if isinstance(images, IndexedImages):
        with images.opened(i) as opened:
            image, of_decoding = upright_rgb(opened)
            remarks += [*of_decoding, *([Remark.FRAMES] if has_more_frames(opened) else [])]
            remarks += [] if is_of_suffix(opened.format, images.path(i)) else [Remark.OTHER_FORMAT]
    else:
        image = Image.fromarray(images.decode(i, SIDE)[0])
    remarks += _emptiness(image, Remark.HIGH_BITS in remarks)
    thumbnail = image.resize(THUMBNAIL, Image.Resampling.BOX)
    return Seen(remarks, hashlib.sha256(thumbnail.tobytes()).digest())


def _emptiness(image: Image.Image, is_deep: bool) -> list[str]:
    """Return remarks on an RGB image that shows nothing, or little beside black or white."""
    bounds = cast("tuple[tuple[int, int], ...]", image.getextrema())
    lowest, highest = min(low for low, _ in bounds), max(high for _, high in bounds)
    if highest < DARK:
        return [DEEP_BLACK if is_deep and highest else BLACK]
    if lowest > LIGHT:
        return [WHITE]
    if all(low == high for low, high in bounds):
        return [ONE_COLOR]
    levels = image.convert("L").histogram()
    least = NEARLY_ALL * image.width * image.height
    shares = {"black": sum(levels[:DARK]), "white": sum(levels[LIGHT + 1 :])}
    return [MOSTLY[color] for color, number in shares.items() if number >= least]


def _place(images: Images, i: int) -> str:
    return images.path(i) if isinstance(images, IndexedImages) else f"number {i}"
