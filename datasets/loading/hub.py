"""Load an image classification set of the Hugging Face hub by its name there: `hf:OWNER/NAME[/CONFIG]`."""

import re
from pathlib import Path

from ... import InputError
from ..about import Hub
from ..base import Dataset
from ..download import huggingface
from ..download.http import DownloadError
from ..files.lock import locked
from ..storage import cache
from ..storage.index import cached_index, fingerprint, typical_side

PREFIX = "hf:"
NAME = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+|[\w.-]+)(/(?P<config>[\w.-]+))?")


def is_hub(name: str) -> bool:
    """Return whether a name is that of a set on the hub."""
    return name.startswith(PREFIX)


def is_missing(name: str) -> bool:
    """Return whether a name is that of a set on the hub that is not in the cache."""
    return is_hub(name) and not huggingface.is_copy(_place(name))


def load(name: str) -> Dataset:
    """Load a set of the hub; it is downloaded once, into the cache.

    Raises:
        InputError: it is not there, or has no images with one class each.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise InputError(f"{name}: expected hf:OWNER/NAME, as https://huggingface.co/datasets/OWNER/NAME")
    root = _copy(name, Hub(match["repo"], {}, "", "", match["config"] or ""))
    listing = huggingface.read(root, {})
    classes, parts = cached_index(
        root.name,
        (root / huggingface.MARKER).read_text(encoding="utf-8"),
        root,
        lambda: (listing.classes, listing.parts),
    )
    short = name.rpartition("/")[2].removeprefix(PREFIX)
    notes = tuple(f"{short}: {note}" for note in listing.notes)
    return Dataset(short, classes, parts, fingerprint(parts, classes), typical_side(parts), notes=notes)


def _place(name: str) -> Path:
    return cache.folder() / "hub" / name.removeprefix(PREFIX).replace("/", "--")


def _copy(name: str, hub: Hub) -> Path:
    """Return the folder with a set's images in the cache; download it if it is not there."""
    root = _place(name)
    if huggingface.is_copy(root):
        return root
    with cache.disk_errors("downloaded images"):
        root.parent.mkdir(exist_ok=True)
    with cache.disk_errors("downloaded images"), locked(root, f"another process is downloading {name}"):
        if not huggingface.is_copy(root):
            begun = root.with_name(f"{root.name}.begun")  # kept on failure, to resume
            try:
                huggingface.fetch(hub, begun)
            except DownloadError as error:
                raise InputError(f"{name}: {error}") from error
            begun.rename(root)
    return root
