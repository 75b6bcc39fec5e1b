"""Data sets that a module makes as arrays: made once, then kept in the cache."""

import hashlib
import inspect
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np

from ..base import Dataset, Part
from ..files.atomic import atomic_write
from ..files.lock import locked
from ..pixels import ArrayImages
from ..storage import cache


def load(name: str, module: ModuleType) -> Dataset:
    """Make a data set of a module's `ABOUT`, `CLASSES` and `images()`."""
    recipe = inspect.getsource(module) + version("matplotlib")  # its fonts are the source
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    kept = cache.folder() / f"{name}-{key}.npz"
    if not kept.exists():
        with locked(kept), cache.disk_errors("made images"):
            if not kept.exists():
                _make(module, kept)
    with np.load(kept) as arrays_kept:
        arrays = dict(arrays_kept)
    parts = {
        part: Part(ArrayImages(arrays[f"{part}-images"]), arrays[f"{part}-labels"])
        for part in ("train", "holdout", "test")
        if f"{part}-images" in arrays
    }
    digest = hashlib.sha256(b"".join(arrays[k].tobytes() for k in sorted(arrays))).hexdigest()[:16]
    side = arrays["train-images"].shape[1]
    return Dataset(name, tuple(module.CLASSES), parts, digest, side, module.ABOUT.hflip)


def _make(module: ModuleType, kept: Path) -> None:
    arrays = {
        f"{part}-{what}": array
        for part, pair in module.images().items()
        for what, array in zip(("images", "labels"), pair, strict=True)
    }
    with atomic_write(kept) as draft, draft.open("wb") as f:
        np.savez(f, **arrays)
