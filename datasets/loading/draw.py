"""Draw parts from the training images, by a hash of each image's name: the same in every copy."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ... import InputError
from ..base import Dataset, Part, derive_seed
from ..pixels import ArrayImages, Images
from ..storage.table import IndexedImages
from .groups import groups_of

PARTS = ("holdout", "test")  # that can be drawn
SHARE = 0.2  # of the training images of each class, for each part
SEED = 0
FOLDS = "folds"  # the setting that gives each seed another fifth of all images as its test part
NUM_FOLDS = 5
TARGET_SHARES = {"train": 0.6, "holdout": 0.2, "test": 0.2}
SOURCE_SHARES = {"train": 0.95, "holdout": 0.05}


def parts_of(text: str) -> tuple[str, ...]:
    """Return the parts that the setting `draw` names, in a fixed order.

    Raises:
        InputError: if a part is not known, or named twice.
    """
    if text == FOLDS:
        return ()
    wanted = [word.strip() for word in text.strip("[]").split(",")]
    if not set(wanted) <= set(PARTS) or len(set(wanted)) < len(wanted):
        raise InputError(f"draw={text}: expected holdout, test, holdout,test, or folds")
    return tuple(part for part in PARTS if part in wanted)


def draw(dataset: Dataset, wanted: Sequence[str], groups: str | None = None) -> Dataset:
    """Move a fifth of the training images of each class to a part that the data set lacks, for each part.

    The images are chosen by a hash of class folder and file name. Other parts stay as they are: the test
    images are never drawn from the holdout, or the other way round.

    Args:
        dataset: the data set.
        wanted: the parts to draw.
        groups: which images stay together, see `groups_of`; None: each is drawn by itself.

    Raises:
        InputError: if there is such a part already, or a class has too few images or groups.
    """
    text = f"draw={','.join(wanted)}" + (f" groups={groups}" if groups else "")
    if there := [part for part in wanted if part in dataset.parts]:
        how = "; a set without parts is split already" if there[0] in dataset.drawn else ""
        raise InputError(
            f"{text}: {dataset.name} has {there[0]} images{how}; only a missing part can be drawn"
        )
    train = dataset.part("train")
    of_rest = {part: SHARE / (1 - n * SHARE) for n, part in enumerate(wanted)}
    shares = {"train": 1.0, **of_rest}
    order = hashes(_key(train.images, i) for i in range(len(train.labels)))
    place, said = f"{text}: {dataset.name}/train", dataset.left_out
    together = ""
    if groups:
        group_N = groups_of(dataset, groups)
        drawn = draw_groups(place, dataset.classes, order, train.labels, group_N, shares)
        together = f", {len(np.unique(group_N)):,} groups kept together"
    else:
        if train.labels.ndim == 1:
            count = np.bincount(train.labels, minlength=len(dataset.classes))
            check_counts(place, dataset.classes, count, len(shares), said)
        drawn = draw_split(order, train.labels, shares)
    parts = {part: _subset(train, rows) for part, rows in drawn.items()}
    words = " and ".join(f"{len(parts[part].labels):,} {part}" for part in wanted)
    each = "each class" if train.labels.ndim == 1 else "them"
    how = f"{'about ' * bool(groups)}{100 * SHARE:.0f} % of {each} with seed {SEED}{together} ({text})"
    note = f"{dataset.name}: {words} images are drawn from train, {how}"
    return replace(
        dataset,
        parts={**dataset.parts, **parts},
        fingerprint=f"{derive_seed(dataset.fingerprint, *wanted, *([groups] if groups else [])):016x}",
        notes=(*dataset.notes, note),
        drawn=tuple(wanted),
    )


def is_tiny(dataset: Dataset) -> bool:
    """Return whether the test part that is drawn of a set without parts has one image of most classes."""
    if not {"holdout", "test"} <= set(dataset.drawn) or dataset.part("test").labels.ndim != 1:
        return False
    return float(np.median(np.bincount(dataset.part("test").labels, minlength=len(dataset.classes)))) <= 1


def fold(dataset: Dataset, seed: int) -> Dataset:
    """Return a set that came without parts with other parts: its test and holdout part are a fifth each.

    Five seeds that follow each other, from a multiple of five on, test on each image once. The fifths are
    stratified by class, and of equal size but for one image.

    Args:
        dataset: the data set.
        seed: number of the split.

    Raises:
        InputError: the set came with parts.
    """
    check_folds(dataset)
    parts = [part.images for part in dataset.parts.values() if isinstance(part.images, IndexedImages)]
    row_N = np.concatenate([images.rows for images in parts])
    label_N = np.concatenate([part.labels for part in dataset.parts.values()])
    images = IndexedImages(parts[0].table, row_N)
    order_N = [derive_seed(seed // NUM_FOLDS, _key(images, i)) for i in range(len(row_N))]
    fold_N = np.empty(len(row_N), np.int64)
    fold_N[np.lexsort((np.array(order_N), label_N))] = np.arange(len(row_N)) % NUM_FOLDS
    of_part = {"test": seed % NUM_FOLDS, "holdout": (seed + 1) % NUM_FOLDS}
    held = {part: fold_N == number for part, number in of_part.items()}
    chosen = {"train": ~(held["test"] | held["holdout"]), "holdout": held["holdout"], "test": held["test"]}
    note = (
        f"{dataset.name}: each seed tests on another fifth of the images (draw={FOLDS}), so differences are "
        "paired by seed only, and their intervals are wider, because the seeds share training images"
    )
    return replace(
        dataset,
        parts={part: _subset(Part(images, label_N), np.flatnonzero(is_of)) for part, is_of in chosen.items()},
        fingerprint=f"{derive_seed(dataset.fingerprint, FOLDS, seed):016x}",
        notes=(*dataset.notes, note),
    )


def check_folds(dataset: Dataset) -> None:
    """Check that the parts of a set can be drawn anew. Raises InputError if it came with parts, or groups."""
    if not {"holdout", "test"} <= set(dataset.drawn) or dataset.part("train").labels.ndim != 1:
        raise InputError(
            f"draw={FOLDS}: {dataset.name} has parts of its own, or images with several labels; expected "
            "images of one class each, without parts"
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


def draw_groups(
    name: str,
    classes: Sequence[str],
    order: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    shares: Mapping[str, float],
) -> dict[str, np.ndarray]:
    """Split images as `draw_split`, with all images of a group in one part.

    A group counts for the class that most of its images have. Each part gets groups in the order of their
    smallest hash, without those that would exceed its share by more than half of their images; at least one,
    and one is left for the parts that follow.

    Args:
        name: of the data set, for errors.
        classes: names of the classes.
        order: hash of each image [n].
        labels: their labels [n], or [n,L]: then they are one class.
        groups: number of each image's group [n].
        shares: as of `draw_split`.

    Raises:
        InputError: a class has fewer groups than there are parts.
    """
    label_N = labels if labels.ndim == 1 else np.zeros(len(labels), np.int64)
    _, group_N = np.unique(groups, return_inverse=True)
    size_G, first_G = np.bincount(group_N), np.full(group_N.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first_G, group_N, order)
    votes = np.zeros((len(size_G), label_N.max() + 1), np.int64)
    np.add.at(votes, (group_N, label_N), 1)
    class_G = votes.argmax(1)
    if labels.ndim == 1:
        count = np.bincount(class_G, minlength=len(classes))
        check_counts(name, classes, count, len(shares), noun="group")
    last, *others = shares
    part_G = np.full(len(size_G), last, object)
    for of_class in np.unique(class_G):
        own = np.flatnonzero(class_G == of_class)
        left = own[np.argsort(first_G[own], kind="stable")].tolist()
        for n, part in enumerate(others):
            taken = _taken(left, size_G, shares[part], most=len(left) - (len(others) - n))
            part_G[taken] = part
            left = [g for g in left if part_G[g] == last]
    part_N = part_G[group_N]
    return {part: np.flatnonzero(part_N == part) for part in shares}


def _taken(groups: Sequence[int], size_G: np.ndarray, share: float, most: int) -> list[int]:
    """Return the groups that a part takes, in order: about a share of their images, at least one group."""
    wanted = share * size_G[list(groups)].sum()
    taken: list[int] = []
    for group in groups:
        if len(taken) < most and size_G[taken].sum() + size_G[group] / 2 <= wanted:
            taken.append(group)
    if not taken and most > 0:
        taken.append(min(groups, key=lambda g: size_G[g]))
    return taken


def check_counts(
    name: str,
    classes: Sequence[str],
    count: np.ndarray,
    least: int,
    said: Sequence[str] = (),
    noun: str = "image",
) -> None:
    """Check that each class has enough images for a split.

    Args:
        name: of the data set.
        classes: names of the classes.
        count: number of images of each class, or of another noun.
        least: how many are enough; none at all are allowed, too.
        said: what is left out of the data set, for the message.
        noun: what is counted.

    Raises:
        InputError: names the first class that has too few.
    """
    for of_class in np.flatnonzero((count > 0) & (count < least))[:1]:
        n = int(count[of_class])
        why = f" ({said[0]})" if said else ""
        raise InputError(
            f"{name}: class '{classes[of_class]}' has {n} {noun}{'s' * (n != 1)}; "
            f"a random split needs {least} or more{why}"
        )


def _key(images: Images, i: int) -> str:
    """Return class folder and file name of an image; in arrays, its number."""
    if not isinstance(images, IndexedImages):
        return str(i)
    return unicodedata.normalize("NFC", "/".join(images.path(i).split("/")[-2:]))


def _subset(part: Part, rows: np.ndarray) -> Part:
    images, labels = part.images, part.labels[rows]
    columns = {name: own[rows] for name, own in part.columns.items()}
    if isinstance(images, IndexedImages):
        return Part(IndexedImages(images.table, images.rows[rows]), labels, columns)
    assert isinstance(images, ArrayImages)
    return Part(ArrayImages(images.array[rows]), labels, columns)
