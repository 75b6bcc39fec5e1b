"""Tiny ImageNet: 200 of ImageNet's classes at 64 px; the holdout is drawn, and the test part is `val`."""

from pathlib import Path

from ..user_text import read_text
from .about import About, Archive, Listing
from .reading import holdout, wordnet
from .storage.table import Row

ABOUT = About(
    title="Tiny ImageNet (Stanford CS231n 2015)",
    homepage="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    license="ImageNet's terms: non-commercial research and education",
    num_classes=200,
    sizes={"train": 90_000, "holdout": 10_000, "test": 10_000},
    probes=("wnids.txt",),
    folders=("tiny-imagenet-200",),
    archives=(
        Archive(
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            "sha256:6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
            248_100_043,
        ),
    ),
    preset="small",
)


def read(root: Path) -> Listing:
    """Read class folders and the annotations of `val`; labels are in sorted order of the ids."""
    wnids = sorted(read_text(root / "wnids.txt").split())
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    rows = []
    for wnid, label in label_of.items():
        folder = root / "train" / wnid / "images"
        rows += [Row(f.relative_to(root).as_posix(), label) for f in sorted(folder.iterdir())]
    lines = read_text(root / "val/val_annotations.txt").splitlines()
    test = [Row(f"val/images/{line.split()[0]}", label_of[line.split()[1]]) for line in lines]
    return Listing(
        wordnet.class_names(wnids),
        {**holdout.split_off("tiny-imagenet", rows, ABOUT.sizes), "test": test},
    )
