"""Find images in uncompressed tars (one tar or many shards) by their headers only.

An image's class is its folder. In webdataset's layout it is the number in the `.cls` file, or the `label` in
the `.json` file, of the same name. In ImageNet's own archives it is the tar's name, with which the image's
name begins.
"""

import codecs
import json
import os
import re
import shlex
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, groupby
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rich.console import Console
from rich.progress import track

from ... import InputError
from ...user_text import one_form, read_text
from ..decoding.formats import SUFFIXES, is_image
from ..files.folder_names import PART_NAMES, is_dropping, is_folder, is_seen, listing, part_of

BESIDE = (".cls", ".json", ".txt")  # label and caption of a sample
CLASS_FILES = ("classnames.txt", "classes.txt")
ARCHIVE = re.compile(r"\.(tar(\.(gz|bz2|xz|zst|lz4|lzma|Z))?|tgz|tbz2?|txz|zip)$", re.IGNORECASE)
MOST_CLASSES = 1_000_000  # each class gets a name
MOST_METADATA_BYTES = 1 << 20  # of a label file or an extended header, read into memory
NUM_THREADS = 16  # they mostly wait for disks or the network
BLOCK = 512
ZEROS = bytes(BLOCK)
WINDOW = 8192  # bytes per read: covers the small files and headers between two images
FILES = {b"0", b"\0", b"7"}  # types of regular files
LINKS, FOLDER = {b"1", b"2"}, b"5"
HEADER_ONLY = {*LINKS, FOLDER, b"3", b"4", b"6"}  # links, folders, devices
EXTENDED = {b"L", b"K", b"x", b"X", b"g"}  # long path, long link, pax
HEADER = struct.Struct("100s24x12s12x8sc100x8s80x155s12x")  # path, size, checksum, type, format, path prefix


class Member(NamedTuple):
    """A file in a tar, or a folder, whose path ends with a slash, or a link, which has -1 bytes."""

    path: str
    offset: int
    num_bytes: int


class Sample(NamedTuple):
    """A member of a tar. `folder` is split/class, class or empty; if `numbered`, the class is a label."""

    path: str
    folder: str
    numbered: bool
    offset: int
    num_bytes: int
    is_image: bool = True


def find_tars(path: Path) -> list[Path]:
    """Return the tars: the path itself, or those in a folder and its part folders if it is no image tree.

    Raises:
        InputError: if the path does not exist, or an archive is compressed.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_file() and not ARCHIVE.search(path.name):
        raise InputError(f"{path}: expected a folder, a .tar, a .zip or a list (.csv, .tsv, .jsonl)")
    if path.is_file():
        tars = [path]
    else:
        folders = _folders(path)
        parts = [folder for folder in folders if part_of(folder.name)]
        others = [folder for folder in folders if not part_of(folder.name)]
        seen: set[tuple[int, int]] = set()
        if any(_holds_images(f, seen) for f in chain(chain.from_iterable(map(_folders, parts)), others)):
            return []
        files = [folder / e.name for folder in (path, *parts) for e in listing(folder)]
        archives = sorted(file for file in files if ARCHIVE.search(file.name))
        tars = [file for file in archives if file.suffix.lower() != ".zip"] or archives
    if packed := [tar for tar in tars if tar.suffix.lower() != ".tar"]:
        alone = len(tars) == 1 and path.is_dir()
        hint = f"; give its own path: {packed[0]}" if alone else _unpack(packed[0])
        found = ", ".join(tar.name for tar in tars[:4]) + hint
        raise InputError(f"{path}: expected one uncompressed .tar or uncompressed shards; found {found}")
    return tars


def _unpack(file: Path) -> str:
    """Return the command that unpacks an archive, after a semicolon; empty if the file is none."""
    command = "unzip {} -d FOLDER" if file.suffix.lower() == ".zip" else "tar xf {} -C FOLDER"
    return f"; unpack it: {command.format(shlex.quote(str(file)))}" if ARCHIVE.search(file.name) else ""


def _folders(path: Path) -> list[Path]:
    return [path / entry.name for entry in listing(path) if is_folder(entry)]


def _holds_images(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Return whether there is an image in a folder or below; search no folder twice."""
    if is_seen(folder, seen):
        return False
    inner = []
    for entry in listing(folder):
        if is_folder(entry):
            inner.append(folder / entry.name)
        elif is_image(entry.name):
            return True
    return any(_holds_images(each, seen) for each in inner)


def is_single_tar(root: Path, tars: Sequence[Path]) -> bool:
    """Return whether one tar is the whole data set; its name then gives no part."""
    return len(tars) == 1 and tars[0].parent == root


