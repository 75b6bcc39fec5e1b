"""`methods`, `data list` and `data prepare`: list methods and data sets; download and decode data sets."""

import sys
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from ...datasets import catalog
from ...datasets.about import About
from ...datasets.download import locate
from ...datasets.pixels import MemoryPixels
from ...datasets.storage import cache
from ...methods import catalog as methods
from ..config.compose import named_rows, suite_rows

STEP = "step cost, × fine-tuning"
WIDTH = 240  # characters, when the output goes into a file or a pipe


def print_methods(costs: Mapping[str, str]) -> int:
    """Print the methods; `costs` holds the measured cost of a step by the method's title."""
    table = Table(box=None)
    for heading in ("method", "title", "kind", "paper", "needs", STEP):
        table.add_column(heading)
    for name in methods.names():
        cls = methods.load(name)
        needs = "source images" if cls.needs_source else ""
        needs = needs or ("weights" if cls.uses_pretraining else "nothing")
        table.add_row(name, cls.title, cls.kind, cls.paper, needs, costs.get(cls.title, ""))
    _console().print(table)
    print(f"rows of `bench`: {', '.join(suite_rows())}")
    print(f"more rows, by name: {', '.join(named_rows())}, and any method")
    if costs:
        print(
            f"{STEP}: median over runs with default settings, relative to fine-tuning in the same bench "
            "on the same machine"
        )
    return 0


def print_datasets() -> int:
    """Print the known data sets: published sizes, and whether the images are here."""
    table = Table(box=None)
    for heading in ("data set", "classes", "train", "holdout", "test", "size", "here", "title", "license"):
        right = heading in ("classes", "train", "holdout", "test", "size")
        table.add_column(heading, justify="right" if right else "left")
    for name in catalog.names():
        about = catalog.about(name)
        assert about is not None
        sizes = (f"{about.sizes[p]:,}" if p in about.sizes else "" for p in ("train", "holdout", "test"))
        table.add_row(
            name,
            str(about.num_classes),
            *sizes,
            _gigabytes(about),
            _where(name, about),
            about.title,
            about.license,
        )
    _console().print(table)
    print("or a path: a folder split/class/image or class/image, a tar or zip of one, a list, or tar shards")
    print("or hf:OWNER/NAME, a set of the Hugging Face hub")
    root = locate.user_folder() or "(not set)"
    print(f"looked for in TRANSFERBENCH_DATA={root}, then in {cache.folder()}/data")
    return 0


def _gigabytes(about: About) -> str:
    if not about.probes:
        return "none"
    return f"{about.num_bytes / 1e9:.3g} GB" if about.num_bytes else "not known"


def _where(name: str, about: About) -> str:
    """Return where a data set is, or where it would be downloaded from."""
    if not about.probes:
        return "yes, built in"
    if found := locate.find(name, about):
        return f"yes, {found}"
    if files := locate.find_archives(name, about):
        return f"yes, packed in {files[0].parent}"
    ways = [
        *(["torchvision"] if about.torchvision else []),
        *([f"hub {about.hub.repo}"] if about.hub else []),
        *(sorted({urlsplit(a.url).netloc for a in about.archives})),
    ]
    return f"no; download from {', '.join(ways)}" if ways else "no; download by hand"


def prepare(names: Sequence[str], draw: str | None = None, groups: str | None = None) -> int:
    """Download data sets if needed, and decode them into the cache at their own size or 256 px.

    Args:
        names: names or paths.
        draw: parts that are drawn from the training images, as the setting of `bench`.
        groups: images that stay together in what is drawn, as the setting of `bench`.
    """
    for name in names:
        for line in catalog.namesakes("", name):
            print(line)
        found = catalog.load(name, draw=draw, groups=groups)
        side = min(found.side, 256)
        for part in found.parts:
            pixels = cache.pixels(found, part, side)
            kept = (
                f"in {cache.folder()}"
                if isinstance(pixels, MemoryPixels)
                else "too many for the cache: decoded on demand"
            )
            print(f"{found.name} {part}: {len(pixels)} images at {side} px, {kept}")
    return 0


def _console() -> Console:
    """Return a console as wide as the terminal, or wide enough for a row without one."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
