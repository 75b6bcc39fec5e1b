"""Oxford-IIIT Pet: 37 breeds of cats and dogs with an official test list; the holdout is drawn once."""

from pathlib import Path

from ..user_text import read_text
from .about import About, Archive, Hub, Listing, Torchvision
from .reading import holdout
from .storage.table import Row

BASE = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"
ABOUT = About(
    title="Oxford-IIIT Pet (Parkhi et al. 2012)",
    homepage="https://www.robots.ox.ac.uk/~vgg/data/pets/",
    license="CC BY-SA 4.0",
    num_classes=37,
    sizes={"train": 2_940, "holdout": 740, "test": 3_669},
    probes=("annotations/trainval.txt",),
    folders=("oxford-iiit-pet",),
    archives=(
        Archive(
            f"{BASE}/images.tar.gz",
            "sha256:67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
            791_918_971,
        ),
        Archive(
            f"{BASE}/annotations.tar.gz",
            "sha256:52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
            19_173_078,
        ),
    ),
    torchvision=Torchvision("OxfordIIITPet"),
    hub=Hub("timm/oxford-iiit-pet", {"train": "train", "test": "test"}),
)


def read(root: Path) -> Listing:
    """Read the lists: image, breed (from 1), cat or dog, and breed within that kind."""
    breeds: dict[int, str] = {}
    rows: dict[str, list[Row]] = {"trainval": [], "test": []}
    for name, own in rows.items():
        for line in read_text(root / f"annotations/{name}.txt").splitlines():
            image, breed, *_ = line.split()
            breeds[int(breed)] = image.rpartition("_")[0].replace("_", " ")
            own.append(Row(f"images/{image}.jpg", int(breed) - 1))
    classes = tuple(name for _, name in sorted(breeds.items()))
    return Listing(
        classes, {**holdout.split_off("pets", rows["trainval"], ABOUT.sizes), "test": rows["test"]}
    )
