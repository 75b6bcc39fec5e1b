"""cifar-100-python.tar.gz: as CIFAR-10, but with one training file and two labels an image; no `lists`."""

from pathlib import Path

import numpy as np

from .cifar10 import batch, listed, number, pickled, text
from .pictures import archive

DRAWN = True
TOP = "cifar-100-python"
SMALL = {"train": 180, "holdout": 20, "test": 100}
NAMES = [f"animal_{i}" for i in range(100)]


def write(folder: Path) -> None:
    names = {
        b"coarse_label_names": listed([text(b"sea") for _ in range(20)]),
        b"fine_label_names": listed([text(name.encode()) for name in NAMES]),
    }
    content = {"meta": pickled(names)}
    for part, size in (("train", 200), ("test", 100)):
        numbers = np.arange(size) * 7 % 100
        coarse = listed([number(int(n) % 20) for n in numbers])
        content[part] = batch(part, numbers, b"fine_labels", coarse_labels=coarse)
    archive(folder / "cifar-100-python.tar.gz", {f"{TOP}/{name}": file for name, file in content.items()})
