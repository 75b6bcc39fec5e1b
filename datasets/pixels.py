"""Encoded images, and decoded pixels in memory or on demand.

Shape letters: N images of a part, B images of a batch, S side of the pixels.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from .decoding.formats import readable_formats, why_unread
from .decoding.remarks import Remark
from .decoding.rgb import upright_rgb
from .device import moved

DECODING = 2  # changes whenever an image may decode to other pixels; part of every fingerprint
MOST_PIXELS = 150_000_000  # per image, checked before decoding
BICUBIC = "bicubic"
INTERPOLATIONS = {BICUBIC: Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
SMALL = 80  # pixels per side; the faster paths for large images gain nothing up to here

Squares = Tensor | list[Tensor]  # uint8 pixels [B,3,S,S], or a list of large images [3,S,S]
Raw = tuple[Squares, Tensor]  # with aspect ratios [B]


def as_tensor(pixels: Squares) -> Tensor:
    """Return the pixels of a batch as one tensor [B,3,S,S]."""
    return torch.stack(pixels) if isinstance(pixels, list) else pixels


def batch_to_device(raw: Raw, device: torch.device) -> Raw:
    """Move a batch to a device; to a GPU as one tensor, for which a list is copied once, to pinned memory."""
    pixels, aspect = raw
    if device.type == "cuda" and isinstance(pixels, list):
        shape = (len(pixels), *pixels[0].shape)
        pixels = torch.stack(pixels, out=torch.empty(shape, dtype=torch.uint8, pin_memory=True))
    if device.type != "cpu" or not isinstance(pixels, list):
        pixels = moved(as_tensor(pixels), device)
    return pixels, moved(aspect, device)


class Images(Protocol):
    """Encoded images of one part, in a fixed order."""

    def __len__(self) -> int: ...
    def decode(self, i: int, side: int, interpolation: str = BICUBIC) -> tuple[np.ndarray, float]:
        """Return image `i` as uint8 [side,side,3] and its aspect ratio, width over height."""


class Unreadable(ValueError):
    """Bytes that are not an image, or an image too large to decode."""


@contextmanager
def open_image(data: bytes) -> Iterator[Image.Image]:
    """Open an encoded image; only its header has been read inside the block.

    Raises:
        Unreadable: for any decoder error here or inside the block.
    """
    try:
        with Image.open(io.BytesIO(data), formats=readable_formats(data)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Unreadable(
                    f"{image.width} x {image.height} pixels; at most {MOST_PIXELS:,} are decoded"
                )
            yield image
    except Unreadable:
        raise
    except Exception as error:  # damaged bytes cause decoder errors of every type
        known = why_unread(data) if isinstance(error, UnidentifiedImageError) else ""
        reason = known or str(error).split("<")[0].strip() or type(error).__name__
        raise Unreadable(reason) from error


def resize_square(
    image: Image.Image, side: int, remarks: list[Remark] | None = None, interpolation: str = BICUBIC
) -> tuple[np.ndarray, float]:
    """Resize a whole image to upright uint8 RGB [side,side,3]; return it with its aspect ratio.

    Large images use torch, in half of PIL's time; one value in two hundred differs from PIL's, by one.

    Args:
        image: an opened image.
        side: pixels per side.
        remarks: a list to which remarks on the conversion are added.
        interpolation: a name in `INTERPOLATIONS`.
    """
    image, found = upright_rgb(image)
    if remarks is not None:
        remarks += found
    aspect = image.width / image.height
    if side <= SMALL:
        return np.asarray(image.resize((side, side), INTERPOLATIONS[interpolation])), aspect
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    resized = interpolate(pixels, (side, side), mode=interpolation, antialias=True)
    return resized[0].permute(1, 2, 0).numpy(), aspect


class ArrayImages:
    """Images in memory as uint8 [N,H,W] (gray) or [N,H,W,3]."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def decode(self, i: int, side: int, interpolation: str = BICUBIC) -> tuple[np.ndarray, float]:
        """Return image `i` as uint8 [side,side,3] and its aspect ratio."""
        return resize_square(Image.fromarray(self.array[i]), side, interpolation=interpolation)


