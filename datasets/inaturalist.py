"""iNaturalist 2021: 10,000 species; train has 50 photographs of each (the mini set); the holdout is `val`."""

from pathlib import Path

from .about import About, Archive, Listing, Torchvision
from .storage import nested_tar

BASE = "https://ml-inat-competition-datasets.s3.amazonaws.com/2021"
TRAIN = (
    "train_mini",
    "2021_train_mini",
    "train",
    "2021_train",
)  # in the archive and in torchvision; then the full set
VAL = "val", "2021_valid"
ABOUT = About(
    title="iNaturalist 2021, mini training set (Van Horn et al. 2021)",
    homepage="https://github.com/visipedia/inat_comp/tree/master/2021",
    license="non-commercial research and education",
    num_classes=10_000,
    sizes={"train": 500_000, "holdout": 100_000},
    probes=TRAIN,
    folders=("inat2021", "iNat2021"),
    archives=(
        Archive(
            f"{BASE}/train_mini.tar.gz",
            "sha256:faedb949568676e35cc0088b78090a761ab29e30f53edaa65dcad87940fdc7b5",
            44_636_137_542,
        ),
        Archive(
            f"{BASE}/val.tar.gz",
            "sha256:f162b45fed0f676839f335968990fa0f236433d6123bb07b7591f6732c56455d",
            8_931_661_582,
        ),
    ),
    torchvision=Torchvision("INaturalist", ({"version": "2021_train_mini"}, {"version": "2021_valid"})),
)


def read(root: Path) -> Listing:
    """Read class folders such as `00000_Animalia_…_Lumbricus_terrestris`: label first, species last."""
    places = nested_tar.find_classes(root, nested_tar.first_existing(root, TRAIN))
    val = nested_tar.find_classes(root, nested_tar.first_existing(root, VAL))
    label_of = {name: label for label, name in enumerate(places)}
    if unknown := sorted(set(val) - set(places)):
        raise nested_tar.missing(root / "train_mini" / unknown[0])
    return Listing(
        tuple(" ".join(name.split("_")[-2:]) for name in places),
        {
            "train": nested_tar.rows(root, places, label_of, "inaturalist train"),
            "holdout": nested_tar.rows(root, val, label_of, "inaturalist holdout"),
        },
    )
