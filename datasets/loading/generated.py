"""Load data sets that a module generates as arrays; the arrays are cached."""

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
    """Build a data set from a module's `ABOUT`, `CLASSES` and `images()`."""
    recipe = inspect.getsource(module) + version("matplotlib")  # the glyphs come from its fonts
    key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    kept = cache.folder() / f"{name}-{key}.npz"
    if not kept.exists():
        with locked(kept), cache.disk_errors("generated images"):
            if not kept.exists():
                _generate(module, kept)
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


def _generate(module: ModuleType, kept: Path) -> None:
    arrays = {
        f"{part}-{what}": array
        for part, pair in module.images().items()
        for what, array in zip(("images", "labels"), pair, strict=True)
    }
    with atomic_write(kept) as draft, draft.open("wb") as f:
        np.savez(f, **arrays)
