"""Fetch a file over http: goes on where it was cut, is checked, and comes once for all who want it.

Until `path` is whole, `path.part` has its bytes, `path.part.json` says which file they are of, and
`path.lock` keeps other processes waiting.
"""

import errno
import hashlib
import json
import re
import shutil
import socket
import string
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse, InvalidURL
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener, getproxies

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ... import InputError, __version__
from ..files.lock import locked

TIMEOUT_SECONDS = 30  # without a byte
CONNECT_SECONDS = 2.0
PAUSES_SECONDS = (1, 2, 4, 8)  # each before one more try that brings nothing new
MOST_REDIRECTS = 10
MOST_BYTES = 10**12  # of a file whose size nobody tells
CHUNK_BYTES = 1 << 18
REDIRECTS = {301, 302, 303, 307, 308}
BUSY = {429, 502, 503, 504}  # answers that may differ a moment later


class DownloadError(InputError):
    """This address does not give the file; another one may."""


class _Interrupted(Exception):
    """The transfer ended early; what has come is kept."""


class _Unreachable(_Interrupted):
    """No connection came about."""


def download(url: str, path: Path, *, checksum: str = "", num_bytes: int = 0, words: str = "") -> None:
    """Fetch a file, unless `path` is that file already.

    Args:
        url: http or https; redirects are followed, though never from https to http.
        path: where it goes; its folder is made when missing.
        checksum: "sha256:…" or "md5:…"; empty where none is published.
        num_bytes: its exact size; 0 where not known.
        words: what the progress bar says.

    Raises: DownloadError where another address may help: it cannot be reached, refuses, or has
        another file; InputError where none can: a full disk, a folder that cannot be written to.
    """
    if not re.match(r"https?://[^/]", url, re.IGNORECASE):
        raise InputError(f"{url}: cannot be fetched; expected an http or https address")
    if not re.fullmatch(r"|sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", checksum.lower()):
        raise InputError(f"checksum '{checksum}' of {url}: expected sha256:<64 digits> or md5:<32 digits>")
    if _is_done(path, checksum, num_bytes):
        return
    with ExitStack() as stack:
        with _disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path, f"another process is fetching {path.name}"))
        if _is_done(path, checksum, num_bytes):
            return
        part = _PartialFile(path)
        _check_room(path, num_bytes - part.num_bytes)
        _fetch(url, part, num_bytes, words or f"fetching {path.name}")
        _check(url, part, checksum, num_bytes)
        with _disk_errors(path):
            part.bytes.replace(path)
        part.drop()


def check_reachable(url: str) -> None:
    """See that a host answers, so that a machine without network learns it at once.

    Raises: DownloadError.
    """
    address = urlsplit(url)
    if getproxies().get(address.scheme):
        return
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), CONNECT_SECONDS).close()
    except OSError as error:
        raise DownloadError(f"{address.hostname} cannot be reached ({error.strerror or error})") from error


def verify(path: Path, checksum: str) -> bool:
    """Whether the file is there and has this sum; without one, whether it is there."""
    return path.is_file() and (not checksum or _checksum(path, checksum) == checksum.lower())


