"""`data doctor`: check a data set, and find near-identical images in its parts and in a source."""

import shlex
from itertools import combinations

import numpy as np

from ... import InputError
from ...datasets import catalog
from ...datasets.base import Dataset
from ...datasets.loading.groups import NEAR
from ...datasets.reading import near_duplicates
from ...datasets.reading.balance import balance, class_counts
from ...datasets.reading.examine import examine
from ...datasets.storage.table import IndexedImages
from ..training.problem import check_target

PARTS = ("train", "holdout", "test")
MOST_NAMED = 10  # classes in one line


def doctor(
    name: str, source: str | None = None, *, draw: str | None = None, groups: str | None = None
) -> int:
    """Check sizes, classes and images of a data set, and print what it can serve as.

    Near-identical images in two parts are printed as a warning: several published sets have some.

    Args:
        name: name or path of the data set.
        source: name or path of a source to compare with.
        draw: parts that are drawn from the training images, as the setting of `bench`.
        groups: images that stay together in what is drawn, as the setting of `bench`.

    Returns:
        The exit code: 1 if there is a fault. A set that serves only as a source has none.

    Raises:
        InputError: it can serve neither as a target nor as a source.
    """
    for line in [line for given in (name, source) if given for line in catalog.namesakes("", given)]:
        print(line)
    found, why_not = _loaded(name, draw, groups)
    parts = [part for part in PARTS if part in found.parts]
    sizes = ", ".join(f"{len(found.parts[part].labels)} {part}" for part in parts)
    print(f"{found.name}: {_number(len(found.classes), 'class')}, {sizes}, fingerprint {found.fingerprint}")
    for note in (*found.notes, *found.left_out):
        print(f"  note: {note}")
    _print_classes(name, found)
    wrong = [f"only one class, '{found.classes[0]}'"] if len(found.classes) < 2 else []
    for part in parts:
        examined = examine(found.parts[part].images, part)
        for remark in examined.remarks:
            print(f"  note: {remark}")
        wrong += examined.errors + examined.faults
    warned = [_print_duplicates(found, first, second) for first, second in combinations(parts, 2)]
    if any(warned):
        print(f"  {_mend(name, draw, groups, found)}")
    for line in wrong:
        print(f"  fault: {line}")
    counts = [(len(wrong), "fault"), (sum(warned), "warning")]
    print(f"  {' and '.join(_number(n, noun) for n, noun in counts if n) or 'no faults'}")
    if not wrong:
        only = f"only as a source; as a target: {why_not}"
        print(f"  usable {only if why_not else 'as a target and as a source'}")
        if why_not:
            _print_draw(name, ",".join(part for part in PARTS[1:] if part not in parts), why_not)
    if source:
        _print_overlap(source, found)
    return 1 if wrong else 0


def _print_overlap(source: str, found: Dataset) -> None:
    """Print how many training images of a source the data set has, too."""
    other = catalog.load(source, as_source=True)
    for line in other.left_out:
        print(f"  note: {line}")
    rows = near_duplicates.overlapping_rows(other, found)
    print(f"{other.name}: {len(rows)} of {len(other.part('train').labels)} train images are near-identical")
    print(f"  with images of {found.name}{'; drop_overlap=true leaves them out' if len(rows) else ''}")


def _print_draw(name: str, missing: str, why_not: str) -> None:
    """Print the command that draws the missing parts, or else why they cannot be drawn, if that is news."""
    try:
        catalog.load(name, draw=missing)
    except InputError as error:
        if str(error) != why_not:
            print(f"  {error}")
    else:
        print(f"  try: transferbench bench {shlex.quote(f'target={name}')} draw={missing} source=PATH")


def _mend(name: str, draw: str | None, groups: str | None, found: Dataset) -> str:
    """Return how to keep near-identical images out of two parts: by groups, if the parts are drawn.

    There is one kind of groups at a time, and that which was given is not given up.
    """
    if groups:
        return f"groups={groups} does not keep them in one part: give them one group, or remove all but one"
    setting = f" draw={draw}" if draw else ""
    try:
        catalog.load(name, draw=draw, groups=NEAR)
    except InputError:
        return f"the parts of {found.name} are given: remove such images from train, or from both parts"
    target = shlex.quote(f"target={name}")
    return f"to keep them in one part: transferbench bench {target}{setting} groups={NEAR}"


def _loaded(name: str, draw: str | None, groups: str | None) -> tuple[Dataset, str]:
    """Load a set as a target, or else as a source.

    Returns:
        The set, and why it is no target; empty if it is one.

    Raises:
        InputError: it is no source either.
    """
    try:
        found = catalog.load(name, draw=draw, groups=groups)
    except InputError as error:
        if draw or groups:
            raise
        try:
            return catalog.load(name, as_source=True), str(error)
        except InputError:
            raise error from None
    try:
        check_target(found)
    except InputError as error:
        return found, str(error)
    return found, ""


def _print_classes(name: str, found: Dataset) -> None:
    """Print how many images the classes have in each part, and which classes have none."""
    about = catalog.about(name)
    if about and about.num_classes != len(found.classes):
        print(f"  note: {_number(len(found.classes), 'class')}; the published set has {about.num_classes}")
    for part, content in found.parts.items():
        count = class_counts(content.labels, len(found.classes))
        print(f"  {part}: {balance(count, found.classes)}")
        empty = [c for c, n in zip(found.classes, count, strict=True) if n == 0]
        if empty:
            more = f" and {len(empty) - MOST_NAMED} more" if len(empty) > MOST_NAMED else ""
            print(f"  note: {part}: no image of {', '.join(empty[:MOST_NAMED])}{more}")


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{('es' if noun.endswith('s') else 's') * (count != 1)}"


def _print_duplicates(found: Dataset, first: str, second: str) -> bool:
    """Print how many near-identical images two parts have and the first pair; return whether any."""
    pairs = near_duplicates.overlap(found, first, found, second)
    if not len(pairs):
        return False
    labels = [found.parts[part].labels[rows] for part, rows in ((first, pairs[:, 0]), (second, pairs[:, 1]))]
    differ = int((labels[0] != labels[1]).reshape(len(pairs), -1).any(1).sum())
    under = f", {differ} pairs with different labels" if differ else ""
    known, whole = len(np.unique(pairs[:, 1])), len(found.parts[second].labels)
    print(f"  warning: {known} of {whole} {second} images are near-identical with {first} images{under}, as")
    print(f"    {_name(found, first, pairs[0, 0])} and {_name(found, second, pairs[0, 1])}")
    return True


def _name(found: Dataset, part: str, row: int) -> str:
    images = found.parts[part].images
    return images.path(row) if isinstance(images, IndexedImages) else f"{part} image {row}"
