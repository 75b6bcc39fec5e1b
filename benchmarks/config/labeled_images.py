"""Look at a target before anything runs on it; importing this imports no torch and no pandas."""

from pathlib import Path
from typing import TYPE_CHECKING

from ... import InputError

if TYPE_CHECKING:
    from ...analysis.recommend import Labeled
    from ...datasets.base import Dataset

LABELED = ("train", "holdout")


def labeled_images(name: str) -> "Labeled | None":
    """Return the labeled images of a target besides its test part, and its classes.

    Of a known set that is not here, the published numbers. None: they are not known without a download or
    without torch, or images have several labels.

    Raises:
        InputError: it is no data set, and no path to images; names the nearest known data set. Or it has
            one class.
    """
    from ...analysis.recommend import Labeled  # imports pandas

    try:
        from ...datasets import catalog  # imports torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return None
    from ...datasets.download import locate
    from ...datasets.loading import hub
    from .resolve import is_multi_label

    about = catalog.about(name)
    if about and about.probes and locate.find(name, about) is None:
        return Labeled(sum(about.sizes.get(part, 0) for part in LABELED), about.num_classes)
    if not about and hub.is_hub(name):
        return None
    if not about and catalog.is_own(name) and not Path(name).exists():
        raise InputError(f"{name}: no such file or folder; expected a path to images, or a known data set")
    found = catalog.load(name)
    check_several(found)
    if is_multi_label(found):
        return None
    number = sum(len(found.parts[part].labels) for part in LABELED if part in found.parts)
    return Labeled(number, len(found.classes), found.fingerprint)


def check_several(target: "Dataset") -> None:
    """Check that a target has several classes. Raises InputError."""
    if len(target.classes) < 2:
        raise InputError(f"target={target.name}: only one class, '{target.classes[0]}'; expected two or more")
