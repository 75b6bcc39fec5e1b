"""Caltech-101: 9,144 photographs of 101 kinds of things and of clutter; no official split, all parts drawn.

The authors recommend 30 training images per class. Here 3 of them are the holdout, and the rest of a class is
the test part. Clutter counts as a class, with the sizes of VTAB; torchvision drops it.
"""

from pathlib import Path

from .about import About, Archive, Listing, Torchvision
from .reading import holdout
from .storage.table import Row

ABOUT = About(
    title="Caltech-101 with its clutter, 30 training images a class (Li et al. 2004)",
    homepage="https://data.caltech.edu/records/mzrjq-6wc02",
    license="CC BY 4.0",
    num_classes=102,
    sizes={"train": 2_754, "holdout": 306, "test": 6_084},
    probes=("accordion",),
    folders=("101_ObjectCategories", "caltech-101/101_ObjectCategories", "caltech101/101_ObjectCategories"),
    archives=(
        Archive(  # the homepage has it inside caltech-101.zip
            "https://drive.usercontent.google.com/download"
            "?id=137RyRjvTBkBiIfeYBNZBtViDHQ6_Ewsp&export=download&confirm=t",
            "sha256:af6ece2f339791ca20f855943d8b55dd60892c0a25105fcd631ee3d6430f9926",
            131_740_031,
            name="101_ObjectCategories.tar.gz",
        ),
    ),
    torchvision=Torchvision("Caltech101"),
    by_hand=(
        "download caltech-101.zip from https://data.caltech.edu/records/mzrjq-6wc02, extract "
        "101_ObjectCategories.tar.gz from it"
    ),
)
PER_CLASS = {"holdout": 3, "train": 27}


def read(root: Path) -> Listing:
    """Read the class folders; the file `tmp` in the clutter class is not an image."""
    folders = sorted(f.name for f in root.iterdir() if f.is_dir())
    rows = [
        Row(f"{folder}/{image.name}", label)
        for label, folder in enumerate(folders)
        for image in sorted((root / folder).glob("image_*.jpg"))
    ]
    classes = tuple(folder.replace("_", " ") for folder in folders)
    return Listing(classes, holdout.draw_per_class(rows, PER_CLASS["holdout"], PER_CLASS["train"]))
