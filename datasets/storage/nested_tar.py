"""Read images by class, in place: from class folders, a tar for each class, or one tar of such tars.

Nothing is unpacked. Only the headers of an uncompressed tar are read; they give the position of each image.
"""

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track

from ... import InputError
from ..decoding.formats import is_image
from . import tar_shards
from .table import Row
from .tar_shards import Member

THREADS = 16  # reading headers mostly waits for the disk or the network
MANY = 100  # progress is shown from this many classes on


class Place(NamedTuple):
    """A location of images below the root: a folder, or a tar (a file, or inside another tar)."""

    path: str
    start: int = 0
    num_bytes: int = -1  # of the tar; -1: a folder


class Images(NamedTuple):
    """The images of a folder or tar, sorted by name, in arrays: millions need little memory."""

    folder: str  # prefix of their paths; may be empty
    container: str
    names: str  # one per line
    offsets: np.ndarray  # int64 [N]
    num_bytes: np.ndarray  # int64 [N]

    def rows(self, label: int, chosen: np.ndarray | None = None) -> Iterator[Row]:
        """Yield the rows of all images, or of the chosen ones [N] bool."""
        start = f"{self.folder}/" if self.folder else ""
        names, offsets, sizes = self.names.split("\n"), self.offsets.tolist(), self.num_bytes.tolist()
        for i in range(len(sizes)) if chosen is None else np.flatnonzero(chosen).tolist():
            yield Row(start + names[i], label, self.container, offsets[i], sizes[i])


@dataclass(frozen=True)
class Rows:
    """Rows that are created on each iteration, which may take minutes."""

    make: Callable[[], Iterator[Row]]

    def __iter__(self) -> Iterator[Row]:
        return self.make()


def rows(root: Path, places: Mapping[str, Place], label_of: Mapping[str, int], words: str) -> Rows:
    """Return the rows of some classes; `words` describes the progress bar."""

    def make() -> Iterator[Row]:
        for name, images in zip(places, list_images(root, places, words), strict=True):
            yield from images.rows(label_of[name])

    return Rows(make)


def list_images(root: Path, places: Mapping[str, Place], words: str) -> Iterator[Images]:
    """Yield the images of each class; threads list many classes at a time."""
    with ThreadPoolExecutor(THREADS) as threads:
        yield from track(
            threads.map(lambda name: images_in(root, places[name], name), places),
            f"listing {words}",
            total=len(places),
            console=Console(stderr=True),
            transient=True,
            disable=len(places) < MANY,
        )


def images_in(root: Path, place: Place, name: str) -> Images:
    """List the images directly in a folder or in a tar; in a tar, their paths start with `name`.

    Raises:
        InputError: if a tar is incomplete.
    """
    if place.num_bytes < 0:
        folder, container = place.path, ""
        found = [Member(e.name, 0, -1) for e in os.scandir(root / place.path)]
    else:
        folder, container = name, place.path
        inside = members(root / place.path, place.start, place.num_bytes)
        found = [m._replace(path=PurePosixPath(m.path).name) for m in inside]
    return compact(folder, container, sorted(m for m in found if is_image(m.path)))


def compact(folder: str, container: str, images: Sequence[Member]) -> Images:
    """Convert a list of images to arrays."""
    columns = np.array([image[1:] for image in images], np.int64).reshape(-1, 2)
    return Images(folder, container, "\n".join(image.path for image in images), columns[:, 0], columns[:, 1])


def find_classes(root: Path, path: str) -> dict[str, Place]:
    """Find the classes in a folder or in a tar of tars, by name; other files are ignored.

    Raises:
        FileNotFoundError: if there is no such folder or tar.
        InputError: if a tar is incomplete.
    """
    place = PurePosixPath(path)
    if (root / path).is_file():
        inside = [m for m in members(root / path) if m.path.endswith(".tar")]
        found = {PurePosixPath(m.path).stem: Place(path, m.offset, m.num_bytes) for m in inside}
    else:
        entries = [e for e in os.scandir(root / path) if not e.name.startswith(".")]
        tars = [e for e in entries if e.name.endswith(".tar") and e.is_file()]
        found = {e.name: Place(str(place / e.name)) for e in entries if e.is_dir()}
        # prefer a tar to a folder of the same name, which may be incomplete
        found |= {Path(e.name).stem: Place(str(place / e.name), 0, e.stat().st_size) for e in tars}
    return dict(sorted(found.items()))


def place_of(root: Path, path: str) -> Place:
    """Return the place of a folder or a tar."""
    return Place(path, 0, (root / path).stat().st_size) if (root / path).is_file() else Place(path)


def first_existing(root: Path, paths: Sequence[str]) -> str:
    """Return the first existing path. Raises FileNotFoundError, naming the first path, if none exists."""
    for path in paths:
        if (root / path).exists():
            return path
    raise missing(root / paths[0])


def missing(what: Path | str) -> FileNotFoundError:
    """Return the error for a file that a copy lacks."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(what))


def members(file: Path, start: int = 0, num_bytes: int = -1) -> list[Member]:
    """List the files in an uncompressed tar, possibly inside another file, from headers only.

    Raises:
        InputError: if it is not a complete uncompressed tar.
    """
    with file.open("rb") as f:
        try:
            return list(tar_shards.members(f, start, None if num_bytes < 0 else start + num_bytes))
        except ValueError as error:
            raise InputError(
                f"{file}: not a complete uncompressed tar ({error}); download it again, or decompress it"
            ) from error