def state_key(root: Path, tars: Iterable[Path]) -> str:
    """Return a text that changes when a tar or the class names change."""
    names = [file for name in CLASS_FILES if (file := root / name).exists()]
    states = ((file.relative_to(root), file.stat()) for file in (*tars, *names))
    return "\n".join(f"{file} {s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino}" for file, s in states)


def class_names(root: Path, num_classes: int) -> tuple[str, ...]:
    """Return class names by label: the lines of a file beside the shards, or the numbers.

    Raises:
        InputError: if the file has fewer lines than there are labels.
    """
    for file in (root / name for name in CLASS_FILES):
        if file.exists():
            try:
                lines = one_form(read_text(file)).splitlines()
            except ValueError as error:
                raise InputError(f"{file}: not UTF-8 ({error}); expected one class name a line") from error
            names = tuple(line.strip() for line in lines if line.strip())
            if len(names) < num_classes:
                raise InputError(
                    f"{file}: {len(names)} names; labels in the shards go up to {num_classes - 1}"
                )
            return names
    return tuple(map(str, range(num_classes)))


def samples(root: Path, tars: Sequence[Path], others: bool = False) -> Iterator[tuple[str, Iterable[Sample]]]:
    """Yield each tar's path relative to the root, and its images; in order, with read-ahead.

    Args:
        root: folder of the tars.
        tars: the tars.
        others: yield the members that are not taken, too; neither labels nor droppings are among them.

    Raises:
        InputError: if a file is not an uncompressed tar.
    """
    if is_single_tar(root, tars):
        yield tars[0].name, _samples(tars[0], "", others)
        return
    rounds = [tars[i : i + NUM_THREADS] for i in range(0, len(tars), NUM_THREADS)]
    words = f"reading the headers of {len(tars)} tars"
    bar = track(rounds, words, console=Console(stderr=True), transient=True, disable=len(rounds) < 4)
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        for some in bar:
            listed = threads.map(lambda tar: list(_samples(tar, _part_of(root, tar), others)), some)
            for tar, images in zip(some, listed, strict=True):
                yield str(tar.relative_to(root)), images


def _part_of(root: Path, tar: Path) -> str:
    """Return the name of the part in the names of a shard and its folder; empty if there is none.

    Raises:
        InputError: if they name two parts.
    """
    words = re.findall("[a-z]+", str(tar.relative_to(root).with_suffix("")).lower())
    found = [word for word in words if word in PART_NAMES]
    parts = {PART_NAMES[word] for word in found}
    if len(parts) > 1:
        raise InputError(f"{tar}: may be {' or '.join(sorted(parts))}; expected one part in the shard's name")
    return found[0] if found else ""


def _samples(tar: Path, part: str, others: bool) -> Iterator[Sample]:
    """Yield the images of a tar; files with equal paths up to the first dot of the name form one sample."""
    try:
        with tar.open("rb", buffering=WINDOW) as f:
            for stem, group in groupby(members(f, others=others), key=_stem):
                files = list(group)
                label = _label(f, stem, files)
                kept = [file for file in files if not is_dropping(file.path)]
                if label is None:
                    found = [(file, file.num_bytes >= 0 and is_image(file.path)) for file in kept]
                else:
                    found = _of_sample(kept, len(stem))
                for (path, offset, num_bytes), taken in found:
                    if taken or others:
                        folder = _folder_of(path, part, tar.stem) if label is None else f"{part}/{label}"
                        folder = folder.removeprefix("/")
                        yield Sample(path, folder, label is not None, offset, num_bytes, taken)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{tar}: not a readable tar ({error}); expected an uncompressed one") from error
    except OSError as error:
        raise InputError(f"{tar}: cannot be read ({error.strerror})") from error


def _of_sample(files: Sequence[Member], start: int) -> list[tuple[Member, bool]]:
    """Return the images of a sample with a label, or else its other files; and whether it has images.

    Args:
        files: the files of the sample.
        start: where the endings of their names start: `.png`, but not `.seg.png`, is the image.
    """
    images = [file for file in files if file.num_bytes >= 0 and file.path[start:].lower() in SUFFIXES]
    return [(file, bool(images)) for file in images or files if file.path[start:].lower() not in BESIDE]


def _stem(member: Member) -> str:
    folder, slash, name = member.path.rpartition("/")
    return folder + slash + name.partition(".")[0]


def _folder_of(path: str, part: str, tar: str) -> str:
    """Return the folder of a file, below the part of its shard unless the folder names a part itself."""
    folder = path.rpartition("/")[0]
    if not folder and path.startswith(f"{tar}_"):
        folder = tar
    has_part = any(map(part_of, folder.split("/")[:-1]))
    return f"{part}/{folder}" if part and folder and not has_part else folder


