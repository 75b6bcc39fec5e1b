"""Stanford Cars: 196 models of cars with an official test list; the holdout is drawn once.

The official URLs have been dead since 2023. Copies are read in the layouts of the archives, torchvision and
Kaggle.
"""

from pathlib import Path

from .about import About, Archive, Hub, Listing
from .reading import holdout, matlab
from .storage.table import Row

BASE = "http://ai.stanford.edu/~jkrause"
LISTS = {"cars_train": "cars_train_annos.mat", "cars_test": "cars_test_annos_withlabels.mat"}
LISTS_IN = "devkit", ".", "car_devkit/devkit"
ABOUT = About(
    title="Stanford Cars (Krause et al. 2013)",
    homepage="https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
    license="non-commercial research",
    num_classes=196,
    sizes={"train": 6_494, "holdout": 1_650, "test": 8_041},
    probes=tuple(f"{place}/cars_train_annos.mat" for place in LISTS_IN),
    folders=("stanford_cars",),
    archives=(
        Archive(
            f"{BASE}/car196/cars_train.tgz",
            "sha256:512b227b30e2f0a8aab9e09485786ab4479582073a144998da74d64b801fd288",
            979_269_282,
        ),
        Archive(
            f"{BASE}/car196/cars_test.tgz",
            "sha256:bffea656d6f425cba3c91c6d83336e4c5f86c6cffd8975b0f375d3a10da8e243",
            977_350_468,
        ),
        Archive(
            f"{BASE}/cars/car_devkit.tgz",
            "sha256:b97deb463af7d58b6bfaa18b2a4de9829f0f79e8ce663dfa9261bf7810e9accd",
            330_960,
        ),
        Archive(
            f"{BASE}/car196/cars_test_annos_withlabels.mat",
            "sha256:790f75be8ea34eeded134cc559332baf23e30e91367e9ddca97d26ed9b895f05",
            185_758,
            unpack=False,
        ),
    ),
    hub=Hub("tanganke/stanford_cars", {"train": "train", "test": "test"}),
    by_hand=(
        "download cars_train.tgz, cars_test.tgz, car_devkit.tgz and cars_test_annos_withlabels.mat from a "
        "copy (the official URLs are dead)"
    ),
)


def read(root: Path) -> Listing:
    """Read the annotations; classes start at 1. Those of the test images are not part of the devkit."""

    def list_of(name: str) -> Path:
        places = [root / place / name for place in LISTS_IN]
        return next((p for p in places if p.exists()), places[0])

    rows: list[list[Row]] = []
    for folder, name in LISTS.items():
        place = (
            f"{folder}/{folder}" if (root / folder / folder).is_dir() else folder
        )  # the first is Kaggle's layout
        with matlab.variables(list_of(name), "the annotations of Stanford Cars") as content:
            named = [(matlab.path_of(a["fname"]), a["class"]) for a in content["annotations"]]
            rows.append([Row(f"{place}/{n}", matlab.label_of(c, ABOUT.num_classes)) for n, c in named])
    with matlab.variables(list_of("cars_meta.mat"), "the class names of Stanford Cars") as content:
        classes = tuple(map(str, content["class_names"]))
    train, test = rows
    return Listing(classes, {**holdout.split_off("cars", train, ABOUT.sizes), "test": test})
