"""Where pixels come from: encoded images, and decoded ones in memory or on demand.

Shape letters: N images of a part, B images of a batch, S side of the pixels.
"""

import io
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from .device import moved

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")  # others of PIL's start programs, as EPS
MOST_PIXELS = 150_000_000  # of an image, before it is decoded
SMALL = 80  # pixels a side: up to here images fit the cache and cost little, and ways that win nothing stay

Squares = Tensor | list[Tensor]  # uint8 pixels [B,3,S,S]; or of large images each [3,S,S], where it lies
Raw = tuple[Squares, Tensor]  # and aspect ratios [B]


def as_tensor(pixels: Squares) -> Tensor:
    """Give the pixels of a batch as one tensor [B,3,S,S]."""
    return torch.stack(pixels) if isinstance(pixels, list) else pixels


def batch_to_device(raw: Raw, device: torch.device) -> Raw:
    """Bring a batch to a device; to a GPU as a whole."""
    pixels, aspect = raw
    if device.type != "cpu" or not isinstance(pixels, list):
        pixels = moved(as_tensor(pixels), device)
    return pixels, moved(aspect, device)


class Images(Protocol):
    """Encoded images of one part, in a fixed order."""

    def __len__(self) -> int: ...
    def decode(self, i: int, side: int) -> tuple[np.ndarray, float]:
        """Give image `i` as uint8 [side,side,3] and its aspect ratio, width over height."""


class Unreadable(ValueError):
    """Bytes that are no image, or one that nobody should decode."""


@contextmanager
def open_image(data: bytes) -> Iterator[Image.Image]:
    """Open an encoded image, of which only the header is read yet.

    Raises: Unreadable for whatever a decoder finds wrong in here or inside the block.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Unreadable(
                    f"{image.width} x {image.height} pixels; at most {MOST_PIXELS:,} are decoded"
                )
            yield image
    except Unreadable:
        raise
    except Exception as error:  # damaged bytes lead decoders to errors of every kind
        reason = str(error).split("<")[0].strip() or type(error).__name__
        raise Unreadable(reason) from error


def resize_square(image: Image.Image, side: int) -> tuple[np.ndarray, float]:
    """Resize a whole image to uint8 [side,side,3], bicubically; gives its aspect ratio too.

    Large ones by torch, in half of PIL's time; one level in two hundred differs from PIL's, by one.
    """
    aspect = image.width / image.height
    image = image if image.mode == "RGB" else image.convert("RGB")
    if side <= SMALL:
        return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)), aspect
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    resized = interpolate(pixels, (side, side), mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0).numpy(), aspect


class ArrayImages:
    """Images that lie in memory as uint8 [N,H,W] (grey) or [N,H,W,3]."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def decode(self, i: int, side: int) -> tuple[np.ndarray, float]:
        """Give image `i` as uint8 [side,side,3] and its aspect ratio."""
        return resize_square(Image.fromarray(self.array[i]), side)


class Pixels(Protocol):
    """Pixels of a part at one size, from memory or decoded on demand."""

    @property
    def device(self) -> torch.device:
        """Where the pixels lie."""

    def __len__(self) -> int: ...
    def take(self, index: Tensor) -> Callable[[], Raw]:
        """Start to get these images; the function that is returned waits for them."""


@dataclass(frozen=True)
class MemoryPixels:
    """Pixels decoded once: a uint8 tensor [N,3,S,S], often a memory map, and aspects [N]."""

    pixels: Tensor
    aspect: Tensor

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self.pixels.device

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: Tensor) -> Callable[[], Raw]:
        """Gather on the device where the pixels lie; large ones on a CPU stay in their places."""
        index = moved(index, self.device)
        if self.device.type == "cpu" and _is_large(index, self.pixels.shape[-1]):
            return lambda: ([self.pixels[i] for i in index.tolist()], self.aspect[index])
        return lambda: (self.pixels[index], self.aspect[index])

    def to(self, device: torch.device) -> "MemoryPixels":
        """Move the pixels onto a device, once."""
        return MemoryPixels(self.pixels.to(device), self.aspect.to(device))


class DemandPixels:
    """Pixels decoded each time they are asked for, by threads: for sources that no cache holds."""

    device = torch.device("cpu")

    def __init__(self, images: Images, side: int, num_threads: int) -> None:
        self.images, self.side = images, side
        self._threads = ThreadPoolExecutor(num_threads)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Tensor) -> Callable[[], Raw]:
        """Start decoding in the threads; returns at once."""
        jobs: list[Future] = [self._threads.submit(self.images.decode, i, self.side) for i in index.tolist()]
        return lambda: _collate([job.result() for job in jobs], self.side)


def _collate(decoded: list[tuple[np.ndarray, float]], side: int) -> Raw:
    aspects = torch.tensor([aspect for _, aspect in decoded])
    if _is_large(aspects, side):
        return [torch.from_numpy(image).permute(2, 0, 1) for image, _ in decoded], aspects
    pixels = np.empty((len(decoded), 3, side, side), np.uint8)  # none at all is a batch too
    for i, (image, _) in enumerate(decoded):
        pixels[i] = image.transpose(2, 0, 1)
    return torch.from_numpy(pixels), aspects


def _is_large(batch: Tensor, side: int) -> bool:
    """Tell whether the images of a batch are kept apart: their crops are made one by one."""
    return side > SMALL and len(batch) > 0


@dataclass(frozen=True)
class JoinedPixels:
    """Two sets of pixels behind one index: the second follows the first."""

    first: Pixels
    second: Pixels
    device = torch.device("cpu")  # where the order of both is known

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def take(self, index: Tensor) -> Callable[[], Raw]:
        """Get from both sides and put the images back into the order asked for."""
        index = index.cpu()
        late = index >= len(self.first)
        sides = (self.first.take(index[~late]), self.second.take(index[late] - len(self.first)))
        order = torch.argsort(torch.cat((torch.nonzero(~late)[:, 0], torch.nonzero(late)[:, 0])))

        def joined() -> Raw:
            parts = [side() for side in sides]
            device = parts[0][1].device  # one side may lie on the GPU, the other be too large for it
            place = order.to(device)
            pixels = [as_tensor(images).to(device) for images, _ in parts]
            return torch.cat(pixels)[place], torch.cat([aspect.to(device) for _, aspect in parts])[place]

        return joined
