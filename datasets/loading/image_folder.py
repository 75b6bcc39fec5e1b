"""Load your own images: `split/class/image` and `class/image` trees, tars of them, and tar shards."""

import hashlib
import json
import os
import shutil
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ... import InputError
from ...user_text import one_form, path_name
from ..base import Dataset, Part
from ..decoding.formats import is_image
from ..files.folder_names import is_folder, is_seen, listing, part_of
from ..storage import tar_shards
from ..storage.index import Numbering, PartRows, Writer, fingerprint, open_or_fill, typical_side
from ..storage.table import IndexedImages, Row, Table
from .draw import check_counts, draw_split, hashes, shares_of
from .groups import FOLDER
from .layout import Layout, find_layout, strange_folders
from .left_out import LeftOut, by_suffix, lines

LAYOUT = 2  # another number rebuilds stored indexes: the rules of layouts have changed
MOST_FOLDERS = 8  # maximum depth
SAID = "left_out.json"  # in the folder of an index: lines on what is left out, and the parts that are drawn
KEPT_FROM = 200_000  # trees with at least this many images are indexed; smaller ones are scanned each time


def load(path: Path, as_source: bool = False, groups: str | None = None) -> Dataset:
    """Load a folder, a tar or shards of images.

    The index of tars is cached until their sizes or times change. A tree is scanned each time, and every
    change is detected. The index of a tree of 200,000 images or more is cached until the time of a class
    folder changes. An image that is overwritten in place changes the fingerprint, here as elsewhere.

    Args:
        path: a `split/class/image` or `class/image` tree, a tar of one, a folder with one tar, or
            with shards: of such a tree, in webdataset's layout, or one tar per class. The part of a
            shard is in its name or its folder's name.
        as_source: split images without parts 95/5 into train and holdout; otherwise 64/20/16 into
            train, holdout and test. The split is stratified, by a hash of each path, with seed 0. In a
            source of shards without a holdout, the holdout is 5 % too, and a class of one image stays
            in train.
        groups: leave images without parts in train; `folder` reads class/group/image, too.

    Raises:
        InputError: names the path that is missing, empty or not an image folder.
    """
    tars = tar_shards.find_tars(path)
    root = path if path.is_dir() else path.parent
    name = path_name(str(path))
    told: list[tuple[list[str], list[str]]] = []

    def fill(writer: Writer) -> tuple[tuple[str, ...], dict[str, PartRows]]:
        walked = _scan_tars(writer, root, tars) if tars else _scan_tree(writer, path)
        if not len(walked.table):
            raise InputError(_no_images(path, walked.left_out))
        classes, parts, lines, drawn = _arrange(walked, path, name, as_source, groups)
        told.append((lines, drawn))
        if not writer.in_memory:
            (writer.folder / SAID).write_text(json.dumps(told[-1]), encoding="utf-8")
        return classes, parts

    key = tar_shards.state_key(root, tars) if tars else _tree_key(path)
    key = f"{key}\n{as_source}\nlayout {LAYOUT}" + (f"\ngroups {groups}" if groups else "")
    classes, parts = open_or_fill(name, key, root, fill, least=0 if tars else KEPT_FROM)
    left_out, drawn = map(tuple, told[0] if told else _told(parts))
    side = typical_side(parts)
    return Dataset(name, classes, parts, fingerprint(parts, classes), side, left_out=left_out, drawn=drawn)


def _told(parts: Mapping[str, Part]) -> Sequence[Sequence[str]]:
    """Return what a stored index says of files that are left out, and the parts that are drawn."""
    images = next(iter(parts.values())).images
    assert isinstance(images, IndexedImages)
    assert images.table.folder is not None
    return json.loads((images.table.folder / SAID).read_text(encoding="utf-8"))


def _no_images(path: Path, left_out: LeftOut) -> str:
    """Return the error of a folder or tar without images: what it has instead."""
    expected = "no images; expected split/class/image, class/image or a tar of either"
    total = left_out.total()
    return f"{path}: {expected}" + (f"; all files are left out: {by_suffix(total)}" if total else "")


@dataclass(frozen=True)
class _Scan:
    """The images found, and the folders that give their parts and classes.

    Attributes:
        table: all images.
        folder: folder number of each image [N].
        folders: the folders, split/class or class, by number.
        left_out: what was found, too, and is not taken.
        of_shards: whether they are in more than one tar.
        numbered: whether the shards have labels instead of class names.
    """

    table: Table
    folder: np.ndarray
    folders: Sequence[str]
    left_out: LeftOut
    of_shards: bool = False
    numbered: bool = False


