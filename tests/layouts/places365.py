"""filelist_places365-standard.tar, train_256_places365standard.tar and val_256.tar.

A list of the published 1.8 million lines takes many seconds: so no `lists`.
"""

from pathlib import Path

from .pictures import archive, encoded

CATEGORIES = ("/a/airfield", "/a/apartment_building/outdoor", "/a/alley")  # by label; sorted they are others
SMALL = {"train": 12, "holdout": 6}


def texts() -> dict[str, str]:
    """Make the lists: path and label a line, with a slash in front of training images alone."""
    train = [f"{CATEGORIES[i % 3]}/{i:08}.jpg {i % 3}" for i in range(SMALL["train"])]
    val = [f"Places365_val_{i + 1:08}.jpg {i * 2 % 3}" for i in range(SMALL["holdout"])]
    lines = {
        "categories_places365.txt": [f"{name} {label}" for label, name in enumerate(CATEGORIES)],
        "places365_train_standard.txt": train,
        "places365_val.txt": val,
        "places365_test.txt": ["Places365_test_00000001.jpg"],
    }
    return {name: "\n".join(own) + "\n" for name, own in lines.items()}


def write(folder: Path) -> None:
    lists = texts()
    archive(folder / "filelist_places365-standard.tar", {name: text.encode() for name, text in lists.items()})
    train = [line.split() for line in lists["places365_train_standard.txt"].splitlines()]
    val = [line.split() for line in lists["places365_val.txt"].splitlines()]
    archive(
        folder / "train_256_places365standard.tar",
        {f"data_256{path}": encoded(int(label), "train") for path, label in train},
    )
    archive(
        folder / "val_256.tar", {f"val_256/{path}": encoded(int(label), "holdout") for path, label in val}
    )
