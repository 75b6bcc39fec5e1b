"""Data sets whose official files are arrays of small images."""

from collections.abc import Mapping

import numpy as np

from ..base import Part
from ..pixels import ArrayImages
from ..storage.table import Row
from . import holdout

Arrays = tuple[np.ndarray, np.ndarray]  # uint8 images [N,H,W] or [N,H,W,3], int64 labels [N]


def split_arrays(name: str, train: Arrays, test: Arrays, sizes: Mapping[str, int]) -> dict[str, Part]:
    """Build the parts of an array set; the holdout is drawn by positions in the official training set."""
    rows = [Row(f"train/{i:05}", label) for i, label in enumerate(train[1].tolist())]
    found = {"test": Part(ArrayImages(test[0]), test[1])}
    for part, own in holdout.split_off(name, rows, sizes).items():
        places = [int(row.path.removeprefix("train/")) for row in own]
        found[part] = Part(ArrayImages(train[0][places]), train[1][places])
    return found