def _label(f: BinaryIO, stem: str, files: list[Member]) -> int | None:
    """Return the label of a sample, or None. Raises InputError if a `.cls` is not a number."""
    beside = {file.path[len(stem) :].lower(): file for file in files} if len(files) > 1 else {}
    if found := beside.get(".cls"):
        text = _read(f, found.offset, min(found.num_bytes, MOST_METADATA_BYTES))
        text = text.removeprefix(codecs.BOM_UTF8).strip()
        if not (text.isdigit() and len(text) < 20 and int(text) < MOST_CLASSES):
            raise _no_label(f, found, text[:40])
        return int(text)
    if found := beside.get(".json"):
        try:
            content = json.loads(_read(f, found.offset, min(found.num_bytes, MOST_METADATA_BYTES)))
        except (ValueError, RecursionError):
            content = None
        label = content.get("label") if isinstance(content, dict) else None
        if type(label) is int and label >= MOST_CLASSES:
            raise _no_label(f, found, label)
        return label if type(label) is int and label >= 0 else None
    return None


def _no_label(f: BinaryIO, member: Member, found: object) -> InputError:
    return InputError(
        f"{f.name}:{member.path}: invalid label ({found!r}); expected a number from 0 to {MOST_CLASSES - 1:,}"
    )


def members(f: BinaryIO, start: int = 0, end: int | None = None, others: bool = False) -> Iterator[Member]:
    """Yield the files of an uncompressed tar from its headers: ustar, GNU and pax, without sparse files.

    Args:
        f: the tar, or a file that contains it from `start` to `end`.
        start: position of the tar in the file.
        end: its end; None: the end of the file.
        others: yield folders and links, too.

    Raises:
        ValueError: if the archive is damaged; the message gives the reason.
    """
    end, at = os.fstat(f.fileno()).st_size if end is None else end, start
    extended: dict[str, str] = {}  # fields of an extended header, for the next member
    while (block := _read(f, at, min(BLOCK, end - at))) != ZEROS and (block or at == start):
        kind, path, num_bytes = _header(block)
        at += BLOCK
        if kind in HEADER_ONLY:
            num_bytes, path = 0, extended.get("path", path)
        elif extended and kind not in EXTENDED:
            path, num_bytes = extended.get("path", path), int(extended.get("size", num_bytes))
        if not 0 <= num_bytes <= end - at:
            raise ValueError("unexpected end of data")
        if kind in EXTENDED and num_bytes > MOST_METADATA_BYTES:
            raise ValueError("a header that is too long")
        if kind in EXTENDED:
            extended |= _extended_fields(kind, _read(f, at, num_bytes))
        else:
            extended = {}
            if kind in FILES and not path.endswith("/"):
                yield Member(path.removeprefix("./"), at, num_bytes)
            elif others and (kind in LINKS or kind == FOLDER) and path.strip("./"):
                path = path.removeprefix("./").rstrip("/") + "/" * (kind == FOLDER)
                yield Member(path, at, -1 if kind in LINKS else 0)
        at += -(-num_bytes // BLOCK) * BLOCK


def _read(f: BinaryIO, at: int, num_bytes: int) -> bytes:
    f.seek(at)
    return f.read(num_bytes)


def _header(block: bytes) -> tuple[bytes, str, int]:
    """Return type, path and size from a header."""
    if len(block) < BLOCK:
        raise ValueError("truncated header" if block else "empty file")
    path, size, checksum, kind, form, prefix = HEADER.unpack(block)
    # The checksum is the sum of all bytes, with blanks in place of itself: the lower half of Adler-32.
    total = zlib.adler32(block[:148] + b" " * 8 + block[156:]) & 0xFFFF
    if total != (1 + _number(checksum)) % 65521:
        raise ValueError("invalid header")
    path = path.partition(b"\0")[0]
    if prefix[0] and form == b"ustar\x0000":
        path = prefix.partition(b"\0")[0] + b"/" + path
    return kind, path.decode("utf-8", "surrogateescape"), _number(size)


def _number(digits: bytes) -> int:
    """Return a number: octal digits, or binary if the first byte is 0x80."""
    if digits[0] == 0x80:
        return int.from_bytes(digits[1:])
    try:
        return int(digits.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        raise ValueError("invalid header") from None


def _extended_fields(kind: bytes, text: bytes) -> dict[str, str]:
    """Return the fields of an extended header, which apply to the next member."""
    if kind == b"L":
        return {"path": text.partition(b"\0")[0].decode("utf-8", "surrogateescape")}
    fields = {}
    while kind in (b"x", b"X") and text:
        size = int(text.partition(b" ")[0])
        if not 0 < size <= len(text):
            raise ValueError("invalid header")
        name, _, value = text[:size].partition(b" ")[2].partition(b"=")
        fields[name.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "surrogateescape")
        text = text[size:]
    return fields
