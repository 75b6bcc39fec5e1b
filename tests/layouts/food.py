"""food-101.tar.gz: for each dish its images, in JSON and in lines; a train list that is not by dish."""

import json
from pathlib import Path

from .pictures import archive, encoded

DRAWN = True
SMALL = {"train": 27, "holdout": 3, "test": 6}
DISHES = ("waffles", "apple_pie", "lobster_roll_sandwich")  # sorted by nobody


def images(dishes: tuple[str, ...], each: dict[str, int]) -> dict[str, dict[str, list[str]]]:
    """Give a list's images by dish, named as in the archive, without suffix."""
    return {
        part: {d: [f"{d}/{10_000 * (part == 'test') + i * 7}" for i in range(size)] for d in dishes}
        for part, size in each.items()
    }


def write(folder: Path) -> None:
    content = {"food-101/meta/classes.txt": "\n".join(sorted(DISHES)).encode()}
    for part, own in images(DISHES, {"train": 10, "test": 2}).items():
        content[f"food-101/meta/{part}.json"] = json.dumps(own).encode()
        content[f"food-101/meta/{part}.txt"] = "\n".join(sum(own.values(), [])).encode()
        for dish, names in own.items():
            label = sorted(DISHES).index(dish)
            content |= {f"food-101/images/{name}.jpg": encoded(label, part) for name in names}
    archive(folder / "food-101.tar.gz", content)


def lists(root: Path) -> None:
    (root / "meta").mkdir()
    dishes = tuple(f"dish_{i}" for i in range(101))
    for part, own in images(dishes, {"train": 750, "test": 250}).items():
        (root / f"meta/{part}.json").write_text(json.dumps(own))
