"""Unpack untrusted archives: nothing is written outside one folder, or beyond a size limit.

While an archive is read, only plain files and folders are created. Links are created last, when no write can
follow them any more. Each link points directly to a real file or folder inside.
"""

import bz2
import errno
import gzip
import lzma
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from os.path import relpath
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, cast

from rich.filesize import decimal

from ... import InputError
from ..files.atomic import draft_of
from .http import progress_bar

MOST_BYTES = 200 * 10**9  # unpacked
UNPACKED_TIMES = 20  # limit against archive bombs: annotations compress well, images do not
UNPACKED_BYTES = 2_000_000_000  # the limit is at least this
MOST_MEMBERS = 30_000_000
HEADER_BYTES = 16 << 20  # of all headers of one tar member, which are read into memory
PATH_CHARS = 4096  # per path; those of links are kept in memory
CHUNK_BYTES = 1 << 18
LARGE_BYTES = 50_000_000  # larger archives show a progress bar
BLOCK_BYTES = 512  # of a tar
OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
DAMAGE_ERRORS = (
    EOFError,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    struct.error,  # from here on: other errors that damaged headers cause
    ArithmeticError,
    LookupError,
    RuntimeError,
    ValueError,
)


@contextmanager
def draft(into: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `into` if the block succeeds, and is removed if it fails.

    Raises:
        InputError: if `into` is not empty or cannot be created.
    """
    folder = draft_of(into)
    try:
        with _folder_errors(into):
            if into.exists() and not (into.is_dir() and not any(into.iterdir())):
                raise InputError(f"{into}: already exists; expected no such folder, or an empty one")
            folder.mkdir(parents=True)
        yield folder
        with _folder_errors(into):
            folder.rename(into)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _folder_errors(into: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{into}: cannot be created ({_reason(error)}); expected a writable folder"
        ) from error


def most_unpacked(num_bytes: int) -> int:
    """Return how many bytes may come out of archives of so many bytes."""
    return max(UNPACKED_BYTES, UNPACKED_TIMES * num_bytes)


def extract(archive: Path, folder: Path, *, most_bytes: int = MOST_BYTES) -> int:
    """Unpack an archive into a folder that may contain others of the same set; use it inside `draft`.

    Supported are tar (plain, gzip, bzip2 or xz), zip, and single files packed by gzip, bzip2 or xz, which
    lose their suffix. Existing files are replaced.

    Returns:
        The number of bytes written.

    Raises:
        InputError: if the archive is cut, unsafe, too large or of an unknown type, or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writer = _Writer(archive, folder.resolve(), most_bytes)
        with _opened(archive) as file:
            for member in _members(archive, file):
                writer.add(member)
        writer.make_links()
    except InputError:
        raise
    except NotImplementedError as error:
        raise InputError(f"{archive}: cannot be unpacked ({error})") from error
    except DAMAGE_ERRORS as error:
        raise _damaged(archive) from error
    except OSError as error:
        if error.errno is None:  # raised by gzip and bz2
            raise _damaged(archive) from error
        raise InputError(f"{archive}: cannot be unpacked into {folder} ({_reason(error)})") from error
    return writer.num_bytes


def _damaged(archive: Path) -> InputError:
    return InputError(f"{archive}: cut or damaged; delete it and download it again")


def _reason(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "no space left; free some" if full else error.strerror or str(error)


@dataclass(frozen=True)
class _Member:
    name: str
    kind: Literal["file", "folder", "link", "hard link"]
    num_bytes: int = 0  # as stated by the archive
    target: str = ""
    stream: IO[bytes] | None = None


@dataclass
class _Writer:
    """A writer of members below a folder, within limits."""

    archive: Path
    folder: Path  # resolved
    most_bytes: int
    num_bytes: int = 0
    num_members: int = 0
    links: list[_Member] = field(default_factory=list)

    def add(self, member: _Member) -> None:
        self.num_members += 1
        if self.num_members > MOST_MEMBERS:
            raise InputError(f"{self.archive}: more than {MOST_MEMBERS:,} members; expected a data set")
        if max(len(member.name), len(member.target)) > PATH_CHARS:
            raise InputError(
                f"{self.archive}: a path of more than {PATH_CHARS:,} characters; expected a data set"
            )
        place = self._place(member.name)
        if member.kind == "folder":
            place.mkdir(parents=True, exist_ok=True)
        elif member.stream is None:
            self.links.append(member)
        elif self._write(member.stream, place, member.num_bytes) < member.num_bytes:
            raise _damaged(self.archive)

    def make_links(self) -> None:
        """Create the links in order. A hard link becomes a copy."""
        for link in self.links:
            place = self._place(link.name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place = place.parent.resolve() / place.name
            real = self._real(link, place)
            if link.kind == "hard link":
                with real.open("rb") as f:
                    self._write(f, place, link.num_bytes)
            else:
                place.unlink(missing_ok=True)
                place.symlink_to(relpath(real, place.parent))

    def _place(self, name: str) -> Path:
        """Return the path of a member. Raises InputError if it is not below the folder."""
        unsafe = re.match(r"/|[A-Za-z]:", name) or "\\" in name or ".." in name.split("/")
        if unsafe:
            raise InputError(
                f"{self.archive}: unsafe member {name[:200]!r}; expected a relative path with '/', no '..'"
            )
        return self.folder / name

    def _real(self, link: _Member, place: Path) -> Path:
        """Return the final target of a link, through all links."""
        base = self.folder if link.kind == "hard link" else place.parent
        try:
            real = (base / link.target).resolve(strict=True)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
            raise InputError(
                f"{self.archive}: {link.kind} {link.name!r} has no target in the archive"
            ) from error
        if not real.is_relative_to(self.folder) or place.is_relative_to(real):
            raise InputError(
                f"{self.archive}: unsafe {link.kind} {link.name!r}; expected a target inside, not above"
            )
        return real

    def _write(self, stream: IO[bytes], place: Path, num_bytes: int) -> int:
        """Write a file, replacing an old one; check the limit for the stated and the real size."""
        self._check_bound(num_bytes)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        before = self.num_bytes
        with place.open("xb") as f:
            while chunk := stream.read(CHUNK_BYTES):
                self._check_bound(len(chunk))
                self.num_bytes += f.write(chunk)
        return self.num_bytes - before

    def _check_bound(self, num_bytes: int) -> None:
        if self.num_bytes + num_bytes > self.most_bytes:
            raise InputError(
                f"{self.archive}: more than {decimal(self.most_bytes)} unpacked, the limit; nothing is kept"
            )


@contextmanager
def _opened(archive: Path) -> Iterator[BinaryIO]:
    """Open an archive, with a progress bar if it is large."""
    with progress_bar(archive.stat().st_size >= LARGE_BYTES) as progress:  # noqa: SIM117
        with progress.open(archive, "rb", description=f"unpacking {archive.name}") as f:
            yield f


def _members(archive: Path, file: BinaryIO) -> Iterator[_Member]:
    """Yield the members of an archive, detecting its type by content. Read each before the next."""
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(ZIP_MAGICS):
        yield from _zip_members(archive, file)
        return
    opener = next((o for m, o in OPENERS.items() if magic.startswith(m)), None)
    if not opener:
        if not _is_tar(file):
            raise InputError(
                f"{archive}: not an archive; expected tar, zip, or a file packed by gzip, bzip2 or xz"
            )
        yield from _tar_members(archive, file)
        return
    with opener(file) as unpacked:
        if _is_tar(unpacked):
            yield from _tar_members(archive, unpacked)
        elif archive.name.endswith((".tgz", *(f".tar{s}" for s in (".gz", ".bz2", ".xz")))):
            raise _damaged(archive)
        else:
            name = archive.stem if archive.suffix in (".gz", ".bz2", ".xz") else archive.name
            yield _Member(name, "file", stream=unpacked)


def _is_tar(stream: IO[bytes]) -> bool:
    """Return whether a tar header with a valid checksum comes first."""
    block = stream.read(BLOCK_BYTES)
    stream.seek(0)
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _zip_members(archive: Path, file: BinaryIO) -> Iterator[_Member]:
    with zipfile.ZipFile(file) as entries:
        for entry in entries.infolist():
            kind, name = stat.S_IFMT(entry.external_attr >> 16), zip_name(entry)
            if entry.flag_bits & 1:
                raise NotImplementedError(f"{entry.filename} is encrypted; expected no password")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise NotImplementedError(
                    f"{entry.filename} uses an unsupported compression; expected deflate"
                )
            if name.endswith("/") or kind == stat.S_IFDIR:
                yield _Member(name, "folder")
            elif kind == stat.S_IFLNK:
                with entries.open(entry) as stream:
                    yield _Member(name, "link", target=stream.read(4096).decode())
            elif kind in (0, stat.S_IFREG):
                with entries.open(entry) as stream:
                    yield _Member(name, "file", entry.file_size, stream=stream)
            else:
                raise _special(archive, entry.filename)


def zip_name(entry: zipfile.ZipInfo) -> str:
    """Return the name of a member, with slashes, for which old programs for Windows write backslashes.

    It is UTF-8 if it can be, which macOS writes without saying so.
    """
    name = entry.filename
    if not entry.flag_bits & 0x800:
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name.replace("\\", "/")


def _tar_members(archive: Path, stream: IO[bytes]) -> Iterator[_Member]:
    metered = _Metered(stream)
    with tarfile.open(fileobj=cast(IO[bytes], metered), mode="r|") as entries:
        while entry := entries.next():
            cast(Any, entries).members.clear()  # a list of all members would fill the memory
            metered.left = entry.size + HEADER_BYTES
            yield _tar_member(archive, entries, entry)
            metered.left = HEADER_BYTES
        end = entries.offset
    if metered.block(end) != bytes(BLOCK_BYTES):
        raise tarfile.ReadError("no end")  # a damaged header looks like an end
    while metered.left > CHUNK_BYTES and metered.read(CHUNK_BYTES):
        pass  # gzip, bzip2 and xz verify their checksum at their end


def _tar_member(archive: Path, entries: tarfile.TarFile, entry: tarfile.TarInfo) -> _Member:
    if entry.isreg():
        return _Member(entry.name, "file", entry.size, stream=entries.extractfile(entry))
    if entry.isdir():
        return _Member(entry.name, "folder")
    if entry.issym() or entry.islnk():
        return _Member(entry.name, "link" if entry.issym() else "hard link", target=entry.linkname)
    raise _special(archive, entry.name)


def _special(archive: Path, name: str) -> InputError:
    return InputError(
        f"{archive}: unsafe member {name[:200]!r}, a device or pipe; expected files and folders"
    )


class _Metered:
    """A stream with a limit: reading beyond `left` is an error. It keeps the latest chunk."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.left = HEADER_BYTES
        self.num_bytes = 0
        self.latest = b""

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        if not data and not self.latest:  # tarfile would otherwise read up to 10^10 times to skip a member
            raise tarfile.ReadError("cut")
        self.left -= len(data)
        if self.left < 0:
            raise tarfile.ReadError("a header that is too long")
        self.num_bytes += len(data)
        self.latest = data
        return data

    def block(self, offset: int) -> bytes:
        """Return the block at an offset within the latest chunk."""
        start = offset - (self.num_bytes - len(self.latest))
        return self.latest[start : start + BLOCK_BYTES]
