"""Food-101: 101 dishes, 1,000 photographs of each, with an official test list; the holdout is drawn."""

import json
from pathlib import Path

from .about import About, Archive, Hub, Listing, Torchvision
from .reading import holdout
from .storage.table import Row

ABOUT = About(
    title="Food-101 (Bossard et al. 2014)",
    homepage="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    license="scientific fair use; images belong to their owners on Foodspotting",
    num_classes=101,
    sizes={"train": 68_175, "holdout": 7_575, "test": 25_250},
    probes=("meta/train.json",),
    folders=("food-101",),
    archives=(
        Archive(
            "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",
            "sha256:d97d15e438b7f4498f96086a4f7e2fa42a32f2712e87d3295441b2b6314053a4",
            4_996_278_331,
        ),
    ),
    torchvision=Torchvision("Food101"),
    hub=Hub("ethz/food101", {"train": "train", "test": "validation"}),
)


def read(root: Path) -> Listing:
    """Read the lists of `dish/number` for each dish. The training images are noisy by design."""
    lists = {
        name: json.loads((root / f"meta/{name}.json").read_text(encoding="utf-8"))
        for name in ("train", "test")
    }
    dishes = sorted(lists["train"])
    rows = {
        name: [Row(f"images/{image}.jpg", label) for label, dish in enumerate(dishes) for image in of[dish]]
        for name, of in lists.items()
    }
    classes = tuple(dish.replace("_", " ") for dish in dishes)
    return Listing(classes, {**holdout.split_off("food", rows["train"], ABOUT.sizes), "test": rows["test"]})
