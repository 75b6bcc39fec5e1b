"""Image folders of one's own: `split/class/image` trees, tars of them, and plain `class/image` trees."""

import hashlib
import io
import json
import os
import tarfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from .. import InputError
from .base import Dataset, Part, mix
from .cache import folder as cache_folder
from .pixels import square

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
PART_NAMES = {
    "train": "train",
    "training": "train",
    "holdout": "holdout",
    "val": "holdout",
    "valid": "holdout",
    "validation": "holdout",
    "dev": "holdout",
    "test": "test",
}
SPLIT_SEED = 0  # of the drawn split of a plain tree
TARGET_SHARES = {"train": 0.6, "holdout": 0.2, "test": 0.2}
SOURCE_SHARES = {"train": 0.95, "holdout": 0.05}


@dataclass(frozen=True)
class Entry:
    """One image file: its path inside the set, and where its bytes lie."""

    path: str
    file: Path
    offset: int
    num_bytes: int

    def read(self) -> bytes:
        """Read the encoded bytes."""
        try:
            with self.file.open("rb") as f:
                f.seek(self.offset)
                return f.read(self.num_bytes)
        except OSError as error:
            raise InputError(f"{self.file}: cannot be read ({error.strerror})") from error


class FileImages:
    """Encoded images in files or in a tar."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries)

    def decode(self, i: int, side: int) -> tuple[np.ndarray, float]:
        """Give image `i` as uint8 [side,side,3] and its aspect ratio."""
        entry = self.entries[i]
        try:
            return square(Image.open(io.BytesIO(entry.read())), side)
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            where = entry.file if entry.offset == 0 else f"{entry.file}:{entry.path}"
            reason = str(error).split("<")[0].strip()
            raise InputError(
                f"{where}: not a readable image ({reason}); replace it or take it out "
                "(`transferbench data doctor PATH` lists all such images)"
            ) from error


def load(path: Path, as_source: bool = False) -> Dataset:
    """Read a folder or tar of images.

    Args:
        path: a `split/class/image` or `class/image` tree, a tar of one, or a folder with one tar.
        as_source: how a plain tree is split: 95/5 into train and holdout, or else 60/20/20
            with a test part; stratified, with seed 0.

    Raises: InputError that names what is missing, empty or not an image folder.
    """
    entries = _tar_entries(tar) if (tar := _tar_in(path)) else _tree_entries(path)
    if not entries:
        raise InputError(f"{path}: no images; expected split/class/image, class/image or a tar of that")
    name = (tar or path.resolve()).stem
    depth = {len(Path(e.path).parts) for e in entries}
    strange = [e.path for e in entries if Path(e.path).parts[0].lower() not in PART_NAMES]
    if depth == {3} and not strange:
        parts = _given_parts(path, entries)
    elif depth == {2} and strange:
        parts = _drawn_parts(entries, SOURCE_SHARES if as_source else TARGET_SHARES, name)
    else:
        found = min(strange or [e.path for e in entries if len(Path(e.path).parts) != 3])
        raise InputError(
            f"{path}: expected split/class/image with splits train, val, test, or class/image; found {found}"
        )
    classes = tuple(sorted({_class_of(e) for e in parts["train"]}))
    label_of = {c: i for i, c in enumerate(classes)}
    _check_classes(name, classes, parts)
    return Dataset(
        name=name,
        classes=classes,
        parts={
            part: Part(FileImages(es), np.array([label_of[_class_of(e)] for e in es], np.int64))
            for part, es in parts.items()
        },
        fingerprint=_fingerprint(entries),
        side=_typical_side(entries),
    )


def _tar_in(path: Path) -> Path | None:
    """Find the tar: the path itself, or the only one in a folder without image folders."""
    if not path.exists():
        raise InputError(f"{path}: no such folder or tar")
    tars = [path] if path.is_file() else sorted(path.glob("*.tar*"))
    if not tars or (path.is_dir() and any(p.is_dir() and not p.name.startswith(".") for p in path.iterdir())):
        return None
    if len(tars) > 1 or tars[0].suffix != ".tar":
        raise InputError(f"{path}: expected one uncompressed .tar, found {', '.join(t.name for t in tars)}")
    return tars[0]


def _tar_entries(tar: Path) -> list[Entry]:
    """List the images of a tar; the list is kept in the cache, for a large tar takes seconds."""
    status = tar.stat()
    key = hashlib.sha256(f"{tar.resolve()} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:16]
    kept = cache_folder() / f"{tar.stem}-{key}.index.json"
    if not kept.exists():
        try:
            with tarfile.open(tar, "r:") as members:
                rows = [(m.name.removeprefix("./"), m.offset_data, m.size) for m in members if m.isfile()]
        except tarfile.TarError as error:
            raise InputError(f"{tar}: not a readable tar ({error}); expected an uncompressed one") from error
        draft = kept.with_name(f"{kept.name}.{uuid.uuid4().hex}.draft")
        draft.write_text(json.dumps(sorted(r for r in rows if _is_image(r[0]))))
        draft.replace(kept)
    return [Entry(path, tar, offset, size) for path, offset, size in json.loads(kept.read_text())]


def _tree_entries(path: Path) -> list[Entry]:
    """List the images of a folder, in the order that a tar of it has.

    Raises: InputError for a class folder without images, or a link that leads nowhere.
    """
    entries = []
    for root, folders, files in os.walk(path, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith(".")]
        place = Path(root)
        images = [place / f for f in sorted(files) if _is_image(f)]
        depth = len(place.relative_to(path).parts)
        if depth and not folders and not images:
            raise InputError(f"{place}: empty class folder; put images into it or remove it")
        for f in images:
            if not f.exists():
                raise InputError(f"{f}: leads to no file; put the image there or remove the link")
            entries.append(Entry(f.relative_to(path).as_posix(), f, 0, f.stat().st_size))
    return sorted(entries, key=lambda e: e.path)


def _is_image(path: str) -> bool:
    place = Path(path)
    return place.suffix.lower() in SUFFIXES and not any(p.startswith(".") for p in place.parts)


def _class_of(entry: Entry) -> str:
    return Path(entry.path).parts[-2]


def _given_parts(path: Path, entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    parts: dict[str, list[Entry]] = {}
    for entry in entries:
        parts.setdefault(PART_NAMES[Path(entry.path).parts[0].lower()], []).append(entry)
    if "train" not in parts:
        raise InputError(f"{path}: no 'train' images; put class folders into {path}/train/")
    return parts


def _drawn_parts(entries: Sequence[Entry], shares: dict[str, float], name: str) -> dict[str, list[Entry]]:
    """Split a plain tree, stratified; which images fall where depends on their paths alone."""
    parts: dict[str, list[Entry]] = {part: [] for part in shares}
    by_class: dict[str, list[Entry]] = {}
    for entry in entries:
        by_class.setdefault(_class_of(entry), []).append(entry)
    for of_class in by_class.values():
        of_class.sort(key=lambda e: mix(SPLIT_SEED, e.path))
        if len(of_class) < len(shares):
            raise InputError(
                f"{name}: class '{_class_of(of_class[0])}' has {len(of_class)} images; "
                f"a drawn split needs {len(shares)} or more"
            )
        for part, share in list(shares.items())[1:]:
            count = max(1, round(share * len(of_class)))
            parts[part] += of_class[:count]
            del of_class[:count]
        parts["train"] += of_class
    return {part: sorted(es, key=lambda e: e.path) for part, es in parts.items()}


def _check_classes(name: str, classes: tuple[str, ...], parts: dict[str, list[Entry]]) -> None:
    for part, entries in parts.items():
        unknown = sorted({_class_of(e) for e in entries} - set(classes))
        if unknown:
            raise InputError(f"{name}/{part}: class '{unknown[0]}' has no folder with images in {name}/train")


def _fingerprint(entries: Sequence[Entry]) -> str:
    """Hash all paths and sizes, and the bytes of 64 images spread over the set."""
    digest = hashlib.sha256("\n".join(f"{e.path} {e.num_bytes}" for e in entries).encode())
    for entry in entries[:: max(1, len(entries) // 64)]:
        digest.update(entry.read())
    return digest.hexdigest()[:16]


def _typical_side(entries: Sequence[Entry]) -> int:
    """Find the median shorter side of up to 32 images; those that cannot be read are left out."""
    sides = []
    for entry in entries[:: max(1, len(entries) // 32)]:
        try:
            with Image.open(io.BytesIO(entry.read())) as image:
                sides.append(min(image.size))
        except (UnidentifiedImageError, OSError):
            continue
    return int(np.median(sides)) if sides else 0
