"""cifar-10-python.tar.gz: pickles of Python 2, written by opcodes, for Python 3 pickles otherwise.

It has no `lists`: labels and images are in the same files, 180 MB of them.
"""

import struct
from pathlib import Path

import numpy as np

from .pictures import archive, colour

DRAWN = True
TOP = "cifar-10-batches-py"
SMALL = {"train": 90, "holdout": 10, "test": 20}
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def text(value: bytes) -> bytes:
    """Pickle a str of Python 2."""
    return b"T" + struct.pack("<i", len(value)) + value


def listed(items: list[bytes]) -> bytes:
    return b"](" + b"".join(items) + b"e"


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def array(values: np.ndarray) -> bytes:
    """Pickle a uint8 array as numpy of that time did."""
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
    dtype = (
        b"cnumpy\ndtype\n("
        + text(b"u1")
        + b"K\x00K\x01tR(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    shape = b"(" + b"".join(number(n) for n in values.shape) + b"t"
    return made + b"(K\x01" + shape + dtype + b"\x89" + text(values.tobytes()) + b"tb"


def pickled(content: dict[bytes, bytes]) -> bytes:
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in content.items()) + b"u."


def batch(part: str, numbers: np.ndarray, key: bytes = b"labels", **more: bytes) -> bytes:
    """Pickle flat images whose colour tells label and part."""
    planes = np.repeat(np.array([colour(n, part) for n in numbers], np.uint8), 1024, 1)
    labels = listed([number(int(n)) for n in numbers])
    content = {b"batch_label": text(part.encode()), key: labels, b"data": array(planes)}
    return pickled(content | {name.encode(): value for name, value in more.items()})


def write(folder: Path) -> None:
    numbers = np.arange(20) * 3 % 10
    content = {f"data_batch_{i}": batch("train", numbers) for i in range(1, 6)}
    content["test_batch"] = batch("test", numbers)
    content["batches.meta"] = pickled({b"label_names": listed([text(name.encode()) for name in NAMES])})
    archive(folder / "cifar-10-python.tar.gz", {f"{TOP}/{name}": file for name, file in content.items()})
