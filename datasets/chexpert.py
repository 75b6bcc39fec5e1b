"""CheXpert 1.0: chest radiographs with 14 labels; five are scored, on the official validation images.

Uncertain labels count as positive. The holdout is drawn from the training list by patient. Departs from Irvin
et al.: the score is computed per image; they score a study, by the largest probability among its images.
A flipped image keeps its labels, since no label names a side.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from itertools import compress
from pathlib import Path

import numpy as np

from .. import InputError
from .about import About, Listing
from .base import Part, derive_seed
from .reading.holdout import SEED
from .storage.table import IMAGE, IndexedImages, Table

BATCHES = "CheXpert-v1.0 batch"  # folders of the full release
LISTS = f"{BATCHES} 1 (validate & csv)"
ABOUT = About(
    title="CheXpert 1.0 (Irvin et al. 2019)",
    homepage="https://stanfordmlgroup.github.io/competitions/chexpert/",
    license="Stanford research use agreement: non-commercial, no redistribution",
    num_classes=14,
    sizes={"train": 218_414, "holdout": 5_000, "test": 234},
    probes=("train.csv", f"{LISTS}/train.csv"),
    folders=("CheXpert-v1.0-small", "CheXpert-v1.0"),
    by_hand=(
        "register at https://stanfordaimi.azurewebsites.net, download CheXpert-v1.0-small or "
        "CheXpert-v1.0, unpack it"
    ),
    preset="chexpert",
    score="auroc",
    notes=("scored by image, 234 images of 200 studies; uncertain labels count as positive",),
    in_arrays=True,
)
SCORED = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
NUM_COLUMNS = 5  # before the labels: path, sex, age, view, projection
# -1 is uncertain; the field is empty if a report does not mention it.
LABELS = {"1.0": 1, "1": 1, "-1.0": 1, "-1": 1, "0.0": 0, "0": 0, "": 0}

Image = tuple[str, str, str]  # split, patient, and the path below the patient's folder


def read(root: Path) -> Listing:
    """Read both lists; skip the images of patients whose folder this copy lacks."""
    lists = root if (root / "train.csv").exists() else root / LISTS
    classes, train, train_labels = _images(lists / "train.csv")
    _, test, test_labels = _images(lists / "valid.csv")
    share = ABOUT.sizes["holdout"] / (ABOUT.sizes["train"] + ABOUT.sizes["holdout"])
    held = draw_patients([patient for _, patient, _ in train], round(len(train) * share))
    folders = _folders(root, lists)
    is_here = np.array([image[:2] in folders for image in train + test], bool)
    images = list(compress(train + test, is_here))
    labels = np.concatenate((train_labels, test_labels))[is_here]
    table = _table(root, [f"{folders[split, patient]}/{rest}" for split, patient, rest in images])
    rows: dict[str, list[int]] = {part: [] for part in ABOUT.sizes}
    for i, (split, patient, _) in enumerate(images):
        rows["test" if split == "valid" else "holdout" if patient in held else "train"].append(i)
    parts = {part: Part(IndexedImages(table, np.array(own, int)), labels[own]) for part, own in rows.items()}
    return Listing(classes, parts, scored=tuple(classes.index(name) for name in SCORED))


def draw_patients(patients: Sequence[str], size: int) -> set[str]:
    """Draw patients with `size` images in total: in the order of a hash, add each whose images still fit.

    Args:
        patients: the patient of each image [N].
        size: number of images.
    """
    num_images, chosen = Counter(patients), set()
    for patient in sorted(num_images, key=lambda p: derive_seed(SEED, p)):
        if num_images[patient] <= size:
            chosen.add(patient)
            size -= num_images[patient]
    return chosen


def _images(file: Path) -> tuple[tuple[str, ...], list[Image], np.ndarray]:
    """Read a list: the label names, images [N] and labels float32 [N,L].

    Paths start with the release, for example CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg.
    """
    images: list[Image] = []
    labels = bytearray()
    with file.open(encoding="utf-8-sig", newline="") as f:
        lines = csv.reader(f)
        header = next(lines, [])
        for line in filter(None, lines):
            try:
                if len(line) != len(header):
                    raise ValueError(line)
                _, split, patient, rest = line[0].split("/", 3)
                labels += bytes(map(LABELS.__getitem__, line[NUM_COLUMNS:]))
            except (ValueError, KeyError) as error:
                raise InputError(f"{file}: cut or not the official list (line {lines.line_num})") from error
            images.append((split, patient, rest))
    classes = tuple(header[NUM_COLUMNS:])
    if missing := set(SCORED) - set(classes):
        raise InputError(f"{file}: not the official list; expected a column {min(missing)}")
    return classes, images, np.frombuffer(labels, np.uint8).reshape(-1, len(classes)).astype(np.float32)


def _folders(root: Path, lists: Path) -> dict[tuple[str, str], str]:
    """Find the folder of each patient, by split: the full release has batches of the training patients."""
    places = [("train", lists / "train"), ("valid", lists / "valid")]
    places += [("train", batch) for batch in root.glob(f"{BATCHES} *")]
    found: dict[tuple[str, str], str] = {}
    for split, folder in places:
        if folder.is_dir():
            below = folder.relative_to(root).as_posix()
            found |= {(split, own.name): f"{below}/{own.name}" for own in folder.iterdir()}
    return found


def _table(root: Path, places: Sequence[str]) -> Table:
    """Build a table of paths, as an index has it."""
    encoded = [place.encode() for place in places]
    images = np.zeros(len(places), IMAGE)
    images["end"] = np.cumsum([len(place) for place in encoded])
    images["num_bytes"] = -1
    return Table(None, root, ("",), images, np.frombuffer(b"".join(encoded), np.uint8))