def progress_bar(is_shown: bool = True) -> Progress:
    """Make a progress bar of bytes on stderr, which is silent when that is no terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not (is_shown and sys.stderr.isatty()),
    )


def _is_done(path: Path, checksum: str, num_bytes: int) -> bool:
    return path.is_file() and num_bytes in (0, path.stat().st_size) and verify(path, checksum)


def _checksum(path: Path, checksum: str) -> str:
    """Sum the file in the way of `checksum`."""
    kind = checksum.partition(":")[0].lower()
    with progress_bar() as progress, progress.open(path, "rb", description=f"checking {path.name}") as f:
        digest = hashlib.file_digest(f, lambda: hashlib.new(kind, usedforsecurity=False))  # type: ignore[arg-type]
    return f"{kind}:{digest.hexdigest()}"


@dataclass(frozen=True)
class _Origin:
    """The file at an address, as it was when its first byte came."""

    url: str
    validator: str  # strong ETag or else Last-Modified; empty where neither is told
    num_bytes: int  # 0 where not told

    def is_also(self, other: "_Origin") -> bool:
        """Whether nothing told of the two, of one address, differs."""
        pairs = ((self.validator, other.validator), (self.num_bytes, other.num_bytes))
        return all(a == b for a, b in pairs if a and b)


class _PartialFile:
    """The bytes so far, and a note of the file that they are of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = path.with_name(f"{path.name}.part")
        self.note = path.with_name(f"{path.name}.part.json")

    @property
    def num_bytes(self) -> int:
        return self.bytes.stat().st_size if self.bytes.exists() else 0

    def origin(self, url: str) -> _Origin | None:
        """Read the note; None when there is none, or one of another address."""
        with suppress(OSError, ValueError, TypeError):
            origin = _Origin(**json.loads(self.note.read_text()))
            return origin if origin.url == url and self.num_bytes else None
        return None

    def begin(self, origin: _Origin) -> None:
        """Start anew; the note changes last, so that it is never one of other bytes."""
        with _disk_errors(self.path):
            self.bytes.write_bytes(b"")
            self.note.write_text(json.dumps(asdict(origin)))

    def drop(self) -> None:
        self.bytes.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _fetch(url: str, part: _PartialFile, num_bytes: int, words: str) -> None:
    """Bring the part to its end, over as many connections as it takes.

    A cut counts only while nothing new comes. Where the first try finds nobody, it stays the only one:
    a machine without a network has its answer at once.
    """
    furthest, pauses, was_reached = part.num_bytes, iter(PAUSES_SECONDS), False
    with progress_bar() as progress:
        progress.add_task(words, total=num_bytes or None)
        while True:
            try:
                return _transfer(url, part, num_bytes, progress)
            except _Interrupted as cut:
                was_reached |= not isinstance(cut, _Unreachable)
                if part.num_bytes > furthest:
                    furthest, pauses = part.num_bytes, iter(PAUSES_SECONDS)
                pause = next(pauses, None) if was_reached else None
                if pause is None:
                    raise DownloadError(f"{url if was_reached else urlsplit(url).hostname}: {cut}") from cut
                time.sleep(pause)


def _transfer(url: str, part: _PartialFile, num_bytes: int, progress: Progress) -> None:
    """Ask for what the part lacks and write it, over one connection."""
    kept = part.origin(url)
    offset = part.num_bytes if kept else 0
    try:
        response = _send(url, _range(offset, kept))
    except HTTPError as error:
        error.close()
        if error.code != 416 or not kept:
            if error.code in BUSY:
                raise _Interrupted(f"HTTP {error.code}") from error
            raise DownloadError(f"{url}: HTTP {error.code}") from error
        if offset == (_content_range(error.headers)[1] or kept.num_bytes):
            return  # nothing was lacking
        part.drop()
        raise _Interrupted(f"no bytes there from {offset:,} on") from error
    with response:
        start, whole = _content_range(response.headers, response.status)
        origin = _Origin(url, _validator(response.headers), whole)
        if num_bytes and whole not in (0, num_bytes):
            part.drop()
            raise DownloadError(f"{url}: has {whole:,} bytes; expected {num_bytes:,}")
        if start == 0:
            part.begin(origin)
        elif start != offset or kept is None or not kept.is_also(origin):
            part.drop()
            raise _Interrupted(f"does not send the bytes from {offset:,} on of the file that was begun")
        _check_room(part.path, whole - start)
        _receive(response, part, whole or num_bytes, progress)


def _receive(response: HTTPResponse, part: _PartialFile, whole: int, progress: Progress) -> None:
    """Append the body to the part; `whole` is 0 where nobody tells the size."""
    num_bytes, most = part.num_bytes, whole or MOST_BYTES
    with _disk_errors(part.path):
        file = part.bytes.open("ab", buffering=0)
    with file:
        while chunk := _read(response):
            num_bytes += len(chunk)
            if num_bytes > most:
                part.drop()
                raise DownloadError(f"{response.url}: sends more than {most:,} bytes, the most expected")
            with _disk_errors(part.path):
                _write(file, chunk)
            progress.update(progress.task_ids[0], completed=num_bytes, total=whole or None)
    if num_bytes < whole:
        raise _Interrupted(f"cut after {num_bytes:,} of {whole:,} bytes")


