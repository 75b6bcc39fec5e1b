"""The files of SVHN, large enough for the recipe, its draws made here once more; grey tells label and part.

It has no `lists`: all sizes but that of the test part are the published ones.
"""

from pathlib import Path

import numpy as np

from . import svhn
from .pictures import PARTS

DIGITS = (1, 2, 3, 4, 5)
SMALL = {"train": 300, "holdout": 3_000, "test": 50}
OFFICIAL = {"train": 1_000, "test": 6_100}
PER_DIGIT = {"train": {"train": 60}, "test": {"holdout": 600, "test": 1_200}}


def grey(label: int, part: str) -> int:
    return 20 + 23 * label + 7 * PARTS.index(part)


def seen(image: np.ndarray) -> tuple[int, str]:
    code = round(image.mean() - 20)
    return code // 23, PARTS[code % 23 // 7]


def write(
    folder: Path,
    digits: tuple[int, ...] = DIGITS,
    sizes: dict[str, int] = OFFICIAL,
    per_digit: dict[str, dict[str, int]] = PER_DIGIT,
) -> None:
    """Write both files; images that no part takes are black."""
    state = np.random.get_state()
    np.random.seed(0)
    for file, counts in per_digit.items():
        names = svhn.names_of(sizes[file])
        greys = np.zeros(len(names))
        for digit in digits:
            order = np.where(names == digit)[0]
            np.random.shuffle(order)
            start = 0
            for part, count in counts.items():
                greys[order[start : start + count]] = grey(digit % len(digits), part)
                start += count
        svhn.save(folder, file, names, np.repeat(greys[:, None], 3, 1))
    np.random.set_state(state)
