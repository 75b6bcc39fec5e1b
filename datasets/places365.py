"""Places365-Standard at 256 px: 365 kinds of scenes with official lists; the holdout is their `val`."""

from collections.abc import Iterator
from pathlib import Path

from ..user_text import read_text
from .about import About, Archive, Listing, Torchvision
from .storage import nested_tar
from .storage.nested_tar import Rows
from .storage.table import Row

BASE = "http://data.csail.mit.edu/places/places365"
ABOUT = About(
    title="Places365-Standard, 256 px (Zhou et al. 2017)",
    homepage="http://places2.csail.mit.edu/download.html",
    license="non-commercial research and education; images belong to their owners",
    num_classes=365,
    sizes={"train": 1_803_460, "holdout": 36_500},
    probes=("places365_train_standard.txt",),
    folders=("Places365",),
    archives=(
        Archive(
            f"{BASE}/filelist_places365-standard.tar",
            "sha256:520699e00d69b63ddc29fac54645aa00ce1c10ca42e288960aa1cf791d6e9aa9",
            67_498_496,
        ),
        Archive(
            f"{BASE}/train_256_places365standard.tar",
            "sha256:0ade5d7d38c682aa0203014a2b99ad3bf608bf1de0f151dc0d80efba54660a0a",
            26_103_685_120,
        ),
        Archive(
            f"{BASE}/val_256.tar",
            "sha256:24b4e639ef12a0012af525bc4cb443e4ab4aaea8369a1fb009b70e4a4aad5d48",
            525_158_400,
        ),
    ),
    torchvision=Torchvision(
        "Places365", ({"split": "train-standard", "small": True}, {"split": "val", "small": True})
    ),
)
TRAIN_FOLDERS = "data_256", "data_256_standard"  # in the archive, and in torchvision


def read(root: Path) -> Listing:
    """Read the lists of paths and labels."""
    lines = read_text(root / "categories_places365.txt").splitlines()
    names = [line.split()[0] for line in sorted(lines, key=lambda line: int(line.split()[1]))]
    train, val = (read_text(root / f"places365_{what}.txt") for what in ("train_standard", "val"))
    folder = nested_tar.first_existing(root, TRAIN_FOLDERS)
    return Listing(
        tuple(_words(name) for name in names),
        {"train": Rows(lambda: _rows(train, folder)), "holdout": Rows(lambda: _rows(val, "val_256"))},
    )


def _words(name: str) -> str:
    """Turn `/a/apartment_building/outdoor` into a class name."""
    return name[3:].replace("/", ", ").replace("_", " ")


def _rows(lines: str, folder: str) -> Iterator[Row]:
    for line in lines.splitlines():
        path, label = line.split()
        yield Row(f"{folder}/{path.lstrip('/')}", int(label))
