"""Encoded images in memory-mapped columns: millions of images open at once and need little memory."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ... import InputError
from ..decoding.remarks import Remark
from ..pixels import Unreadable, open_image, resize_square

IMAGE = np.dtype([("end", "<i8"), ("offset", "<i8"), ("num_bytes", "<i8"), ("container", "<i4")])
CHUNK = 65_536  # rows in memory at a time
NUM_OPEN = 64  # containers open at a time
MOST_BYTES = 1 << 29  # of an encoded image, which is read into memory


class Row(NamedTuple):
    """An image to add to an index.

    Attributes:
        path: relative to the root, or inside the container.
        label: its class number.
        container: the tar that holds it, relative to the root; empty for a separate file.
        offset: position of its first byte in the container.
        num_bytes: its size; -1 for a separate file of unknown size.
    """

    path: str
    label: int
    container: str = ""
    offset: int = 0
    num_bytes: int = -1


@dataclass(frozen=True, eq=False)
class Table:
    """All images of an index: `images` [N] of IMAGE and their paths as UTF-8 [bytes]."""

    folder: Path | None  # None: in memory
    root: Path
    containers: Sequence[str]  # number 0: separate files
    images: np.ndarray
    paths: np.ndarray
    token: object = field(default_factory=object)  # a rebuilt index opens its containers again

    def __len__(self) -> int:
        return len(self.images)

    def path(self, i: int) -> str:
        """Return the path of image `i`, relative to the root or inside its container."""
        ends = self.images["end"]
        return _text(self.paths[ends[i - 1] if i else 0 : ends[i]].tobytes())

    def all_paths(self) -> Iterator[str]:
        """Yield all paths in order; much faster than `path` for each."""
        start = 0
        for first in range(0, len(self), CHUNK):
            ends = self.images["end"][first : first + CHUNK].tolist()
            blob, base = self.paths[start : ends[-1]].tobytes(), start
            for end in ends:
                yield _text(blob[start - base : end - base])
                start = end

    def row(self, i: int, label: int) -> Row:
        """Return the row of image `i`."""
        _, offset, num_bytes, number = self.images[i].item()
        return Row(self.path(i), label, self.containers[number], offset, num_bytes)

    def place(self, i: int) -> str:
        """Return the location of image `i`: its file, or `container:path`."""
        container = self.containers[self.images["container"][i]]
        return f"{self.root / container}:{self.path(i)}" if container else str(self.root / self.path(i))

    def read(self, i: int) -> bytes:
        """Read the encoded bytes of image `i`. Raises InputError if its file cannot be read."""
        _, offset, num_bytes, number = self.images[i].item()
        file = self.root / (self.containers[number] if number else self.path(i))
        try:
            if (size := num_bytes if number else file.stat().st_size) > MOST_BYTES:
                raise InputError(f"{self.place(i)}: {size:,} bytes; expected at most {MOST_BYTES:,} bytes")
            if number == 0:
                return file.read_bytes()
            opened = _opened(file, self.token)  # a reference keeps it open while other threads evict it
            return opened.read(num_bytes, offset)
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror})") from error


class IndexedImages:
    """Encoded images of one part: rows [n] of a table."""

    def __init__(self, table: Table, rows: np.ndarray) -> None:
        self.table, self.rows = table, rows

    def __len__(self) -> int:
        return len(self.rows)

    def path(self, i: int) -> str:
        """Return the path of image `i`, relative to the root or inside its container."""
        return self.table.path(int(self.rows[i]))

    def read(self, i: int) -> bytes:
        """Read the encoded bytes of image `i`. Raises InputError if its file cannot be read."""
        return self.table.read(int(self.rows[i]))

    @contextmanager
    def opened(self, i: int) -> Iterator[Image.Image]:
        """Open image `i`. Raises InputError that names it, for any error of its decoder in the block."""
        try:
            with open_image(self.read(i)) as image:
                yield image
        except Unreadable as error:
            raise InputError(
                f"{self.table.place(int(self.rows[i]))}: not a readable image ({error}); replace it or "
                "remove it (`transferbench data doctor PATH` lists all such images)"
            ) from error

    def decode(self, i: int, side: int, remarks: list[Remark] | None = None) -> tuple[np.ndarray, float]:
        """Return image `i` as uint8 [side,side,3] and its aspect ratio; add remarks to a list."""
        with self.opened(i) as image:
            return resize_square(image, side, remarks)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


class _Descriptor:
    """A file open for reading, closed when its last reference is gone."""

    def __init__(self, file: Path) -> None:
        self.number = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._seeking = threading.Lock()

    def read(self, num_bytes: int, offset: int) -> bytes:
        """Read bytes at a place; threads may do so together."""
        if hasattr(os, "pread"):
            return os.pread(self.number, num_bytes, offset)
        with self._seeking:  # on Windows the file has one position for all
            os.lseek(self.number, offset, os.SEEK_SET)
            return os.read(self.number, num_bytes)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


@lru_cache(maxsize=NUM_OPEN)
def _opened(file: Path, token: object) -> _Descriptor:
    return _Descriptor(file)
