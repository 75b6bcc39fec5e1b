"""An index of images in memory-mapped columns: millions of images open at once and need little memory.

An index folder holds `images.bin` (a row of IMAGE for each image), `paths.bin` (all paths, concatenated),
the row numbers and labels of each part, and `index.json` with the rest.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress, islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...user_text import one_form
from ..base import Part
from ..decoding.formats import SUFFIXES
from ..files.atomic import atomic_write, draft_of
from ..files.folder_names import part_of
from ..pixels import DECODING, Unreadable, open_image
from . import cache
from .contents import contents
from .table import CHUNK, IMAGE, IndexedImages, Row, Table

FORMAT = 2  # a new format rebuilds cached indexes
NUM_MEASURED = 32  # images that determine the typical side

PartRows = tuple[np.ndarray, np.ndarray]  # numbers of a part's images [n] and their labels [n]
Index = tuple[tuple[str, ...], dict[str, Part]]  # classes, and parts by name


class Numbering(dict[str, int]):
    """A dictionary that numbers new keys, starting at 0."""

    def __missing__(self, key: str) -> int:
        self[key] = number = len(self)
        return number


def write_index(folder: Path, root: Path, parts: Mapping[str, Iterable[Row]], classes: Sequence[str]) -> None:
    """Write an index row by row; memory grows only by 8 bytes per label.

    Args:
        folder: the folder to create; an existing one is left unchanged.
        root: folder of all paths and containers.
        parts: the images of each part, in order.
        classes: names by label.
    """
    with _draft(folder) as draft:
        writer = Writer(draft, root)
        writer.close(classes, _write_parts(writer, parts))
        _publish(draft, folder)


def read_index(folder: Path) -> Index:
    """Open an index; data are loaded on access. Labels are int64 [n], for torch."""
    about = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return _read(folder, Path(about["root"]))


def cached_index(
    name: str,
    key: str,
    root: Path,
    make: Callable[[], tuple[Sequence[str], Mapping[str, Iterable[Row]]]],
) -> Index:
    """Open the index of a data set in the cache; create it if missing.

    Args:
        name: of the data set.
        key: a text that changes when the images change; the root is added.
        root: folder of all paths and containers.
        make: returns the classes and the images of each part.
    """

    def fill(writer: Writer) -> tuple[Sequence[str], dict[str, PartRows]]:
        classes, parts = make()
        return classes, _write_parts(writer, parts)

    return open_or_fill(name, key, root, fill)


class Writer:
    """A writer of index rows; fewer than `num_held` stay in memory."""

    def __init__(self, folder: Path, root: Path, num_held: int = 0) -> None:
        self.folder, self.root, self.num_held = folder, root, num_held
        self._containers = Numbering({"": 0})
        self._size = self._end = 0
        self._held: list[tuple[np.ndarray, bytes]] = []

    def __len__(self) -> int:
        return self._size

    @property
    def in_memory(self) -> bool:
        """Return whether all rows are still in memory."""
        return self._size < self.num_held

    def extend(self, rows: Iterable[Row]) -> np.ndarray:
        """Append rows; return their labels [n]."""
        rows, labels = iter(rows), [np.empty(0, np.int64)]
        while chunk := list(islice(rows, CHUNK)):
            path, label, container, offset, num_bytes = zip(*chunk, strict=True)
            encoded = [p.encode("utf-8", "surrogateescape") for p in path]
            images = np.empty(len(chunk), IMAGE)
            images["end"] = self._end + np.cumsum([len(p) for p in encoded])
            images["offset"], images["num_bytes"] = offset, num_bytes
            images["container"] = [self._containers[c] for c in container]
            labels.append(np.array(label, np.int64))
            self._held.append((images, b"".join(encoded)))
            self._size, self._end = self._size + len(chunk), int(images["end"][-1])
            self._flush()
        self._flush()
        return np.concatenate(labels)

    def _flush(self) -> None:
        if self.in_memory:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "images.bin").open("ab") as f, (self.folder / "paths.bin").open("ab") as g:
            for images, paths in self._held:
                f.write(images.tobytes())
                g.write(paths)
        self._held = []

    def table(self) -> Table:
        """Return a table of the rows so far."""
        if not self.in_memory:
            return _table(self.folder, self.root, list(self._containers))
        images = np.concatenate([np.empty(0, IMAGE), *(images for images, _ in self._held)])
        paths = np.frombuffer(b"".join(paths for _, paths in self._held), np.uint8)
        return Table(None, self.root, list(self._containers), images, paths)

    def close(self, classes: Sequence[str], parts: Mapping[str, PartRows]) -> None:
        """Write the parts, classes and containers, after all rows."""
        for part, (rows, labels) in parts.items():
            np.save(self.folder / f"{part}.rows.npy", rows)
            np.save(self.folder / f"{part}.labels.npy", labels)
        about = {
            "root": str(self.root.resolve()),
            "classes": list(classes),
            "containers": list(self._containers),
            "parts": list(parts),
        }
        (self.folder / "index.json").write_text(json.dumps(about), encoding="utf-8")


def open_or_fill(
    name: str,
    key: str,
    root: Path,
    fill: Callable[[Writer], tuple[Sequence[str], Mapping[str, PartRows]]],
    least: int = 0,
) -> Index:
    """Open an index in the cache; fill it if missing. With fewer than `least` images it is not stored."""
    listed = " ".join(sorted(SUFFIXES))  # an installed reader adds some
    content = f"{FORMAT} {listed} {root.resolve()} {key}".encode("utf-8", "surrogateescape")
    folder = cache.folder() / "index" / f"{cache.short(name)}-{hashlib.sha256(content).hexdigest()[:16]}"
    if not folder.exists():
        with _draft(folder) as draft:
            writer = Writer(draft, root, num_held=least)
            classes, placed = fill(writer)
            if writer.in_memory:
                return tuple(classes), _parts(writer.table(), placed)
            writer.close(classes, placed)
            _publish(draft, folder)
    return _read(folder, root)


def fingerprint(parts: Mapping[str, Part], classes: Sequence[str] = ()) -> str:
    """Hash all paths, parts, labels and contents of an index: it changes whenever pixels may have changed.

    The names of the classes count where no folder has them, as in a list. The hash is the same for a copy in
    another folder or on another machine, and for a tar and its image tree, with or without a folder around
    everything. Images outside the parts do not count. That of a stored index is stored in its folder, with
    the hash of the contents.
    """
    table = _table_of(parts)
    used = np.sort(np.concatenate([np.asarray(_rows_of(part)) for part in parts.values()]))
    chosen = None if len(used) == len(table) else used
    names = [] if _are_folders(classes, parts) else classes
    state = contents(table, _kept_contents(table), table.root.name, chosen).hex() + " named" * bool(names)
    kept = table.folder and table.folder / "fingerprint"
    if kept and kept.exists():
        of, _, found = kept.read_text(encoding="utf-8").rpartition(" ")
        if of == state:
            return found
    digest = hashlib.sha256(f"{DECODING} {state}".encode())
    _add_paths(digest, table, chosen)
    digest.update("\0".join(names).encode())
    for name, part in parts.items():
        rows = _rows_of(part)
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(rows if chosen is None else np.searchsorted(used, rows)).data)
        digest.update(np.ascontiguousarray(part.labels).data)
    result = digest.hexdigest()[:16]
    if kept:
        with cache.disk_errors("a fingerprint"), atomic_write(kept) as draft:
            draft.write_text(f"{state} {result}", encoding="utf-8")
    return result


def _are_folders(classes: Sequence[str], parts: Mapping[str, Part]) -> bool:
    """Return whether an image of each class, the first in train, is in a folder with the class's name."""
    train = parts.get("train")
    if train is None or train.labels.ndim != 1:
        return False
    found, rows = np.unique(train.labels, return_index=True)
    assert isinstance(train.images, IndexedImages)
    folders = [PurePosixPath(one_form(train.images.path(row))).parent.parts for row in rows.tolist()]
    return len(found) == len(classes) and all(
        classes[c] in own for c, own in zip(found.tolist(), folders, strict=True)
    )


