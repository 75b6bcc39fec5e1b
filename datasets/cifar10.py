"""CIFAR-10: 60,000 photographs of 32 px in 10 classes, with an official test set; the holdout is drawn.

The files are pickles. Nothing that a pickle names is called: arrays are built from its bytes.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from .. import InputError
from .about import About, Archive, Listing, Torchvision
from .reading.arrays import Arrays, split_arrays

ABOUT = About(
    title="CIFAR-10 (Krizhevsky 2009)",
    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    license="none stated",
    num_classes=10,
    sizes={"train": 45_000, "holdout": 5_000, "test": 10_000},
    probes=("data_batch_1",),
    folders=("cifar-10-batches-py",),
    archives=(
        Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            170_498_071,
        ),
    ),
    torchvision=Torchvision("CIFAR10"),
    preset="small",
    in_arrays=True,
)
SIDE = 32
ARRAY_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}
DAMAGES = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    MemoryError,
)


def read(root: Path) -> Listing:
    """Read five training batches and the test batch."""
    batches = [batch(root / f"data_batch_{i}", b"labels") for i in range(1, 6)]
    images, labels = map(np.concatenate, zip(*batches, strict=True))
    test = batch(root / "test_batch", b"labels")
    classes = names(root / "batches.meta", b"label_names")
    return Listing(classes, split_arrays("cifar10", (images, labels), test, ABOUT.sizes))


def batch(path: Path, labels: bytes) -> Arrays:
    """Read uint8 images [N,32,32,3], planes of red, green, blue in the file, and their int64 labels [N]."""
    content = unpickled(path)
    try:
        *_, planes = content[b"data"].state
        images = np.frombuffer(planes, np.uint8).reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        numbers = np.array(content[labels], np.int64)
        if len(images) != len(numbers):
            raise ValueError
    except DAMAGES as error:
        raise _damaged(path) from error
    return images, numbers


def names(path: Path, key: bytes) -> tuple[str, ...]:
    """Read the class names."""
    try:
        return tuple(name.decode().replace("_", " ") for name in unpickled(path)[key])
    except DAMAGES as error:
        raise _damaged(path) from error


def unpickled(path: Path) -> Any:
    """Read a Python 2 pickle; refuse everything except arrays and plain values.

    Raises:
        InputError: if it is damaged or contains anything else.
    """
    try:
        with path.open("rb") as f:
            return _Unpickler(f, encoding="bytes").load()
    except DAMAGES as error:
        raise _damaged(path) from error


class _Array:
    """A stand-in for numpy's array, dtype and constructor in a pickle; it keeps the state."""

    state: tuple = ()

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: tuple) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Array]:
        if (module, name) not in ARRAY_NAMES:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return _Array


def _damaged(path: Path) -> InputError:
    return InputError(f"{path}: not a CIFAR file; expected plain arrays and labels; download it again")
