"""Check that a name is that of a data set; importing this imports no torch."""

from pathlib import Path

from ... import InputError


def check_name(name: str) -> None:
    """Check that a name is that of a data set, or the path of something that is here.

    Raises:
        InputError: it is neither; names the nearest known data set.
    """
    from ...datasets import catalog  # imports torch
    from ...datasets.loading import hub

    is_place = catalog.about(name) is None and catalog.is_own(name) and not hub.is_hub(name)
    if is_place and not Path(name).exists():
        raise InputError(f"{name}: no such file or folder; expected a path to images, or a known data set")
