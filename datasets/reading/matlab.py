"""Read MATLAB files (version 5), the format of some lists and images.

scipy's reader trusts the sizes in a file, and a damaged file can end the process.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ... import InputError

HEADER_BYTES = 128
MOST_BYTES = 1 << 30  # of a file, and of a decompressed variable
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
MATRIX, COMPRESSED = 14, 15
CELL, STRUCT, CHAR = 1, 2, 4
NUMERIC = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}


@contextmanager
def variables(file: Path, expected: str, content: bytes | None = None) -> Iterator[dict[str, Any]]:
    """Yield the variables of a file, by name; any error in the block is reported as damage of the file.

    Numbers are arrays of two or more axes, and texts are strings. Cells are lists, and structures are lists
    of dictionaries, column by column.

    Args:
        file: its path.
        expected: its content, for the error message.
        content: its bytes, if it is inside an archive.

    Raises:
        FileNotFoundError: if there is no such file.
        InputError: if the file is cut or damaged.
    """
    if content is None and file.stat().st_size > MOST_BYTES:
        raise InputError(f"{file}: more than {MOST_BYTES:,} bytes; expected {expected}")
    data = file.read_bytes() if content is None else content
    try:
        yield dict(_Reader(data[HEADER_BYTES:], "<" if data[126:128] == b"IM" else ">").named())
    except Exception as error:  # of many kinds, in the block too
        raise InputError(f"{file}: cut or damaged; expected {expected}; download it again") from error


class _Reader:
    """A reader of the elements of a file or of a variable, in order."""

    def __init__(self, data: bytes | memoryview, order: str) -> None:
        self.data, self.order, self.at = memoryview(data), order, 0

    def named(self) -> Iterator[tuple[str, Any]]:
        """Yield name and content of every variable."""
        while self.at < len(self.data):
            kind, data = self.element()
            if kind == COMPRESSED:
                unfolding = zlib.decompressobj()
                inner = _Reader(unfolding.decompress(data, MOST_BYTES), self.order)
                if not unfolding.eof:
                    raise ValueError(f"cut, or more than {MOST_BYTES:,} bytes")
                kind, data = inner.element()
            if kind != MATRIX:
                raise ValueError(f"an element of kind {kind} where a variable should be")
            yield _Reader(data, self.order).variable()

    def element(self) -> tuple[int, memoryview]:
        """Return the kind and bytes of the next element; a small element has both in eight bytes."""
        (kind, size), start = self._numbers("II"), self.at + 8
        if kind >> 16:
            kind, size, start = kind & 0xFFFF, kind >> 16, self.at + 4
        if start + size > len(self.data) or (start == self.at + 4 and size > 4):
            raise ValueError("cut")
        end = start + size
        self.at = max(end if kind == COMPRESSED else -(-end // 8) * 8, self.at + 8)
        return kind, self.data[start:end]

    def variable(self) -> tuple[str, Any]:
        """Return name and content of a matrix."""
        if not len(self.data):
            return "", np.zeros((0, 0))
        flags = self.array()
        shape = tuple(int(n) for n in self.array())
        name = bytes(self.element()[1]).decode("latin-1")
        cls, count = int(flags[0]) & 0xFF, math.prod(shape)
        if min(shape) < 0 or count > len(self.data):
            raise ValueError(f"{shape} values in {len(self.data)} bytes")
        if cls in NUMERIC:
            return name, self.array().astype(NUMERIC[cls]).reshape(shape, order="F")
        if cls == CHAR:
            return name, self._text()
        if cls == CELL:
            return name, [self._inner() for _ in range(count)]
        if cls == STRUCT:
            (width,), names = self.array(), bytes(self.element()[1])
            fields = [names[i : i + width].split(b"\0")[0].decode() for i in range(0, len(names), int(width))]
            return name, [{field: self._inner() for field in fields} for _ in range(count)]
        raise ValueError(f"a matrix of class {cls}")

    def array(self) -> np.ndarray:
        """Return the numbers of the next element."""
        kind, data = self.element()
        return np.frombuffer(data, f"{self.order}{NUMBERS[kind]}")

    def _text(self) -> str:
        kind, data = self.element()
        ends = {"<": "-le", ">": "-be"}[self.order] if TEXTS[kind].startswith(("utf-16", "utf-32")) else ""
        return bytes(data).decode(TEXTS[kind] + ends)

    def _inner(self) -> Any:
        kind, data = self.element()
        if kind != MATRIX:
            raise ValueError(f"an element of kind {kind} where a matrix should be")
        return _Reader(data, self.order).variable()[1]

    def _numbers(self, kinds: str) -> tuple[int, ...]:
        return struct.unpack_from(self.order + kinds, self.data, self.at)


def label_of(number: Any, num_classes: int) -> int:
    """Return the label of a class number that starts at 1. Raises ValueError if it is out of range."""
    label = int(np.asarray(number).item()) - 1
    if not 0 <= label < num_classes:
        raise ValueError(f"class {label + 1}; expected 1 to {num_classes}")
    return label


def path_of(name: Any) -> str:
    """Return an image's path if it is relative and safe. Raises ValueError if not."""
    parts = str(name).split("/")
    if not (isinstance(name, str) and name.isprintable() and len(name) < 256) or {"", ".."} & {*parts}:
        raise ValueError(f"the image {name!r:.40}")
    return name
