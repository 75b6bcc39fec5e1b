"""Load your own images: `split/class/image` and `class/image` trees, tars of them, and tar shards."""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ... import InputError
from ...user_text import one_form, path_name
from ..base import Dataset, derive_seed
from ..storage import tar_shards
from ..storage.index import Numbering, PartRows, Writer, fingerprint, open_or_fill, typical_side
from ..storage.table import Row, Table
from ..storage.tar_shards import PART_NAMES, is_image

SPLIT_SEED = 0  # for the split of a `class/image` tree
TARGET_SHARES = {"train": 0.6, "holdout": 0.2, "test": 0.2}
SOURCE_SHARES = {"train": 0.95, "holdout": 0.05}
MOST_FOLDERS = 8  # maximum depth; more means a circular link
KEPT_FROM = 200_000  # trees with at least this many images are indexed; smaller ones are scanned each time


def load(path: Path, as_source: bool = False) -> Dataset:
    """Load a folder, a tar or shards of images.

    The index of tars is cached until their sizes or times change. A tree is scanned each time, and every
    change is detected. The index of a tree of 200,000 images or more is cached until the time of a class
    folder changes. An image that is overwritten in place changes the fingerprint, here as elsewhere.

    Args:
        path: a `split/class/image` or `class/image` tree, a tar of one, a folder with one tar, or
            with shards: of such a tree, in webdataset's layout, or one tar per class. The part of a
            shard is in its name or its folder's name.
        as_source: split images without parts 95/5 into train and holdout; otherwise 60/20/20 into
            train, holdout and test. The split is stratified, by a hash of each path, with seed 0. In a
            source of shards without a holdout, the holdout is 5 % too, and a class of one image stays
            in train.

    Raises:
        InputError: names the path that is missing, empty or not an image folder.
    """
    tars = tar_shards.find_tars(path)
    root = path if path.is_dir() else path.parent
    name = path_name(str(path))

    def fill(writer: Writer) -> tuple[tuple[str, ...], dict[str, PartRows]]:
        walked = _scan_tars(writer, root, tars) if tars else _scan_tree(writer, path)
        if not len(walked.table):
            raise InputError(f"{path}: no images; expected split/class/image, class/image or a tar of either")
        return _arrange(walked, path, name, as_source)

    key = tar_shards.state_key(root, tars) if tars else _tree_key(path)
    classes, parts = open_or_fill(name, f"{key}\n{as_source}", root, fill, least=0 if tars else KEPT_FROM)
    return Dataset(name, classes, parts, fingerprint(parts), typical_side(parts))


@dataclass(frozen=True)
class _Scan:
    """The images found, and the folders that give their parts and classes.

    Attributes:
        table: all images.
        folder: folder number of each image [N].
        folders: the folders, split/class or class, by number.
        of_shards: whether they are in more than one tar.
        numbered: whether the shards have labels instead of class names.
    """

    table: Table
    folder: np.ndarray
    folders: Sequence[str]
    of_shards: bool = False
    numbered: bool = False


def _scan_tree(writer: Writer, path: Path) -> _Scan:
    folders = Numbering()
    folder = writer.extend(
        Row(image, folders[image.rpartition("/")[0]], num_bytes=size)
        for image, size in _images_below(path, "")
    )
    return _Scan(writer.table(), folder, list(folders))


def _scan_tars(writer: Writer, root: Path, tars: Sequence[Path]) -> _Scan:
    """List the images of tars. Raises InputError if only some have a label file."""
    folders, numbered = Numbering(), set()

    def rows() -> Iterator[Row]:
        for tar, samples in tar_shards.samples(root, tars):
            for sample in samples:
                numbered.add(sample.numbered)
                yield Row(sample.path, folders[sample.folder], tar, sample.offset, sample.num_bytes)

    alone = tar_shards.is_single_tar(root, tars)
    folder = writer.extend(_by_path(rows(), folders, writer.folder / "unsorted") if alone else rows())
    if len(numbered) > 1:
        raise InputError(f"{tars[0].parent}: some images have a label in a .cls or .json, others do not")
    return _Scan(writer.table(), folder, list(folders), not alone, True in numbered)


def _by_path(rows: Iterable[Row], folders: Mapping[str, int], draft: Path) -> Iterator[Row]:
    """Sort the images of a tar like those of a tree, with one folder at a time in memory."""
    writer = Writer(draft, draft, num_held=KEPT_FROM)
    folder = writer.extend(rows)
    table = writer.table()
    rank = np.empty(len(folders), np.int64)
    rank[[folders[name] for name in sorted(folders, key=lambda name: f"{name}/")]] = np.arange(len(folders))
    order = np.argsort(rank[folder], kind="stable")
    for own in np.split(order, np.flatnonzero(np.diff(folder[order])) + 1):
        yield from sorted(table.row(i, folder[i]) for i in own.tolist())
    shutil.rmtree(draft, ignore_errors=True)


def _images_below(place: Path, inner: str) -> Iterator[tuple[str, int]]:
    """Yield path and size of the images of a folder, sorted by path.

    Raises:
        InputError: for an empty class folder, a special file, or folders nested too deeply.
    """
    if inner.count("/") > MOST_FOLDERS:
        raise InputError(f"{place}: folders nested too deeply; expected split/class/image or class/image")
    listed = [entry for entry in _listing(place) if not entry.name.startswith(".")]
    found = sorted(
        (f"{e.name}/", e) if e.is_dir() else (e.name, e) for e in listed if e.is_dir() or is_image(e.name)
    )
    if inner and not found:
        raise InputError(f"{place}: empty class folder; put images into it or remove it")
    for name, entry in found:
        if name.endswith("/"):
            yield from _images_below(place / entry.name, inner + name)
            continue
        yield inner + name, _size(entry, place / name)


