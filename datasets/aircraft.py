"""FGVC-Aircraft: 100 variants of aircraft, 10,000 photographs, with official lists for all three parts."""

from pathlib import Path

from ..user_text import read_text
from .about import About, Archive, Listing, Torchvision
from .storage.table import Row

ABOUT = About(
    title="FGVC-Aircraft, 100 variants (Maji et al. 2013)",
    homepage="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
    license="non-commercial research",
    num_classes=100,
    sizes={"train": 3334, "holdout": 3333, "test": 3333},
    probes=("data/images_variant_train.txt",),
    folders=("fgvc-aircraft-2013b",),
    archives=(
        Archive(
            "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
            "sha256:e4e323d410e29f0370c81eabdcbb0e2b813acea1de22891b70b58ff41bfc9834",
            2_753_340_328,
        ),
    ),
    torchvision=Torchvision("FGVCAircraft", ({"split": "train"},)),
)
LISTS = {"train": "train", "holdout": "val", "test": "test"}


def read(root: Path) -> Listing:
    """Read the lists of image numbers and variants. Each photograph has a banner of 20 px at the bottom."""
    classes = tuple(read_text(root / "data/variants.txt").splitlines())
    label_of = {name: label for label, name in enumerate(classes)}
    parts = {}
    for part, name in LISTS.items():
        lines = read_text(root / f"data/images_variant_{name}.txt").splitlines()
        pairs = [line.split(" ", 1) for line in lines]
        parts[part] = [Row(f"data/images/{number}.jpg", label_of[variant]) for number, variant in pairs]
    return Listing(classes, parts)
