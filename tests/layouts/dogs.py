"""images.tar and lists.tar: MATLAB lists of files, with labels from 1 on, and class folders."""

import io
from pathlib import Path

import numpy as np
from scipy.io import savemat

from .pictures import archive, encoded

DRAWN = True
SMALL = {"train": 27, "holdout": 3, "test": 6}
BREEDS = ("n02085620-Chihuahua", "n02086240-Shih-Tzu", "n02089078-black-and-tan_coonhound")


def saved(breeds: tuple[str, ...], size: int, part: str) -> tuple[bytes, dict[str, int]]:
    """Give a list as its file has it, and each image's label by its path; the list goes by breed."""
    labels = np.arange(size) * len(breeds) // size
    paths = [f"{breeds[k]}/{breeds[k][:9]}_{i + 50_000 * (part == 'test')}.jpg" for i, k in enumerate(labels)]
    file = io.BytesIO()
    content = {"file_list": np.array(paths, object), "labels": (labels + 1).astype(np.uint8)}
    savemat(file, content, oned_as="column")
    return file.getvalue(), dict(zip(paths, labels.tolist(), strict=True))


def write(folder: Path) -> None:
    files, images = {}, {}
    for part, size in (("train", SMALL["train"] + SMALL["holdout"]), ("test", SMALL["test"])):
        files[f"{part}_list.mat"], label_of = saved(BREEDS, size, part)
        images |= {f"Images/{path}": encoded(label, part) for path, label in label_of.items()}
    archive(folder / "lists.tar", files)
    archive(folder / "images.tar", images)


def lists(root: Path) -> None:
    breeds = tuple(f"n{i:08}-dog_{i}" for i in range(120))
    for part, size in (("train", 12_000), ("test", 8_580)):
        (root / f"{part}_list.mat").write_bytes(saved(breeds, size, part)[0])
