"""`methods` and `data`: what there is, and whether a data set is sound."""

from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.table import Table

from ..datasets import cache, catalog
from ..datasets.base import Dataset
from ..methods import catalog as methods
from .config import suite_rows


def print_methods() -> int:
    """List the methods."""
    table = Table(box=None)
    for heading in ("method", "title", "paper", "needs"):
        table.add_column(heading)
    for name in methods.names():
        cls = methods.load(name)
        needs = "source images" if cls.needs_source else ""
        table.add_row(name, cls.title, cls.paper, needs or ("weights" if cls.uses_pretraining else "nothing"))
    Console(highlight=False).print(table)
    print(f"rows of `bench`: {', '.join(suite_rows())}")
    return 0


def print_datasets() -> int:
    """List the known data sets."""
    table = Table(box=None)
    for heading in ("data set", "classes", "images", "side"):
        table.add_column(heading)
    for name in catalog.names():
        found = catalog.load(name)
        table.add_row(name, str(len(found.classes)), _sizes(found), f"{found.side} px")
    Console(highlight=False).print(table)
    print("or a path: a folder split/class/image or class/image, or an uncompressed tar of one")
    return 0


def prepare(name: str) -> int:
    """Decode a data set into the cache, at its own size or 256 px."""
    found = catalog.load(name)
    side = min(found.side, 256)
    for part in found.parts:
        pixels = cache.pixels(found, part, side)
        print(f"{found.name} {part}: {len(pixels)} images at {side} px in {cache.folder()}")
    return 0


def doctor(name: str) -> int:
    """Check a data set: sizes, empty classes, images that cannot be read; gives 1 if something is wrong."""
    found = catalog.load(name)
    print(f"{found.name}: {len(found.classes)} classes, {_sizes(found)}, fingerprint {found.fingerprint}")
    wrong = [f"only one class, '{found.classes[0]}'"] if len(found.classes) < 2 else []
    for part, content in found.parts.items():
        count = np.bincount(content.labels, minlength=len(found.classes))
        print(f"  {part}: {count.min()} to {count.max()} images a class")
        empty = [c for c, n in zip(found.classes, count, strict=True) if n == 0]
        wrong += [f"{part}: no image of {', '.join(empty)}"] if empty else []
        wrong += cache.unreadable(content.images)
    for line in wrong:
        print(f"  wrong: {line}")
    print("  sound" if not wrong else f"  {len(wrong)} faults")
    return 1 if wrong else 0


def _sizes(found: Dataset) -> str:
    sizes: Mapping[str, int] = {part: len(content.labels) for part, content in found.parts.items()}
    return ", ".join(f"{n} {part}" for part, n in sizes.items())
