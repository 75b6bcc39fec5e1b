"""Draw the splits that official lists do not define: once, by image name, and the same in every copy.

`splits/<name>.txt` holds the holdout of a set whose official list was available when the file was made.
`loading/print_holdout.py` prints it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ..base import derive_seed
from ..storage.table import Row

SEED = 0
FOLDER = Path(__file__).parents[1] / "splits"


def split_off(name: str, rows: Sequence[Row], sizes: Mapping[str, int]) -> dict[str, list[Row]]:
    """Split an official training list into `train` and `holdout`, stratified by class.

    The rows of a class are sorted by a hash of seed and image name, and the first ones form the holdout.
    Nothing else affects the split. If `splits/<name>.txt` exists, it is used instead.

    Args:
        name: name of the data set.
        rows: the official training images, or those that the copy has.
        sizes: published sizes of `train` and `holdout`; a smaller copy is split in proportion.
    """
    committed = FOLDER / f"{name}.txt"
    if committed.exists():
        lines = committed.read_text(encoding="utf-8").splitlines()
        chosen = {line for line in lines if not line.startswith("#")}
        is_holdout = [key(row) in chosen for row in rows]
    else:
        size = len(rows) * sizes["holdout"] / (sizes["train"] + sizes["holdout"])
        is_holdout = draw(rows, round(size)).tolist()
    sides = (False, "train"), (True, "holdout")
    return {
        part: [r for r, held in zip(rows, is_holdout, strict=True) if held is side] for side, part in sides
    }


def draw(rows: Sequence[Row], size: int) -> np.ndarray:
    """Select `size` of the rows [N] bool, in proportion to the classes; largest remainders round up."""
    if not rows:
        return np.zeros(0, bool)
    labels = np.array([r.label for r in rows])
    order = np.array([derive_seed(SEED, key(r)) for r in rows], dtype=np.uint64)
    share = np.bincount(labels) * size / len(labels)
    count = np.floor(share).astype(int)
    rest = np.argsort(-(share - count), kind="stable")[: size - count.sum()]
    count[rest] += 1
    chosen = np.zeros(len(rows), bool)
    for label, n in enumerate(count):
        own = np.flatnonzero(labels == label)
        chosen[own[np.argsort(order[own], kind="stable")][:n]] = True
    return chosen


def draw_per_class(rows: Sequence[Row], num_holdout: int, num_train: int) -> dict[str, list[Row]]:
    """Draw some images of each class by a hash of their names; the rest of a class is `test`."""
    parts: dict[str, list[Row]] = {"train": [], "holdout": [], "test": []}
    by_class: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: derive_seed(SEED, key(row))):
        by_class.setdefault(row.label, []).append(row)
    for own in by_class.values():
        parts["holdout"] += own[:num_holdout]
        parts["train"] += own[num_holdout : num_holdout + num_train]
        parts["test"] += own[num_holdout + num_train :]
    return {part: sorted(own) for part, own in parts.items()}


def key(row: Row) -> str:
    """Return an image's class folder and stem, a name that is the same in every copy."""
    path = PurePosixPath(row.path)
    return f"{path.parent.name}/{path.stem}"
