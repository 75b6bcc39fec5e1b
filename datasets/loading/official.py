"""Load an official data set, from its module and the location of its images."""

import hashlib
import inspect
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

from ... import InputError
from ..about import About, Listing
from ..base import Dataset, Part
from ..decoding.formats import SUFFIXES
from ..download import huggingface, locate
from ..pixels import ArrayImages
from ..storage.index import cached_index, fingerprint, typical_side
from ..storage.table import IndexedImages, Row

STAMPED_DEPTH = 2  # modification times are checked for folders down to this depth


def load(name: str, module: ModuleType) -> Dataset:
    """Load a known data set; download it if necessary.

    Its index is cached until a list changes, or the modification time of a folder near the root. Listed
    images that the copy lacks are skipped, and a note gives their number.

    Raises:
        InputError: if the set is missing and cannot be downloaded, or a list is missing.
    """
    about: About = module.ABOUT
    root = locate.locate(name, about)
    try:
        listing = _listing(name, module, root)
    except FileNotFoundError as error:
        raise InputError(f"{name}: {error.filename} is missing; the copy in {root} is incomplete") from error
    parts: dict[str, Part] = dict(listing.parts)
    if not any(len(part.labels) for part in parts.values()):
        raise InputError(f"{name}: {root} has the lists, but no images")
    return Dataset(
        name=name,
        classes=listing.classes,
        parts=parts,
        fingerprint=_fingerprint(parts),
        side=_side(parts),
        hflip=about.hflip,
        scored=listing.scored,
        notes=tuple(f"{name}: {n}" for n in (*about.notes, *listing.notes, *departures(about, parts))),
    )


def departures(about: About, parts: Mapping[str, Part]) -> list[str]:
    """Return a note on the parts whose size differs from the published one; none if all agree."""
    sizes = {part: len(content.labels) for part, content in parts.items()}
    other = [
        f"{part} {sizes.get(part, 0):,} of {published:,}"
        for part, published in about.sizes.items()
        if sizes.get(part, 0) != published
    ]
    return [f"not the published split: {', '.join(other)} images"] if other else []


def _listing(name: str, module: ModuleType, root: Path) -> Listing:
    """Read the lists, or their index from the cache."""
    copy = huggingface.read(root, module.ABOUT.sizes) if huggingface.is_copy(root) else None
    if module.ABOUT.in_arrays and copy is None:
        return module.read(root)

    def make() -> tuple[tuple[str, ...], Mapping[str, Iterable[Row]]]:
        found = copy or module.read(root)
        return found.classes, {part: _existing(root, rows) for part, rows in found.parts.items()}

    classes, parts = cached_index(name, _state_hash(root, module), root, make)
    return Listing(classes, parts, notes=copy.notes if copy else ())


def _existing(root: Path, rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the images that are in this copy, with their sizes."""
    for row in rows:
        if row.container:
            yield row
            continue
        try:
            yield row._replace(num_bytes=(root / row.path).stat().st_size)
        except FileNotFoundError:
            continue


def _state_hash(root: Path, module: ModuleType) -> str:
    """Hash the state of a copy: the code of its reader, its lists, and the times of its upper folders."""
    digest = hashlib.sha256(inspect.getsource(module).encode())
    for place, folders, files in os.walk(root, followlinks=True):
        folders.sort()
        watched = [
            Path(place, f) for f in (*folders, *sorted(files)) if Path(f).suffix.lower() not in SUFFIXES
        ]
        for path in watched:
            status = path.stat()
            digest.update(
                f"{path} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n".encode(
                    "utf-8", "surrogateescape"
                )
            )
        if len(Path(place).relative_to(root).parts) + 1 >= STAMPED_DEPTH:
            folders.clear()  # deeper folders may hold a million files
    return digest.hexdigest()


def _fingerprint(parts: Mapping[str, Part]) -> str:
    if all(isinstance(part.images, IndexedImages) for part in parts.values()):
        return fingerprint(parts)
    digest = hashlib.sha256()
    for name, part in parts.items():
        assert isinstance(part.images, ArrayImages)
        digest.update(name.encode() + part.images.array.tobytes() + part.labels.tobytes())
    return digest.hexdigest()[:16]


def _side(parts: Mapping[str, Part]) -> int:
    images = parts["train"].images
    if isinstance(images, ArrayImages):
        return int(min(images.array.shape[1:3]))
    return typical_side(parts)
