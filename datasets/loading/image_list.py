"""Load your own images from a list of files and labels: CSV, or JSON Lines as an image folder's metadata."""

import csv
import io
import json
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ... import InputError
from ...user_text import one_form, path_name, read_text
from ..base import Dataset, Part
from ..files.folder_names import part_of
from ..storage.index import Writer, fingerprint, typical_side
from ..storage.table import IndexedImages, Row, Table
from .draw import check_counts, draw_split, hashes, shares_of

ENDINGS = (".csv", ".tsv", ".jsonl")
COLUMNS = {  # names of the columns, in any case
    "image": ("image", "file_name", "filename", "file", "path"),
    "label": ("label", "class"),
    "split": ("split",),
}
METADATA = ("metadata.csv", "metadata.jsonl")  # as the Hugging Face hub names them in an image folder
DELIMITERS = ",;\t"
EXCEL_LINE = re.compile(rf"\A\"?sep=[{DELIMITERS}]\"?[,;]*(\n|\Z)", re.IGNORECASE)  # before the header
BETWEEN = "|"  # labels of one image
EXPECTED = "expected a header with the columns image and label, and optionally split"


@dataclass(frozen=True)
class _Entry:
    """A row of a list: the image's path, its labels and part, and the row's cells by column."""

    path: str
    labels: tuple[str, ...]
    part: str
    cells: Mapping[str, str]
    place: str  # file and row, for errors


def is_list(path: Path) -> bool:
    """Return whether a path names a list of images."""
    return path.suffix.lower() in ENDINGS and not path.is_dir()


def metadata_of(folder: Path) -> list[Path]:
    """Return the metadata files with labels of an image folder and its part folders; none if it has none."""
    parts = [f for f in sorted(folder.iterdir()) if part_of(f.name) and f.is_dir()]
    files = [file for place in (folder, *parts) for name in METADATA if (file := place / name).is_file()]
    found = []
    for file in files:
        with suppress(InputError):
            first = next(_rows(file), None)
            found += [file] if first and {"image", "label"} <= _columns(file, list(first[1])).keys() else []
    return found


def load(path: Path, files: Sequence[Path], as_source: bool = False, whole: bool = False) -> Dataset:
    """Load the images that lists name.

    Images without a split are divided as a `class/image` tree; with several labels, by their hashes.

    Args:
        path: the list, or the folder of the lists; it gives the name.
        files: the lists; paths of images are relative to the folder of their list.
        as_source: for the shares of the parts; see `image_folder.load`.
        whole: leave images without a split in train.

    Raises:
        InputError: names the file, the row and what would be right.
    """
    if not path.exists():
        raise InputError(f"{path}: no such list; {EXPECTED}")
    name, given = path_name(str(path)), [e for file in files for e in _entries(file, path)]
    if not given:
        raise InputError(f"{path}: no images; {EXPECTED}, and a row for each image")
    entries = _once(given)
    more = len(given) - len(entries)
    said = [f"{name}: {more:,} row{'s' * (more != 1)} repeat an image; each counts once"] if more else []
    is_multi = any(len(entry.labels) > 1 for entry in entries)
    classes = tuple(sorted({c for entry in entries if entry.part in ("", "train") for c in entry.labels}))
    labels = _labels(path, entries, classes, is_multi)
    table = _table(path, entries)
    drawn: tuple[str, ...] = ()
    if any(entry.part for entry in entries):
        rows = _by_part(path, entries)
    elif whole:
        rows = {"train": np.arange(len(entries))}
    else:
        shares = shares_of(as_source)
        drawn = tuple(shares)[1:]
        if not is_multi:
            check_counts(name, classes, np.bincount(labels), len(shares), said)
        rows = draw_split(hashes(table.all_paths()), labels, shares)
    columns = _further_columns(entries)
    parts = {
        part: Part(
            IndexedImages(table, own), labels[own], {name: column[own] for name, column in columns.items()}
        )
        for part, own in rows.items()
    }
    side = typical_side(parts)
    return Dataset(name, classes, parts, fingerprint(parts, classes), side, left_out=tuple(said), drawn=drawn)


