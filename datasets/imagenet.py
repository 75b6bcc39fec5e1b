"""ImageNet-1k (ILSVRC-2012): the source of most tables; the holdout is the official validation part.

Supported layouts are the official archives (not unpacked), image folders, and Kaggle's copy.
"""

import csv
import gzip
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from .. import InputError
from .about import About, Listing
from .reading import matlab, wordnet
from .storage import nested_tar
from .storage.table import Row

TRAIN = "ILSVRC2012_img_train.tar", "ILSVRC/Data/CLS-LOC/train", "Data/CLS-LOC/train", "train"
VALIDATION = "ILSVRC2012_img_val.tar", "ILSVRC/Data/CLS-LOC/val", "Data/CLS-LOC/val", "val"
ABOUT = About(
    title="ImageNet-1k, ILSVRC-2012 (Russakovsky et al. 2015)",
    homepage="https://image-net.org/challenges/LSVRC/2012/",
    license="non-commercial research and education, by registration",
    num_classes=1000,
    sizes={"train": 1_281_167, "holdout": 50_000},
    probes=TRAIN,
    folders=("ILSVRC2012", "ILSVRC", "imagenet-1k", "imagenet1k", "ImageNet"),
    by_hand="register at image-net.org, download ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and "
    "ILSVRC2012_devkit_t12.tar.gz",
)
DEVKIT = "ILSVRC2012_devkit_t12"
KAGGLE_LABELS = "LOC_val_solution.csv"


def read(root: Path) -> Listing:
    """List the classes by sorted id, and their images; tar headers are read lazily."""
    path = nested_tar.first_existing(root, TRAIN)
    places = nested_tar.find_classes(root, path)
    if not places:
        raise nested_tar.missing(root / path / "n01440764")
    label_of = {wnid: label for label, wnid in enumerate(places)}
    train = nested_tar.rows(root, places, label_of, "imagenet train")
    return Listing(
        wordnet.class_names(list(places)), {"train": train, "holdout": _validation(root, label_of)}
    )


def _validation(root: Path, label_of: Mapping[str, int]) -> Iterable[Row]:
    """List the validation images, from class folders or, in a flat folder, with the official labels."""
    path = nested_tar.first_existing(root, VALIDATION)
    places = nested_tar.find_classes(root, path)
    if not places:
        return list(_flat(root, path, label_of))
    if unknown := sorted(set(places) - set(label_of)):
        raise nested_tar.missing(root / "train" / unknown[0])
    return nested_tar.rows(root, places, label_of, "imagenet holdout")


def _flat(root: Path, path: str, label_of: Mapping[str, int]) -> Iterator[Row]:
    wnid_of = _labels_of_kaggle(root) or _labels_of_devkit(root)
    for row in nested_tar.images_in(root, nested_tar.place_of(root, path), "val").rows(-1):
        wnid = wnid_of.get(Path(row.path).stem)
        if wnid is None:
            raise InputError(f"{root / path}: {Path(row.path).name} is not an official validation image")
        if wnid not in label_of:
            raise nested_tar.missing(root / "train" / wnid)
        yield row._replace(label=label_of[wnid])


def _labels_of_kaggle(root: Path) -> dict[str, str]:
    """Read the class id of each validation image from Kaggle's list, which is beside `ILSVRC`."""
    for file in (root / KAGGLE_LABELS, root.parent / KAGGLE_LABELS):
        if file.exists():
            with file.open(encoding="utf-8-sig", newline="") as f:
                return {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(f)}
    return {}


def _labels_of_devkit(root: Path) -> dict[str, str]:
    """Read the class id of each validation image. The ground truth has numbers that `meta.mat` maps to ids.

    The numbers are not in the order of the ids.
    """
    truth = _from_devkit(root, "ILSVRC2012_validation_ground_truth.txt").split()
    meta = _from_devkit(root, "meta.mat")
    with matlab.variables(root / DEVKIT / "data" / "meta.mat", "the id of each number", meta) as content:
        wnid_of = {int(s["ILSVRC2012_ID"].item()): matlab.path_of(s["WNID"]) for s in content["synsets"]}
        return {f"ILSVRC2012_val_{i:08}": wnid_of[int(number)] for i, number in enumerate(truth, start=1)}


def _from_devkit(root: Path, name: str) -> bytes:
    """Read a file of the devkit, packed or not.

    Raises:
        FileNotFoundError: if the archive is missing too; it names the archive.
        InputError: if the archive is damaged.
    """
    if (file := root / DEVKIT / "data" / name).exists():
        return file.read_bytes()
    place = root / f"{DEVKIT}.tar.gz"
    try:
        with tarfile.open(place) as archive:
            return archive.extractfile(f"{DEVKIT}/data/{name}").read()  # type: ignore[union-attr]
    except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, KeyError, AttributeError) as error:
        raise InputError(f"{place}: cut or damaged; expected {name}; download it again") from error