def _scan_tree(writer: Writer, path: Path) -> _Scan:
    folders, left_out = Numbering(), LeftOut()
    folder = writer.extend(
        Row(image, folders[image.rpartition("/")[0]], num_bytes=size)
        for image, size in _images_below(path, "", left_out)
    )
    return _Scan(writer.table(), folder, list(folders), left_out)


def _scan_tars(writer: Writer, root: Path, tars: Sequence[Path]) -> _Scan:
    """List the images of tars. Raises InputError if only some have a label file."""
    folders, numbered, left_out = Numbering(), set(), LeftOut()

    def rows() -> Iterator[Row]:
        for tar, samples in tar_shards.samples(root, tars, others=True):
            for sample in samples:
                if not sample.is_image:
                    left_out.add(sample.folder, sample.path.rpartition("/")[2], sample.num_bytes < 0)
                    continue
                numbered.add(sample.numbered)
                yield Row(sample.path, folders[sample.folder], tar, sample.offset, sample.num_bytes)

    alone = tar_shards.is_single_tar(root, tars)
    folder = writer.extend(_by_path(rows(), folders, writer.folder / "unsorted") if alone else rows())
    if len(numbered) > 1:
        raise InputError(f"{tars[0].parent}: some images have a label in a .cls or .json, others do not")
    return _Scan(writer.table(), folder, list(folders), left_out, not alone, True in numbered)


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