def _table(path: Path, entries: Sequence[_Entry]) -> Table:
    """Return the table of the images, below the list's folder or the one above it that has all images."""
    folder = path.absolute() if path.is_dir() else path.absolute().parent
    top = os.path.commonpath([folder, *(entry.path for entry in entries)])
    writer = Writer(folder, Path(top), num_held=len(entries) + 1)
    writer.extend(Row(entry.path.removeprefix(top).lstrip("/"), 0) for entry in entries)
    return writer.table()


def _further_columns(entries: Sequence[_Entry]) -> dict[str, np.ndarray]:
    """Return the columns without a meaning here, such as that of a patient, each [N]."""
    known = {name for names in COLUMNS.values() for name in names}
    names = dict.fromkeys(name for entry in entries for name in entry.cells if name.lower() not in known)
    return {name: np.array([entry.cells.get(name, "") for entry in entries], object) for name in names}


def _by_part(path: Path, entries: Sequence[_Entry]) -> dict[str, np.ndarray]:
    """Return the rows of each part. Raises InputError if there are no training images."""
    part_N = np.array([entry.part for entry in entries])
    rows = {part: np.flatnonzero(part_N == part) for part in ("train", "holdout", "test")}
    if not len(rows["train"]):
        raise InputError(f"{path}: no row with split train; expected training images")
    if "" in part_N:  # only in several lists
        without = entries[part_N.tolist().index("")]
        raise InputError(f"{without.place}: no split, and other rows have one; expected train, val or test")
    return {part: own for part, own in rows.items() if len(own)}


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each row, that of the header being 1, and its cells by column."""
    try:
        text = read_text(file)
    except ValueError as error:
        raise InputError(f"{file}: not UTF-8 ({error}); save the list as UTF-8") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    yield from _json_rows(file, text) if file.suffix.lower() == ".jsonl" else _csv_rows(file, text)


def _json_rows(file: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise InputError(f"{file} row {number}: no JSON object; expected file_name and label")
        for meaning, own in _columns_in(content).items():
            if any(isinstance(content[name], dict) for name in own):
                raise InputError(
                    f"{file} row {number}: the {meaning} is an object; expected a text or a number"
                )
        yield number, {name: _text(value) for name, value in content.items()}


def _text(value: object) -> str:
    """Return a JSON value as a cell: a list has its items joined; null and NaN are empty."""
    if isinstance(value, list):
        return BETWEEN.join(map(_text, value))
    return "" if value is None or value != value else str(value)  # noqa: PLR0124  (NaN alone)


def _csv_rows(file: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    text = EXCEL_LINE.sub("\n", text)
    first = next((line for line in text.split("\n") if line.strip()), "")
    header: list[str] | None = None
    number = 0
    try:
        delimiter = max(DELIMITERS, key=lambda d: len(_columns_in(_split(first, d))))
        for number, cells in enumerate(csv.reader(io.StringIO(text), delimiter=delimiter), start=1):
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                if twice := [name for name in header if name and header.count(name) > 1]:
                    raise InputError(f"{file}: two columns {twice[0]!r}; expected a name for each column")
            elif len(cells) != len(header):
                raise InputError(
                    f"{file} row {number}: {len(cells)} cells; the header has {len(header)}; "
                    f"put double quotes around a cell with {delimiter!r} in it"
                )
            else:
                yield number, dict(zip(header, (cell.strip() for cell in cells), strict=True))
    except csv.Error as error:
        raise InputError(f"{file} row {number + 1}: not a row of a CSV file ({error})") from error


def _split(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _columns_in(header: Iterable[str]) -> dict[str, list[str]]:
    """Return the columns of a header that have a meaning, by meaning."""
    own = {meaning: [c for c in header if c.lower() in names] for meaning, names in COLUMNS.items()}
    return {meaning: found for meaning, found in own.items() if found}


def _columns(
    file: Path, header: Collection[str], needed: Sequence[str] = ("image", "label")
) -> dict[str, str]:
    """Return the column of each meaning. Raises InputError if a needed one has none, or a meaning two."""
    found = _columns_in(header)
    for meaning, own in found.items():
        if len(own) > 1:
            raise InputError(f"{file}: {' and '.join(own)} both mean the {meaning}; expected one of them")
    for meaning in needed:
        if meaning not in found:
            raise InputError(
                f"{file}: no column for the {meaning}, {' or '.join(COLUMNS[meaning])}; "
                f"it has {', '.join(map(repr, header))}"
            )
    return {meaning: own[0] for meaning, own in found.items()}


def images_of(file: Path) -> Iterator[tuple[str, Path]]:
    """Yield the images that a list names, as written and as paths that may not exist; labels are not needed.

    Raises:
        InputError: names the file, the row and what would be right.
    """
    for number, cells in _rows(file):
        text = cells[_columns(file, cells, needed=("image",))["image"]]
        if not text:
            raise InputError(f"{file} row {number}: no image; expected its path, from {file.parent} on")
        yield text, _existing(file, text) or file.parent / text


def _entries(file: Path, of: Path) -> Iterator[_Entry]:
    """Yield the rows of a list, which is `of` itself, in that folder, or in the folder of a part below it.

    Raises: InputError that names the first row that is wrong.
    """
    above = file.parent.name if of.is_dir() and file.parent != of else ""
    columns, seen = {}, None
    for number, cells in _rows(file):
        place = f"{file} row {number}"
        if cells.keys() != seen:  # a JSON row may have other names
            columns, seen = _columns(file, cells), cells.keys()
        split = cells[columns["split"]] if "split" in columns else above
        if "split" in columns and not part_of(split):
            raise InputError(f"{place}: split '{split}' is not known; expected train, val or test")
        words = (one_form(word.strip()) for word in cells[columns["label"]].split(BETWEEN))
        labels = tuple(dict.fromkeys(filter(None, words)))
        yield _Entry(_path(file, place, cells[columns["image"]]), labels, part_of(split), cells, place)


def _path(file: Path, place: str, text: str) -> str:
    """Return the absolute path of a row's image. Raises InputError if there is none."""
    if ".." in Path(text).parts:
        raise InputError(
            f"{place}: {text} leads outside by '..'; expected a path below {file.parent}, or an absolute one"
        )
    if found := _existing(file, text):
        return str(found.absolute())
    named = f"no image {text}" if text else "no image"
    raise InputError(f"{place}: {named}; expected a path relative to {file.parent}, or an absolute one")


