"""train_32x32.mat and test_32x32.mat: X [32,32,3,N] and y [N,1], in which the digit 0 is called 10.

It has no `lists`: without its images a file is none, and with them all it takes 300 MB.
"""

from pathlib import Path

import numpy as np
from scipy.io import savemat

from .pictures import colour

DRAWN = True
SMALL = {"train": 108, "holdout": 12, "test": 30}


def names_of(size: int) -> np.ndarray:
    """Give the digits as the files call them, 1 to 10, mixed."""
    return np.arange(size) * 7 % 10 + 1


def save(folder: Path, part: str, names: np.ndarray, colours: np.ndarray) -> None:
    """Write a file from what each digit is called [N] and its colour [N,3]."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.empty((32, 32, 3, len(names)), np.uint8, order="F")
    images[:] = colours.T
    content = {"X": images, "y": names[:, None].astype(np.uint8)}
    savemat(folder / f"{part}_32x32.mat", content, do_compression=True)


def write(folder: Path) -> None:
    for part, size in (("train", 120), ("test", 30)):
        names = names_of(size)
        save(folder, part, names, np.array([colour(name % 10, part) for name in names]))
