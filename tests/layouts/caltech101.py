"""101_ObjectCategories.tar.gz: class folders; the parts are drawn here once more, by a hash of the name."""

from pathlib import Path

from transferbench.datasets.base import mix

from .pictures import archive, encoded

TOP = "101_ObjectCategories"
FOLDERS = ("BACKGROUND_Google", "Faces_easy", "accordion")  # in the order of their bytes
SMALL = {"train": 81, "holdout": 9, "test": 6}
DRAWN_EACH = {"holdout": 3, "train": 27}


def drawn(folder: str, names: list[str], each: dict[str, int]) -> dict[str, str]:
    """Draw the parts of a class: its images by name."""
    order = sorted(names, key=lambda name: mix(0, f"{folder}/{name.removesuffix('.jpg')}"))
    parts = [part for part, size in each.items() for _ in range(size)]
    return dict(zip(order, parts + ["test"] * (len(order) - len(parts)), strict=True))


def write(folder: Path) -> None:
    content = {f"{TOP}/BACKGROUND_Google/tmp": b"no image"}
    for label, name in enumerate(FOLDERS):
        parts = drawn(name, [f"image_{i:04}.jpg" for i in range(1, 33)], DRAWN_EACH)
        content |= {f"{TOP}/{name}/{image}": encoded(label, part) for image, part in parts.items()}
    archive(folder / "101_ObjectCategories.tar.gz", content)


def lists(root: Path) -> None:
    """Make 9,144 images; how many a class has is made up."""
    for k, name in enumerate((*FOLDERS, *(f"thing_{i}" for i in range(99)))):
        (root / name).mkdir()
        for i in range(90 if k < 66 else 89):
            (root / name / f"image_{i + 1:04}.jpg").touch()