def _rows_of(part: Part) -> np.ndarray:
    assert isinstance(part.images, IndexedImages)
    return part.images.rows


def _add_paths(digest: Any, table: Table, chosen: np.ndarray | None) -> None:
    """Add the paths of all images, or of the chosen rows, to a hash; without a folder around everything."""

    def paths() -> Iterator[str]:
        if chosen is None:
            return table.all_paths()
        wanted = np.zeros(len(table), bool)
        wanted[chosen] = True
        return compress(table.all_paths(), wanted.tolist())

    wrapper = ""
    while not part_of(top := next(paths(), "").removeprefix(wrapper).partition("/")[0]) and all(
        path.startswith(f"{wrapper}{top}/") for path in paths()
    ):
        wrapper += f"{top}/"
    if not wrapper and chosen is None:
        digest.update(table.paths.data)
        for start in range(0, len(table), CHUNK):
            digest.update(table.images["end"][start : start + CHUNK].tobytes())
        return
    sizes = []
    for path in paths():
        encoded = path.removeprefix(wrapper).encode("utf-8", "surrogateescape")
        digest.update(encoded)
        sizes.append(len(encoded))
    digest.update(np.cumsum(sizes, dtype="<i8").tobytes())


def _kept_contents(table: Table) -> Path:
    """Return the file for the hashes of all images: in the index, or named for root and paths."""
    if table.folder:
        return table.folder / "contents.npz"
    name = hashlib.sha256(f"{table.root.resolve()}\n".encode("utf-8", "surrogateescape"))
    name.update(table.paths.data)
    return cache.folder() / "contents" / f"{name.hexdigest()[:16]}.npz"


