"""EuroSAT in RGB: 27,000 satellite images of 64 px, 10 kinds of land; no official split, all parts drawn."""

import re
from pathlib import Path

from .about import About, Archive, Listing, Torchvision
from .reading import holdout
from .storage.table import Row

ABOUT = About(
    title="EuroSAT, RGB (Helber et al. 2019)",
    homepage="https://zenodo.org/records/7711810",
    license="MIT",
    num_classes=10,
    sizes={"train": 16_200, "holdout": 5_400, "test": 5_400},
    probes=("AnnualCrop",),
    folders=("EuroSAT_RGB", "2750", "EuroSAT/2750", "eurosat/2750"),
    archives=(
        Archive(
            "https://zenodo.org/records/7711810/files/EuroSAT_RGB.zip",
            "sha256:b4f5b234ecb7d7ff9c6cddb046543b4717c53fd6e9815be6c0e80cc614f51b90",
            94_658_721,
        ),
    ),
    torchvision=Torchvision("EuroSAT"),
    preset="small",
)


def read(root: Path) -> Listing:
    """Read the class folders. The test part is drawn by class first, then the holdout from the rest."""
    folders = sorted(f for f in root.iterdir() if f.is_dir())
    rows = [
        Row(f"{f.name}/{image.name}", label)
        for label, f in enumerate(folders)
        for image in sorted(f.glob("*.jpg"))
    ]
    is_test = holdout.draw(rows, round(len(rows) * ABOUT.sizes["test"] / sum(ABOUT.sizes.values()))).tolist()
    test = [row for row, held in zip(rows, is_test, strict=True) if held]
    rest = [row for row, held in zip(rows, is_test, strict=True) if not held]
    classes = tuple(re.sub("(?<=[a-z])(?=[A-Z])", " ", f.name) for f in folders)
    return Listing(classes, {**holdout.split_off("eurosat", rest, ABOUT.sizes), "test": test})