def _size(entry: os.DirEntry[str], file: Path) -> int:
    """Return the size of an image file. Raises InputError for a broken link, a pipe or a device."""
    try:
        state = entry.stat()
    except OSError as error:
        raise InputError(f"{file}: a broken link; restore the image or remove the link") from error
    if not stat.S_ISREG(state.st_mode):
        raise InputError(f"{file}: a pipe, socket or device; expected an image file")
    return state.st_size


def _listing(place: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(f"{place}: cannot be read ({error.strerror})") from error


def _tree_key(path: Path) -> str:
    """Hash the names and modification times of the class folders of a tree."""
    digest = hashlib.sha256()
    tops = [e for e in _listing(path) if e.is_dir()]
    if all(e.name.lower() in PART_NAMES for e in tops):
        tops += [e for top in tops for e in _listing(path / top.name) if e.is_dir()]
    for entry in sorted(tops, key=lambda e: e.path):
        digest.update(f"{entry.path!r} {entry.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _arrange(
    walked: _Scan, path: Path, name: str, as_source: bool
) -> tuple[tuple[str, ...], dict[str, PartRows]]:
    """Return the classes, and the rows and labels of each part."""
    is_split = _is_split(walked, path)
    part_of = [PART_NAMES[f.partition("/")[0].lower()] if is_split else "train" for f in walked.folders]
    if "train" not in part_of:
        raise InputError(f"{path}: no 'train' images; put class folders into {path}/train/")
    classes, label_of = _classes(walked, part_of, name)
    labels = np.array(label_of)[walked.folder]
    parts = list(dict.fromkeys(part for _, part in sorted(zip(walked.folders, part_of, strict=True))))
    part_N = np.array([parts.index(part) for part in part_of], np.int8)[walked.folder]
    rows = {part: np.flatnonzero(part_N == i) for i, part in enumerate(parts)}
    lenient = walked.of_shards and as_source
    if not is_split or (lenient and "holdout" not in rows):
        shares = SOURCE_SHARES if as_source else TARGET_SHARES
        own = labels[rows["train"]]
        if not lenient:
            _check_counts(name, classes, np.bincount(own), len(shares))
        rows |= _draw_split(walked.table, rows["train"], own, shares)
    return classes, {part: (own, labels[own]) for part, own in rows.items()}


def _is_split(walked: _Scan, path: Path) -> bool:
    """Return whether the layout is split/class/image, not class/image. Raises InputError if it is neither."""
    depth = {f.count("/") + 1 if f else 0 for f in walked.folders}
    strange = [n for n, f in enumerate(walked.folders) if f.partition("/")[0].lower() not in PART_NAMES]
    if depth == {2} and not strange:
        return True
    if depth == {1} and strange:
        return False
    wrong = strange or [n for n, f in enumerate(walked.folders) if f.count("/") != 1]
    images = np.flatnonzero(np.isin(walked.folder, wrong)).tolist()
    hint = ", or a label in a .cls or .json beside each image" if walked.of_shards else ""
    raise InputError(
        f"{path}: expected split/class/image with splits train, val, test, or class/image{hint}; "
        f"found {min(map(walked.table.path, images))}"
    )


def _classes(walked: _Scan, part_of: Sequence[str], name: str) -> tuple[tuple[str, ...], list[int]]:
    """Return the class names, and the label of each folder.

    Raises:
        InputError: if a class without numeric labels has no training images.
    """
    class_of = [one_form(f.rpartition("/")[2]) for f in walked.folders]
    if walked.numbered:
        label_of = [int(c) for c in class_of]
        return tar_shards.class_names(walked.table.root, 1 + max(label_of)), label_of
    classes = sorted({c for c, part in zip(class_of, part_of, strict=True) if part == "train"})
    number = {c: i for i, c in enumerate(classes)}
    for part, c in sorted(zip(part_of, class_of, strict=True)):
        if c not in number:
            raise InputError(f"{name}/{part}: class '{c}' has no folder with images in {name}/train")
    return tuple(classes), [number[c] for c in class_of]


def _check_counts(name: str, classes: Sequence[str], count: np.ndarray, least: int) -> None:
    for of_class in np.flatnonzero((count > 0) & (count < least))[:1]:
        raise InputError(
            f"{name}: class '{classes[of_class]}' has {count[of_class]} images; "
            f"a random split needs {least} or more"
        )


def _draw_split(
    table: Table, rows: np.ndarray, labels: np.ndarray, shares: Mapping[str, float]
) -> dict[str, np.ndarray]:
    """Split rows [n] by class; the split depends only on the paths within each class.

    Args:
        table: all images.
        rows: the rows to split.
        labels: their labels [n].
        shares: fraction of each part; the first part gets the rest, at least one image per class.
    """
    mixed = np.fromiter((derive_seed(SPLIT_SEED, path) for path in table.all_paths()), np.int64, len(table))[
        rows
    ]
    order = np.lexsort((mixed, labels))
    first, *others = shares
    drawn: dict[str, list[np.ndarray]] = {part: [] for part in shares}
    for own in np.split(order, np.cumsum(np.bincount(labels))[:-1]):
        for part in others:
            count = min(max(1, round(shares[part] * len(own))), max(0, len(own) - 1))
            drawn[part].append(own[:count])
            own = own[count:]
        drawn[first].append(own)
    return {part: rows[np.sort(np.concatenate(own))] for part, own in drawn.items()}
