"""CUB-200-2011: 200 species of birds, 11,788 photographs, an official test list; the holdout is drawn."""

from pathlib import Path

from ..user_text import read_text
from .about import About, Archive, Listing
from .reading import holdout
from .storage.table import Row

ABOUT = About(
    title="CUB-200-2011 (Wah et al. 2011)",
    homepage="https://www.vision.caltech.edu/datasets/cub_200_2011/",
    license="non-commercial research and education",
    num_classes=200,
    sizes={"train": 5_394, "holdout": 600, "test": 5_794},
    probes=("train_test_split.txt",),
    folders=("CUB_200_2011", "CUB_200_2011/CUB_200_2011"),
    archives=(
        Archive(
            "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            "sha256:0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
            1_150_585_339,
        ),
    ),
    notes=("some test images are in ImageNet's training set, too",),
)


def read(root: Path) -> Listing:
    """Read the lists of image or class numbers, which start at 1, and their values."""
    path, label, is_train, species = (
        dict(line.split() for line in read_text(root / f"{name}.txt").splitlines())
        for name in ("images", "image_class_labels", "train_test_split", "classes")
    )
    parts: dict[str, list[Row]] = {"0": [], "1": []}
    for image, side in is_train.items():
        parts[side].append(Row(f"images/{path[image]}", int(label[image]) - 1))
    folders = [species[number] for number in sorted(species, key=int)]  # such as 001.Black_footed_Albatross
    classes = tuple(folder.partition(".")[2].replace("_", " ") for folder in folders)
    return Listing(classes, {**holdout.split_off("cub", parts["1"], ABOUT.sizes), "test": parts["0"]})