def typical_side(parts: Mapping[str, Part]) -> int:
    """Return the median shorter side of up to 32 images; unreadable images are skipped."""
    table, sides = _table_of(parts), []
    for i in range(0, len(table), max(1, len(table) // NUM_MEASURED)):
        try:
            with open_image(table.read(i)) as image:
                sides.append(min(image.size))
        except Unreadable:
            continue
    return int(np.median(sides)) if sides else 0


def _table_of(parts: Mapping[str, Part]) -> Table:
    """Return the table that all parts of an index share."""
    (table,) = {part.images.table for part in parts.values() if isinstance(part.images, IndexedImages)}
    return table


def _write_parts(writer: Writer, parts: Mapping[str, Iterable[Row]]) -> dict[str, PartRows]:
    placed = {}
    for part, rows in parts.items():
        first = len(writer)
        labels = writer.extend(rows)
        placed[part] = (np.arange(first, len(writer)), labels)
    return placed


def _parts(table: Table, placed: Mapping[str, PartRows]) -> dict[str, Part]:
    return {part: Part(IndexedImages(table, rows), labels) for part, (rows, labels) in placed.items()}


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """Yield a draft folder; it is removed unless `_publish` has renamed it."""
    draft = draft_of(folder)
    try:
        with cache.disk_errors("an index of the images"):
            yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _publish(draft: Path, folder: Path) -> None:
    """Rename a complete draft; another process may have been faster."""
    try:
        draft.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _read(folder: Path, root: Path) -> Index:
    about = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    table = _table(folder, root, about["containers"])
    placed = {
        part: (_array(folder / f"{part}.rows.npy"), _array(folder / f"{part}.labels.npy"))
        for part in about["parts"]
    }
    return tuple(about["classes"]), _parts(table, placed)


def _array(file: Path) -> np.ndarray:
    return np.load(file, mmap_mode="c").view(np.ndarray)  # copy on write: torch warns about read-only arrays


def _table(folder: Path, root: Path, containers: Sequence[str]) -> Table:
    columns = []
    for name, dtype in (("images", IMAGE), ("paths", np.dtype(np.uint8))):
        file = folder / f"{name}.bin"
        empty = file.stat().st_size == 0  # cannot be mapped
        columns.append(np.empty(0, dtype) if empty else np.memmap(file, dtype, "r").view(np.ndarray))
    return Table(folder, root, containers, *columns)
