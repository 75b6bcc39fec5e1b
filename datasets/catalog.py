"""Find a data set by name or path: each other module of this folder is one.

A module offers `load() -> Dataset`, or `images()`, `CLASSES` and `MIRROR` when it makes arrays.
"""

import difflib
import importlib
import pkgutil
from functools import lru_cache
from pathlib import Path

from .. import InputError
from . import __path__ as here
from . import embedded, folder
from .base import Dataset

MACHINERY = {"augment", "base", "cache", "catalog", "embedded", "folder", "pixels"}


def names() -> list[str]:
    """List the known data sets."""
    return sorted(m.name for m in pkgutil.iter_modules(here) if m.name not in MACHINERY)


@lru_cache(maxsize=8)
def load(name: str, as_source: bool = False) -> Dataset:
    """Load a data set by name, or a folder or tar by path.

    Raises: InputError for an unknown name, with the nearest known ones.
    """
    if name in names():
        module = importlib.import_module(f".{name}", __package__)
        return module.load() if hasattr(module, "load") else embedded.dataset(module)
    if name and Path(name).exists() or "/" in name or name.endswith(".tar"):
        return folder.load(Path(name), as_source)
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    raise InputError(
        f"no data set '{name}'{hint} Known: {', '.join(names())}, or a path to images "
        "(`transferbench data list`)"
    )
