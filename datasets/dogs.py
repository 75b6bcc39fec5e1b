"""Stanford Dogs: 120 breeds of dogs from ImageNet, with an official test list; the holdout is drawn."""

from pathlib import Path

from .about import About, Archive, Listing
from .reading import holdout, matlab
from .storage.table import Row

BASE = "http://vision.stanford.edu/aditya86/ImageNetDogs"
ABOUT = About(
    title="Stanford Dogs (Khosla et al. 2011)",
    homepage=f"{BASE}/",
    license="ImageNet's terms: non-commercial research and education",
    num_classes=120,
    sizes={"train": 10_800, "holdout": 1_200, "test": 8_580},
    probes=("train_list.mat",),
    archives=(
        Archive(
            f"{BASE}/images.tar",
            "sha256:a443fc2f9a851aa1a7b8e4fa4af94b8459fce2c9f5a2f4dd4669cf9673a4ec58",
            793_579_520,
        ),
        Archive(
            f"{BASE}/lists.tar",
            "sha256:34b47cacd9a98b5d150e084f24d29391c084c55272295ec65c85651bc35f4d6c",
            481_280,
        ),
    ),
    notes=("the images are ImageNet's: pre-training on ImageNet has seen test images",),
)


def read(root: Path) -> Listing:
    """Read the lists of files and labels, which start at 1; the folder's name contains the breed."""
    images = (
        "images/Images" if (root / "images/Images").is_dir() else "Images"
    )  # the first is Kaggle's layout
    breeds: dict[int, str] = {}
    rows: dict[str, list[Row]] = {"train": [], "test": []}
    for name, own in rows.items():
        with matlab.variables(root / f"{name}_list.mat", "file_list and labels of Stanford Dogs") as content:
            for file, number in zip(content["file_list"], content["labels"].ravel(), strict=True):
                label = matlab.label_of(number, ABOUT.num_classes)
                breeds[label] = matlab.path_of(file).split("/")[0].split("-", 1)[1].replace("_", " ")
                own.append(Row(f"{images}/{file}", label))
    classes = tuple(name for _, name in sorted(breeds.items()))
    return Listing(classes, {**holdout.split_off("dogs", rows["train"], ABOUT.sizes), "test": rows["test"]})