class Pixels(Protocol):
    """Pixels of a part at one size, from memory or decoded on demand."""

    @property
    def device(self) -> torch.device:
        """Return the device of the pixels."""

    def __len__(self) -> int: ...
    def take(self, index: Tensor) -> Callable[[], Raw]:
        """Start loading these images; the returned function waits for them."""


@dataclass(frozen=True)
class MemoryPixels:
    """Decoded pixels: a uint8 tensor [N,3,S,S], often memory-mapped, and aspect ratios [N]."""

    pixels: Tensor
    aspect: Tensor

    @property
    def device(self) -> torch.device:
        """Return the device of the pixels."""
        return self.pixels.device

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: Tensor) -> Callable[[], Raw]:
        """Gather on the pixels' device; large images on the CPU are not copied."""
        index = moved(index, self.device)
        if self.device.type == "cpu" and _is_large(index, self.pixels.shape[-1]):
            return lambda: ([self.pixels[i] for i in index.tolist()], self.aspect[index])
        return lambda: (self.pixels[index], self.aspect[index])

    def to(self, device: torch.device) -> "MemoryPixels":
        """Return the pixels on a device."""
        return MemoryPixels(self.pixels.to(device), self.aspect.to(device))


class DemandPixels:
    """Pixels decoded by threads on each request, for sources that are too large for the cache."""

    device = torch.device("cpu")

    def __init__(self, images: Images, side: int, num_threads: int, interpolation: str = BICUBIC) -> None:
        self.images, self.side, self.interpolation = images, side, interpolation
        self._threads = ThreadPoolExecutor(num_threads)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Tensor) -> Callable[[], Raw]:
        """Start decoding in the threads, and return immediately."""
        given = self.side, self.interpolation
        jobs: list[Future] = [self._threads.submit(self.images.decode, i, *given) for i in index.tolist()]
        return lambda: collated([job.result() for job in jobs], self.side)


def collated(decoded: Sequence[tuple[np.ndarray, float]], side: int) -> Raw:
    """Return decoded images [side,side,3] and their aspect ratios as a batch."""
    aspects = torch.tensor([aspect for _, aspect in decoded])
    if _is_large(aspects, side):
        return [torch.from_numpy(image).permute(2, 0, 1) for image, _ in decoded], aspects
    pixels = np.empty((len(decoded), 3, side, side), np.uint8)  # the batch may be empty
    for i, (image, _) in enumerate(decoded):
        pixels[i] = image.transpose(2, 0, 1)
    return torch.from_numpy(pixels), aspects


def _is_large(batch: Tensor, side: int) -> bool:
    """Return whether a batch is kept as a list of images, which are cropped one by one."""
    return side > SMALL and len(batch) > 0


@dataclass(frozen=True)
class JoinedPixels:
    """Two sets of pixels with one index: the second follows the first."""

    first: Pixels
    second: Pixels
    device = torch.device("cpu")  # where both indexes are known

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def take(self, index: Tensor) -> Callable[[], Raw]:
        """Load from both sets and restore the order of `index`."""
        index = index.cpu()
        late = index >= len(self.first)
        sides = (self.first.take(index[~late]), self.second.take(index[late] - len(self.first)))
        order = torch.argsort(torch.cat((torch.nonzero(~late)[:, 0], torch.nonzero(late)[:, 0])))

        def joined() -> Raw:
            parts = [side() for side in sides]
            device = parts[0][1].device  # one may be on the GPU, the other too large for it
            pixels = [moved(as_tensor(images), device) for images, _ in parts]
            aspects = [moved(aspect, device) for _, aspect in parts]
            place = moved(order, device)
            return torch.cat(pixels)[place], torch.cat(aspects)[place]

        return joined
