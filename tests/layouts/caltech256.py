"""256_ObjectCategories.tar: numbered class folders, with strays; the parts are drawn here once more."""

from pathlib import Path

from .caltech101 import drawn
from .pictures import archive, encoded

TOP = "256_ObjectCategories"
FOLDERS = ("001.ak47", "002.american-flag", "003.airplanes-101")
SMALL = {"train": 162, "holdout": 18, "test": 6}
DRAWN_EACH = {"holdout": 6, "train": 54}


def write(folder: Path) -> None:
    content = {f"{TOP}/001.ak47/RENAME2": b"no image"}
    for label, name in enumerate(FOLDERS):
        parts = drawn(name, [f"{name[:3]}_{i:04}.jpg" for i in range(1, 63)], DRAWN_EACH)
        content |= {f"{TOP}/{name}/{image}": encoded(label, part) for image, part in parts.items()}
    content[f"{TOP}/002.american-flag/greg/002_0099.jpg"] = encoded(1, "test")
    archive(folder / "256_ObjectCategories.tar", content)


def lists(root: Path) -> None:
    """Make 30,607 images; how many a class has is made up."""
    for k in range(257):
        folder = root / f"{k + 1:03}.thing-{k}"
        folder.mkdir()
        for i in range(120 if k < 24 else 119):
            (folder / f"{k + 1:03}_{i + 1:04}.jpg").touch()
