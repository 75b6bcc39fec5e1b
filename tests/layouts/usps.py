"""usps.bz2 and usps.t.bz2: LIBSVM lines of 256 values in -1 to 1; labels are 1 to 10."""

import bz2
from pathlib import Path

from . import mnist

DRAWN = True
SMALL = {"train": 90, "holdout": 10, "test": 30}
seen = mnist.seen


def line(digit: int, part: str) -> str:
    value = mnist.grey(digit, part) / 127.5 - 1
    return " ".join([str(digit + 1), *(f"{i + 1}:{value:.6f}" for i in range(256))]) + " \n"


def content(part: str, size: int) -> bytes:
    lines = [line(digit, part) for digit in range(10)]
    return "".join(lines[i % 10] for i in range(size)).encode()


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "usps.bz2").write_bytes(bz2.compress(content("train", 100)))
    (folder / "usps.t.bz2").write_bytes(bz2.compress(content("test", 30)))


def lists(root: Path) -> None:
    """Write the files as a user may have them, unpacked."""
    (root / "usps").write_bytes(content("train", 7_291))
    (root / "usps.t").write_bytes(content("test", 2_007))
