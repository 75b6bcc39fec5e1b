"""Birdsnap: 500 species of birds of North America; the test list is official, the holdout is drawn.

The lists give URLs of photographs, many of which are dead: most copies have only a part of the set. The
holdout is drawn from the lists, and therefore has the same images in every copy.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from .about import About, Listing
from .reading import holdout
from .storage.table import Row

ABOUT = About(
    title="Birdsnap 1.1 (Berg et al. 2014)",
    homepage="http://thomasberg.org",
    license="none stated; images belong to their owners on Flickr",
    num_classes=500,
    sizes={"train": 42_405, "holdout": 4_981, "test": 2_443},
    probes=("test_images.txt",),
    folders=("birdsnap",),
    by_hand=(
        "download the lists, http://thomasberg.org/datasets/birdsnap/1.1/birdsnap.tgz, and the images, with "
        "its get_birdsnap.py (many are gone) or from a copy, as images/<species>/<number>.jpg"
    ),
)
IMAGES = ("images/", "download/images/", "")  # the second is the folder of get_birdsnap.py


def read(root: Path) -> Listing:
    """Read the lists of species, images and test images; species numbers start at 1."""
    species = {int(row["id"]): row["common"] for row in table(root / "species.txt")}
    test = {row["path"] for row in table(root / "test_images.txt")}
    folder = next(f for f in IMAGES if (root / f).is_dir())
    parts: dict[bool, list[Row]] = {False: [], True: []}
    for row in table(root / "images.txt"):
        parts[row["path"] in test].append(Row(folder + row["path"], int(row["species_id"]) - 1))
    classes = tuple(name for _, name in sorted(species.items()))
    return Listing(classes, {**holdout.split_off("birds", parts[False], ABOUT.sizes), "test": parts[True]})


def table(path: Path) -> Iterator[dict[str, str]]:
    """Yield the lines of a list, as dictionaries with the names of its header."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
