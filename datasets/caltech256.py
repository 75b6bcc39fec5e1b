"""Caltech-256: 30,607 photographs of 256 kinds of things and of clutter; no official split, all parts drawn.

Each class has 60 training images, the largest number that the authors use. Here 6 of them are the holdout,
and the rest of a class is the test part. Clutter counts as a class, as in torchvision.
"""

from pathlib import Path

from .about import About, Archive, Listing, Torchvision
from .reading import holdout
from .storage.table import Row

ABOUT = About(
    title="Caltech-256 with its clutter, 60 training images a class (Griffin et al. 2007)",
    homepage="https://data.caltech.edu/records/nyy15-4j048",
    license="CC BY 4.0",
    num_classes=257,
    sizes={"train": 13_878, "holdout": 1_542, "test": 15_187},
    probes=("001.ak47",),
    folders=("256_ObjectCategories", "caltech256/256_ObjectCategories"),
    archives=(
        Archive(
            "https://data.caltech.edu/records/nyy15-4j048/files/256_ObjectCategories.tar",
            "sha256:08ff01b03c65566014ae88eb0490dbe4419fc7ac4de726ee1163e39fd809543e",
            1_183_006_720,
        ),
    ),
    torchvision=Torchvision("Caltech256"),
)
PER_CLASS = {"holdout": 6, "train": 54}


def read(root: Path) -> Listing:
    """Read the folders `001.ak47` to `257.clutter`; some contain other files or folders."""
    folders = sorted(f.name for f in root.iterdir() if f.is_dir())
    rows = [
        Row(f"{folder}/{image.name}", label)
        for label, folder in enumerate(folders)
        for image in sorted((root / folder).glob(f"{folder[:3]}_*.jpg"))
    ]
    classes = tuple(f.split(".", 1)[1].removesuffix("-101").replace("-", " ") for f in folders)
    return Listing(classes, holdout.draw_per_class(rows, PER_CLASS["holdout"], PER_CLASS["train"]))
