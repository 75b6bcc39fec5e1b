"""`data doctor`: check a data set, and find near-identical images in its parts and in a source."""

from itertools import combinations

import numpy as np

from ...datasets import catalog
from ...datasets.base import Dataset
from ...datasets.reading import near_duplicates
from ...datasets.storage import cache
from ...datasets.storage.table import IndexedImages

PARTS = ("train", "holdout", "test")


def doctor(name: str, source: str | None = None) -> int:
    """Check sizes, classes and images of a data set; return 1 if there is a fault.

    Near-identical images in two parts are printed as a note, not a fault: several published sets have some.

    Args:
        name: name or path of the data set.
        source: name or path of a source to compare with.
    """
    for line in [line for given in (name, source) if given for line in catalog.namesakes("", given)]:
        print(line)
    found = catalog.load(name)
    parts = [part for part in PARTS if part in found.parts]
    sizes = ", ".join(f"{len(found.parts[part].labels)} {part}" for part in parts)
    print(f"{found.name}: {len(found.classes)} classes, {sizes}, fingerprint {found.fingerprint}")
    for note in found.notes:
        print(f"  note: {note}")
    wrong = _class_faults(found)
    for part in parts:
        wrong += cache.unreadable(found.parts[part].images)
    for first, second in combinations(parts, 2):
        _print_duplicates(found, first, second)
    for line in wrong:
        print(f"  fault: {line}")
    print("  no faults" if not wrong else f"  {len(wrong)} faults")
    if source:
        other = catalog.load(source, as_source=True)
        rows = near_duplicates.overlapping_rows(other, found)
        print(
            f"{other.name}: {len(rows)} of {len(other.part('train').labels)} train images are near-identical"
        )
        print(f"  with images of {found.name}{'; drop_overlap=true leaves them out' if len(rows) else ''}")
    return 1 if wrong else 0


def _class_faults(found: Dataset) -> list[str]:
    """Print how many images the classes have; return one line per fault."""
    about = catalog.about(found.name) if found.name in catalog.names() else None
    faults = []
    if len(found.classes) < 2:
        faults.append(f"only one class, '{found.classes[0]}'")
    elif about and about.num_classes != len(found.classes):
        faults.append(f"{len(found.classes)} classes; the published set has {about.num_classes}")
    for part, content in found.parts.items():
        labels = content.labels
        count = labels.sum(0) if labels.ndim > 1 else np.bincount(labels, minlength=len(found.classes))
        print(f"  {part}: {count.min():g} to {count.max():g} images a class")
        empty = [c for c, n in zip(found.classes, count, strict=True) if n == 0]
        faults += [f"{part}: no image of {', '.join(empty)}"] if empty else []
    return faults


def _print_duplicates(found: Dataset, first: str, second: str) -> None:
    """Print how many near-identical images two parts have, and the first pair."""
    pairs = near_duplicates.overlap(found, first, found, second)
    if not len(pairs):
        return
    labels = [found.parts[part].labels[rows] for part, rows in ((first, pairs[:, 0]), (second, pairs[:, 1]))]
    differ = int((labels[0] != labels[1]).reshape(len(pairs), -1).any(1).sum())
    under = f", {differ} with different labels" if differ else ""
    print(f"  note: {first} and {second} have {len(pairs)} near-identical pairs{under}, such as")
    print(f"    {_name(found, first, pairs[0, 0])} and {_name(found, second, pairs[0, 1])}")


def _name(found: Dataset, part: str, row: int) -> str:
    images = found.parts[part].images
    return images.path(row) if isinstance(images, IndexedImages) else f"{part} image {row}"
