"""Look at a data set by its name; importing this imports no torch."""

from pathlib import Path

from ... import InputError

LABELED = ("train", "holdout")


def labeled_images(name: str) -> tuple[int, int] | None:
    """Return how many labeled images a data set has besides its test part, and in how many classes.

    Of a known set, as published. None: it is not known without a download.

    Raises:
        InputError: it is no data set, and no path to images; names the nearest known data set.
    """
    from ...datasets import catalog  # imports torch
    from ...datasets.loading import hub

    if about := catalog.about(name):
        return sum(about.sizes.get(part, 0) for part in LABELED), about.num_classes
    if not catalog.is_own(name) or hub.is_hub(name):
        return None
    if not Path(name).exists():
        raise InputError(f"{name}: no such file or folder; expected a path to images, or a known data set")
    found = catalog.load(name)
    return sum(len(found.parts[part].labels) for part in LABELED if part in found.parts), len(found.classes)
