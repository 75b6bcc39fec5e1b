"""Find the images that are to be predicted: files, folders, tars, zips and lists."""

import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ... import InputError
from ...datasets.decoding.formats import is_image
from ...datasets.download.archives import DAMAGE_ERRORS, zip_name
from ...datasets.files.folder_names import is_dropping, is_seen
from ...datasets.loading import image_list
from ...user_text import ENDING

MOST_BYTES = 1 << 29  # of one image file in an archive


class Found(NamedTuple):
    """An image that is to be predicted: its name, and how to read its bytes."""

    name: str
    read: Callable[[], bytes]


def find(paths: Sequence[Path], opened: ExitStack) -> list[Found]:
    """Return the images of all paths, in order; archives stay open until `opened` is closed.

    A file is taken whatever its name is. In a folder, a tar or a zip the suffix decides, as in a data set. A
    list is read as one of training images, and needs no labels.

    Raises:
        InputError: a path does not exist, cannot be read, or has no image.
    """
    found = []
    for path in paths:
        own = list(_images_of(path, opened))
        if not own:
            raise InputError(f"{path}: no image in it; expected files as a.jpg or b.png")
        found += own
    return found


def _images_of(path: Path, opened: ExitStack) -> Iterator[Found]:
    if path.is_dir():
        return _below(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; expected images, folders, tars, zips or lists")
    if not path.is_file():
        raise InputError(f"{path}: a pipe, socket or device; expected an image file")
    if image_list.is_list(path):
        return (Found(name, partial(_of_file, own)) for name, own in image_list.images_of(path))
    if not is_image(path.name):
        if zipfile.is_zipfile(path):
            return _in_zip(path, opened)
        if _is_tar(path):
            return _in_tar(path, opened)
    if ENDING.search(path.name):
        raise InputError(f"{path}: cut or damaged; expected a zip or a tar, as its name says")
    return iter([Found(str(path), path.read_bytes)])


def _below(folder: Path) -> Iterator[Found]:
    """Yield the images below a folder and below links to folders, each folder once."""
    seen: set[tuple[int, int]] = set()
    is_seen(folder, seen)
    for place, folders, files in os.walk(folder, followlinks=True):
        known = sorted(f for f in folders if not is_dropping(f))
        folders[:] = [f for f in known if not is_seen(Path(place, f), seen)]
        for path in (Path(place, name) for name in sorted(files) if is_image(name)):
            yield Found(str(path), partial(_of_file, path))


def _in_zip(path: Path, opened: ExitStack) -> Iterator[Found]:
    try:
        archive = opened.enter_context(zipfile.ZipFile(path))
    except (*DAMAGE_ERRORS, OSError) as error:
        raise InputError(f"{path}: a cut or damaged zip ({error})") from error
    for entry in archive.infolist():
        if is_image(name := zip_name(entry)):
            yield Found(f"{path}/{name}", partial(_of_size, entry.file_size, partial(archive.read, entry)))


def _is_tar(path: Path) -> bool:
    with suppress(*DAMAGE_ERRORS, OSError):
        return tarfile.is_tarfile(path)
    return False


def _in_tar(path: Path, opened: ExitStack) -> Iterator[Found]:
    try:
        archive = opened.enter_context(tarfile.open(path))  # noqa: SIM115
        members = [m for m in archive if (m.isfile() or m.islnk() or m.issym()) and is_image(m.name)]
        _check_end(archive)
    except (*DAMAGE_ERRORS, OSError) as error:
        raise InputError(f"{path}: a cut or damaged tar ({error})") from error

    def content(member: tarfile.TarInfo) -> bytes:
        try:
            file = archive.extractfile(member)
        except KeyError as error:
            raise ValueError(f"a link to {member.linkname!r:.80}, which is not in the tar") from error
        return file.read() if file else b""

    for member in members:
        yield Found(f"{path}/{member.name}", partial(_of_size, member.size, partial(content, member)))


def _check_end(archive: tarfile.TarFile) -> None:
    """Check that a listed tar has ended. Raises ReadError: to tarfile a damaged header is an end."""
    assert archive.fileobj
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) not in (b"", bytes(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError("a damaged header")


def _of_file(path: Path) -> bytes:
    """Return a file's bytes. Raises ValueError for what never ends or waits for ever, as a pipe."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError("a pipe, socket or device; expected an image file")
    return path.read_bytes()


def _of_size(num_bytes: int, read: Callable[[], bytes]) -> bytes:
    """Return bytes. Raises ValueError if they would be too many."""
    if num_bytes > MOST_BYTES:
        raise ValueError(f"{num_bytes:,} bytes; at most {MOST_BYTES:,} are read")
    return read()