def _existing(file: Path, text: str) -> Path | None:
    """Return the file that a row names, as paths are written here, on Windows or macOS; None without one."""
    here = text.replace("\\", "/")
    for form in (text, here, *(unicodedata.normalize(form, here) for form in ("NFC", "NFD"))):
        with suppress(OSError, ValueError):  # no file can have such a name
            if form and (found := file.parent / form).is_file():
                return found
    return None


def _once(entries: Iterable[_Entry]) -> list[_Entry]:
    """Return the rows sorted by path, as in a tree, and each image once.

    Raises:
        InputError: two rows give an image different labels or parts.
    """
    found: dict[str, _Entry] = {}
    for entry in entries:
        other = found.setdefault(entry.path, entry)
        if other is not entry and (set(other.labels), other.part) != (set(entry.labels), entry.part):
            kind = "split" if set(other.labels) == set(entry.labels) else "label"
            raise InputError(
                f"{entry.place}: {entry.path} has another {kind} in {other.place}; "
                "expected one row for each image"
            )
    return sorted(found.values(), key=lambda entry: entry.path)


def _labels(path: Path, entries: Sequence[_Entry], classes: Sequence[str], is_multi: bool) -> np.ndarray:
    """Return the labels: class numbers [N], or float32 0 or 1 [N,L].

    Raises:
        InputError: an image has no label and others have one each, or a class has no training image.
    """
    number = {name: i for i, name in enumerate(classes)}
    labels = np.zeros((len(entries), len(classes)), np.float32)
    for i, entry in enumerate(entries):
        if not entry.labels and not is_multi:
            raise InputError(f"{entry.place}: no label; expected the name of a class")
        for name in entry.labels:
            if name not in number:
                raise InputError(f"{entry.place}: class '{name}' has no row with split train in {path}")
            labels[i, number[name]] = 1
    return labels if is_multi else labels.argmax(1)
