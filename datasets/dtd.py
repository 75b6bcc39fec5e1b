"""DTD: 47 describable textures, 5,640 photographs; the first of the ten official splits."""

from pathlib import Path

from ..user_text import read_text
from .about import About, Archive, Listing, Torchvision
from .storage.table import Row

ABOUT = About(
    title="DTD, describable textures, split 1 (Cimpoi et al. 2014)",
    homepage="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
    license="research",
    num_classes=47,
    sizes={"train": 1_880, "holdout": 1_880, "test": 1_880},
    probes=("labels/train1.txt",),
    folders=("dtd", "dtd/dtd"),
    archives=(
        Archive(
            "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
            "sha256:e42855a52a4950a3b59612834602aa253914755c95b0cff9ead6d07395f8e205",
            625_239_812,
        ),
    ),
    torchvision=Torchvision("DTD"),
)
LISTS = {"train": "train1", "holdout": "val1", "test": "test1"}


def read(root: Path) -> Listing:
    """Read the lists of `texture/image.jpg`."""
    lines = {part: read_text(root / f"labels/{name}.txt").split() for part, name in LISTS.items()}
    classes = sorted({line.split("/")[0] for line in lines["train"]})
    parts = {
        part: [Row(f"images/{line}", classes.index(line.split("/")[0])) for line in own]
        for part, own in lines.items()
    }
    return Listing(tuple(classes), parts)