def _read(response: HTTPResponse) -> bytes:
    with _network_errors():
        return response.read1(CHUNK_BYTES)  # what has come: a stall loses none of it


def _write(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:  # a write that reaches the end of the disk is short; the next one fails
        view = view[file.write(view) :]


class _NoRedirects(HTTPRedirectHandler):
    """Leave redirects to `_ask`."""

    def redirect_request(self, *_: object) -> None:
        """Follow none."""


OPENER = build_opener(_NoRedirects)


def _send(url: str, headers: dict[str, str]) -> HTTPResponse:
    """Send the request, to where it is redirected.

    Raises: HTTPError for a status of 400 or more; `_Away`, `_Cut`; DownloadError for a redirect
        that is not followed.
    """
    for _ in range(MOST_REDIRECTS + 1):
        try:
            with _network_errors():
                return OPENER.open(Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
        except HTTPError as error:
            target = error.headers.get("Location")
            if error.code not in REDIRECTS or not target:
                raise
            error.close()
            url = _redirect(url, target)
    raise DownloadError(f"{url}: more than {MOST_REDIRECTS} redirects")


def _redirect(url: str, target: str) -> str:
    """Give the address that a redirect leads to."""
    found = urljoin(url, quote(target, safe=string.punctuation, encoding="iso-8859-1"))
    allowed = ("https",) if urlsplit(url).scheme == "https" else ("https", "http")
    if urlsplit(found).scheme not in allowed:
        raise DownloadError(f"{url}: redirects to {found}; expected {' or '.join(allowed)}")
    return found


def _range(offset: int, kept: _Origin | None) -> dict[str, str]:
    """Make the headers that ask for the bytes from `offset` on, of the same file as those kept."""
    headers = {"User-Agent": f"transferbench/{__version__}"}
    if offset and kept:
        headers["Range"] = f"bytes={offset}-"
        if kept.validator:
            headers["If-Range"] = kept.validator
    return headers


def _content_range(headers: Message, status: int = 206) -> tuple[int, int]:
    """Read the first byte that is sent and the size of the whole file; 0 where not told."""
    if status == 200:
        told = headers.get("Content-Length", "")
        return 0, int(told) if told.isdecimal() else 0
    told = headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", told.strip())
    return (int(match[1] or 0), int(match[2] or 0)) if match else (-1, 0)


def _validator(headers: Message) -> str:
    """Choose what tells this file from a later one: a weak ETag does not."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


@contextmanager
def _network_errors() -> Iterator[None]:
    """Turn what goes wrong between two machines into `_Away` or `_Cut`; an HTTPError passes."""
    try:
        yield
    except HTTPError:
        raise
    except (URLError, InvalidURL) as error:
        reason = getattr(error, "reason", error)
        raise _Unreachable(f"cannot be reached ({getattr(reason, 'strerror', None) or reason})") from error
    except (OSError, HTTPException) as error:
        raise _Interrupted(
            f"cut ({getattr(error, 'strerror', None) or error or type(error).__name__})"
        ) from error


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong on the disk into one line; what has come is kept."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"{path.parent}: no space left for {path.name}; free some and start again, it goes on there"
            ) from error
        raise InputError(
            f"{path.parent}: {path.name} cannot be written there ({error.strerror}); "
            "expected a folder to write to"
        ) from error


def _check_room(path: Path, num_bytes: int) -> None:
    with _disk_errors(path):
        free = shutil.disk_usage(path.parent).free
    if num_bytes > free:
        raise InputError(
            f"{path.parent}: {path.name} needs {decimal(num_bytes)} and {decimal(free)} are free; "
            "free some, or choose a folder on another disk"
        )


def _check(url: str, part: _PartialFile, checksum: str, num_bytes: int) -> None:
    """Hold size and sum against those expected; a wrong file is not kept.

    Raises: DownloadError that gives both.
    """
    found, expected = f"{part.num_bytes:,} bytes", f"{num_bytes:,} bytes"
    if num_bytes in (0, part.num_bytes):
        if not checksum:
            return
        found, expected = _checksum(part.bytes, checksum), checksum.lower()
    if found != expected:
        part.drop()
        raise DownloadError(f"{url}: has {found}; expected {expected}")