def _images_below(
    place: Path, inner: str, left_out: LeftOut, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[tuple[str, int]]:
    """Yield path and size of the images of a folder, sorted by path.

    Args:
        place: the folder.
        inner: its path in the data set, with a slash at the end; empty for the data set itself.
        left_out: counts the other files, and has all folders; the caller reads it at the end.
        above: device and inode of all folders above.

    Raises:
        InputError: for a special file, or folders nested too deeply.
    """
    if inner.count("/") > MOST_FOLDERS:
        raise InputError(f"{place}: folders nested too deeply; expected split/class/image or class/image")
    state = place.stat()
    here = (state.st_dev, state.st_ino)
    if here in above:
        left_out.circular.append(inner[:-1])
        return
    left_out.add(inner[:-1])
    for name, entry in sorted((e.name + "/" * is_folder(e), e) for e in listing(place)):
        if name.endswith("/"):
            yield from _images_below(place / entry.name, inner + name, left_out, above | {here})
        elif is_image(name):
            yield inner + name, _size(entry, place / name)
        else:
            _check_link(entry, place / name)
            left_out.add(inner[:-1], name)


def _check_link(entry: os.DirEntry[str], file: Path) -> None:
    """Check that a link leads to something, as to the folder of a class, or to itself. Raises InputError."""
    try:
        if entry.is_symlink():
            entry.stat()
    except FileNotFoundError as error:
        raise InputError(f"{file}: a broken link; restore its folder or remove the link") from error
    except OSError:  # in a circle
        return


def _size(entry: os.DirEntry[str], file: Path) -> int:
    """Return the size of an image file. Raises InputError for a broken link, a pipe or a device."""
    try:
        state = entry.stat()
    except OSError as error:
        raise InputError(f"{file}: a broken link; restore the image or remove the link") from error
    if not stat.S_ISREG(state.st_mode):
        raise InputError(f"{file}: a pipe, socket or device; expected an image file")
    return state.st_size


def _tree_key(path: Path) -> str:
    """Hash the names and modification times of the folders of a tree, down to its class folders."""
    digest = hashlib.sha256()
    for entry in sorted(_upper_folders(path, set()), key=lambda e: e.path):
        digest.update(f"{entry.path!r} {entry.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _upper_folders(place: Path, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    """Return the folders down to those of classes, which are the first that have images in them.

    Part folders are always searched, because one part may have images without class folders. No folder is
    searched twice.
    """
    if is_seen(place, seen):
        return []
    inner = [entry for entry in listing(place) if is_folder(entry)]
    of_classes = any(
        not is_folder(e) and is_image(e.name) for folder in inner for e in listing(place / folder.name)
    )
    below = [e for e in inner if part_of(e.name) or not of_classes]
    return [*inner, *(e for folder in below for e in _upper_folders(place / folder.name, seen))]


def _arrange(
    walked: _Scan, path: Path, name: str, as_source: bool, groups: str | None
) -> tuple[tuple[str, ...], dict[str, PartRows], list[str], list[str]]:
    """Return the classes, rows and labels of each part, lines on what is left out, and the drawn parts."""
    layout = find_layout(path, walked.folders)
    if groups == FOLDER and not (layout and layout.is_split):
        layout = find_layout(path, [folder.rpartition("/")[0] for folder in walked.folders])
        if layout is None:
            raise InputError(f"groups={groups}: {path} has no groups; expected class/group/image")
    if layout is None:
        raise InputError(_strange(walked, path))
    left: dict[str, Counter[str]] = defaultdict(Counter)
    for folder, count in walked.left_out.count.items():
        if of_class := layout.class_folder(folder):
            left[of_class].update(count)
    classes, label_of = _classes(walked, layout, name, left)
    labels = np.array(label_of)[walked.folder]
    parts = [part for _, part in sorted(zip(walked.folders, layout.parts, strict=True)) if part]
    parts = list(dict.fromkeys(parts))
    part_N = np.array([parts.index(p) if p else -1 for p in layout.parts], np.int8)[walked.folder]
    rows = {part: np.flatnonzero(part_N == i) for i, part in enumerate(parts)}
    said = _lines(walked, layout, path, name, left)
    lenient = walked.of_shards and as_source
    shares: dict[str, float] = {}
    if not groups and (not layout.is_split or (lenient and "holdout" not in rows)):
        shares = shares_of(as_source)
        own = labels[rows["train"]]
        if not lenient:
            check_counts(name, classes, np.bincount(own), len(shares), said)
        keys = (place.removeprefix(layout.wrapper) for place in walked.table.all_paths())
        drawn = draw_split(hashes(keys)[rows["train"]], own, shares)
        rows |= {part: rows["train"][chosen] for part, chosen in drawn.items()}
    return classes, {part: (own, labels[own]) for part, own in rows.items()}, said, list(shares)[1:]


def _strange(walked: _Scan, path: Path) -> str:
    """Return the error of a layout that is not known, with an image that does not fit."""
    hint = ", or a label in a .cls or .json beside each image" if walked.of_shards else ""
    return (
        f"{path}: expected split/class/image with splits train, val, test, or class/image{hint}; "
        f"found {_first_of(walked, strange_folders(walked.folders))}"
    )


def _first_of(walked: _Scan, folders: Sequence[int]) -> str:
    """Return the first path of the images of some folders."""
    return min(map(walked.table.path, np.flatnonzero(np.isin(walked.folder, folders)).tolist()))


def _lines(
    walked: _Scan, layout: Layout, path: Path, name: str, left: Mapping[str, Counter[str]]
) -> list[str]:
    """Return lines on what is left out: files, classes, images outside class folders, circular links."""
    count = np.bincount(walked.folder, minlength=len(walked.folders))
    taken = {layout.class_folder(f): int(n) for f, n in zip(walked.folders, count, strict=True)}
    found = lines(name, taken, left)
    if outside := [i for i, part in enumerate(layout.parts) if not part]:
        num = count[outside].sum()
        found.append(
            f"{name}: {num:,} {'image' if num == 1 else 'images'} outside class folders left out, "
            f"such as {_first_of(walked, outside)}"
        )
    forms: dict[tuple[str, str], set[str]] = defaultdict(set)
    for part, of_class in zip(layout.parts, layout.classes, strict=True):
        forms[part, one_form(of_class)].add(of_class)
    found += [
        f"{name}: class '{c}' of {part} has {len(own)} folders whose names differ in Unicode form alone; "
        "they are one class"
        for (part, c), own in sorted(forms.items())
        if part and len(own) > 1
    ]
    if circular := walked.left_out.circular:
        found.append(f"{name}: links to a folder above them left out, such as {path / min(circular)}")
    return found


def _classes(
    walked: _Scan, layout: Layout, name: str, left: Mapping[str, Counter[str]]
) -> tuple[tuple[str, ...], list[int]]:
    """Return the class names, and the label of each folder; -1 outside class folders.

    Raises:
        InputError: if a class has no training images.
    """
    found = list(zip(layout.parts, map(one_form, layout.classes), strict=True))
    classes = sorted({c for part, c in found if part == "train"})
    number = {c: i for i, c in enumerate(classes)}
    for part, c in sorted(found):
        if part and c not in number:
            lost = [
                n
                for f, n in left.items()
                if f.endswith(f"/{c}") and n and part_of(f.split("/")[0]) == "train"
            ]
            why = f"; all files there are left out: {by_suffix(lost[0])}" if lost else ""
            raise InputError(f"{name}/{part}: class '{c}' has no folder with images in {name}/train{why}")
    if walked.numbered:
        label_of = [int(c) for c in layout.classes]
        return tar_shards.class_names(walked.table.root, 1 + max(label_of)), label_of
    return tuple(classes), [number[c] if part else -1 for part, c in found]
