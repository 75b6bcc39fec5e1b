"""Draw parts from the training images, by a hash of each image's name: the same in every copy."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ... import InputError
from ..base import Dataset, Part, derive_seed
from ..pixels import ArrayImages, Images
from ..storage.table import IndexedImages

PARTS = ("holdout", "test")  # that can be drawn
SHARE = 0.2  # of the training images of each class, for each part
SEED = 0
TARGET_SHARES = {"train": 0.6, "holdout": 0.2, "test": 0.2}
SOURCE_SHARES = {"train": 0.95, "holdout": 0.05}


def parts_of(text: str) -> tuple[str, ...]:
    """Return the parts that the setting `draw` names, in a fixed order.

    Raises:
        InputError: if a part is not known, or named twice.
    """
    wanted = [word.strip() for word in text.strip("[]").split(",")]
    if not set(wanted) <= set(PARTS) or len(set(wanted)) < len(wanted):
        raise InputError(f"draw={text}: expected holdout, test, or holdout,test")
    return tuple(part for part in PARTS if part in wanted)


def draw(dataset: Dataset, wanted: Sequence[str]) -> Dataset:
    """Move a fifth of the training images of each class to a part that the data set lacks, for each part.

    The images are chosen by a hash of class folder and file name. Other parts stay as they are: the test
    images are never drawn from the holdout, or the other way round.

    Args:
        dataset: the data set.
        wanted: the parts to draw.

    Raises:
        InputError: if there is such a part already, or a class has too few images.
    """
    text = f"draw={','.join(wanted)}"
    if there := [part for part in wanted if part in dataset.parts]:
        raise InputError(f"{text}: {dataset.name} has {there[0]} images; only a missing part can be drawn")
    train = dataset.part("train")
    if train.labels.ndim == 1:
        count = np.bincount(train.labels, minlength=len(dataset.classes))
        check_counts(
            f"{text}: {dataset.name}/train", dataset.classes, count, 1 + len(wanted), dataset.left_out
        )
    of_rest = {part: SHARE / (1 - n * SHARE) for n, part in enumerate(wanted)}
    order = hashes(_key(train.images, i) for i in range(len(train.labels)))
    parts = {
        part: Part(_subset(train.images, rows), train.labels[rows])
        for part, rows in draw_split(order, train.labels, {"train": 1.0, **of_rest}).items()
    }
    words = " and ".join(f"{len(parts[part].labels):,} {part}" for part in wanted)
    each = "each class" if train.labels.ndim == 1 else "them"
    how = f"{100 * SHARE:.0f} % of {each} with seed {SEED} ({text})"
    note = f"{dataset.name}: {words} images are drawn from train, {how}"
    return replace(
        dataset,
        parts={**dataset.parts, **parts},
        fingerprint=f"{derive_seed(dataset.fingerprint, *wanted):016x}",
        notes=(*dataset.notes, note),
    )


def shares_of(as_source: bool) -> dict[str, float]:
    """Return the parts of a set that comes without parts, and the fraction that each gets of what is left."""
    return SOURCE_SHARES if as_source else TARGET_SHARES


def hashes(keys: Iterable[str]) -> np.ndarray:
    """Return the hash of each name [n], by which images are drawn."""
    return np.fromiter((derive_seed(SEED, key) for key in keys), np.int64)


def draw_split(order: np.ndarray, labels: np.ndarray, shares: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Split images by class; the split of a class depends only on its own images.

    Args:
        order: hash of each image [n]; those with the smallest go to the last parts.
        labels: their labels [n], or [n,L]: then they are one class.
        shares: fraction that each part gets of what the parts before it have left, at least one image per
            class; the first part comes last and gets the rest.

    Returns:
        The numbers of the images of each part, sorted.
    """
    labels = labels if labels.ndim == 1 else np.zeros(len(labels), np.int64)
    ordered = np.lexsort((order, labels))
    first, *others = shares
    drawn: dict[str, list[np.ndarray]] = {part: [] for part in shares}
    for own in np.split(ordered, np.cumsum(np.bincount(labels))[:-1]):
        for part in others:
            count = min(max(1, round(shares[part] * len(own))), max(0, len(own) - 1))
            drawn[part].append(own[:count])
            own = own[count:]
        drawn[first].append(own)
    return {part: np.sort(np.concatenate(own)) for part, own in drawn.items()}


def check_counts(
    name: str, classes: Sequence[str], count: np.ndarray, least: int, said: Sequence[str] = ()
) -> None:
    """Check that each class has enough images for a split.

    Args:
        name: of the data set.
        classes: names of the classes.
        count: number of images of each class.
        least: how many are enough; none at all are allowed, too.
        said: what is left out of the data set, for the message.

    Raises:
        InputError: names the first class that has too few.
    """
    for of_class in np.flatnonzero((count > 0) & (count < least))[:1]:
        n = int(count[of_class])
        why = f" ({said[0]})" if said else ""
        raise InputError(
            f"{name}: class '{classes[of_class]}' has {n} image{'s' * (n != 1)}; "
            f"a random split needs {least} or more{why}"
        )


def _key(images: Images, i: int) -> str:
    """Return class folder and file name of an image; in arrays, its number."""
    if not isinstance(images, IndexedImages):
        return str(i)
    return unicodedata.normalize("NFC", "/".join(images.path(i).split("/")[-2:]))


def _subset(images: Images, rows: np.ndarray) -> Images:
    if isinstance(images, IndexedImages):
        return IndexedImages(images.table, images.rows[rows])
    assert isinstance(images, ArrayImages)
    return ArrayImages(images.array[rows])
