"""The files of SVHN for the recipe with ten digits, as those of `svhn5`; it has no `lists` either."""

from pathlib import Path

from . import svhn5

SMALL = {"train": 600, "holdout": 600, "test": 100}
seen = svhn5.seen


def write(folder: Path) -> None:
    per_digit = {"train": {"train": 60}, "test": {"holdout": 60, "test": 60}}
    svhn5.write(folder, (1, 2, 3, 4, 5, 6, 7, 8, 9, 10), {"train": 1_000, "test": 700}, per_digit)
