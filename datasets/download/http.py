"""Download a file over HTTP: resumable, checked, and only once if several processes need it.

Until `path` is complete, `path.part` holds its bytes, `path.part.json` identifies the remote file, and
`path.lock` makes other processes wait.
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

TIMEOUT_SECONDS = 30  # without any data
CONNECT_SECONDS = 2.0
PAUSES_SECONDS = (1, 2, 4, 8)  # before each retry without progress
MOST_REDIRECTS = 10
MOST_BYTES = 10**12  # of a file of unknown size
CHUNK_BYTES = 1 << 18
REDIRECTS = {301, 302, 303, 307, 308}
BUSY = {429, 502, 503, 504}  # temporary failures


class DownloadError(InputError):
    """This URL does not provide the file; another one may."""


class _Interrupted(Exception):
    """The transfer ended early; the received bytes are kept."""


class _Unreachable(_Interrupted):
    """No connection could be made."""


def download(url: str, path: Path, *, checksum: str = "", num_bytes: int = 0, description: str = "") -> None:
    """Download a file, unless `path` is already this file.

    Args:
        url: http or https; redirects are followed, but never from https to http.
        path: the file to write; its folder is created if missing.
        checksum: "sha256:…" or "md5:…"; empty if none is published.
        num_bytes: its exact size; 0 if unknown.
        description: text of the progress bar.

    Raises:
        DownloadError: if another URL may help: this one is unreachable, refuses, or has another file.
        InputError: if no URL can help: a full disk, or a folder that is not writable.
    """
    if not re.match(r"https?://[^/]", url, re.IGNORECASE):
        raise InputError(f"{url}: cannot be downloaded; expected an http or https URL")
    if not re.fullmatch(r"|sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", checksum.lower()):
        raise InputError(f"checksum '{checksum}' of {url}: expected sha256:<64 digits> or md5:<32 digits>")
    if _is_done(path, checksum, num_bytes):
        return
    with ExitStack() as stack:
        with _disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path, f"another process is downloading {path.name}"))
        if _is_done(path, checksum, num_bytes):
            return
        part = _PartialFile(path)
        _check_room(path, num_bytes - part.num_bytes)
        _fetch(url, part, num_bytes, description or f"downloading {path.name}")
        _check(url, part, checksum, num_bytes)
        with _disk_errors(path):
            part.bytes.replace(path)
        part.drop()


def check_reachable(url: str) -> None:
    """Check that a host answers; a machine without network then fails immediately.

    Raises:
        DownloadError: if it does not.
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
    """Return whether the file exists and has this checksum, if one is given."""
    return path.is_file() and (not checksum or _checksum(path, checksum) == checksum.lower())


def progress_bar(is_shown: bool = True) -> Progress:
    """Return a progress bar of bytes on stderr, hidden if stderr is not a terminal."""
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
    """Return the file's checksum, of the type of `checksum`."""
    kind = checksum.partition(":")[0].lower()
    with progress_bar() as progress, progress.open(path, "rb", description=f"checking {path.name}") as f:
        digest = hashlib.file_digest(f, lambda: hashlib.new(kind, usedforsecurity=False))  # type: ignore[arg-type]
    return f"{kind}:{digest.hexdigest()}"


@dataclass(frozen=True)
class _Origin:
    """The identity of a remote file when its download began."""

    url: str
    validator: str  # strong ETag, otherwise Last-Modified; empty if neither is sent
    num_bytes: int  # 0 if unknown

    def matches(self, other: "_Origin") -> bool:
        """Return whether no known property of the two differs; they have the same URL."""
        pairs = ((self.validator, other.validator), (self.num_bytes, other.num_bytes))
        return all(a == b for a, b in pairs if a and b)


class _PartialFile:
    """The bytes so far, and a note that identifies their remote file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = path.with_name(f"{path.name}.part")
        self.note = path.with_name(f"{path.name}.part.json")

    @property
    def num_bytes(self) -> int:
        return self.bytes.stat().st_size if self.bytes.exists() else 0

    def origin(self, url: str) -> _Origin | None:
        """Return the note's content; None if there is none, or it is for another URL."""
        with suppress(OSError, ValueError, TypeError):
            origin = _Origin(**json.loads(self.note.read_text(encoding="utf-8")))
            return origin if origin.url == url and self.num_bytes else None
        return None

    def begin(self, origin: _Origin) -> None:
        """Start again; the note is written last, and therefore never describes other bytes."""
        with _disk_errors(self.path):
            self.bytes.write_bytes(b"")
            self.note.write_text(json.dumps(asdict(origin)), encoding="utf-8")

    def drop(self) -> None:
        self.bytes.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _fetch(url: str, part: _PartialFile, num_bytes: int, description: str) -> None:
    """Complete the partial file, with as many connections as necessary.

    Only attempts without progress count as retries. If the first attempt cannot connect, there is no retry:
    a machine without network fails immediately.
    """
    furthest, pauses, was_reached = part.num_bytes, iter(PAUSES_SECONDS), False
    with progress_bar() as progress:
        progress.add_task(description, total=num_bytes or None)
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
    """Request the missing bytes and write them, over one connection."""
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
            return  # it was complete
        part.drop()
        raise _Interrupted(f"no bytes from {offset:,} on") from error
    with response:
        start, whole = _content_range(response.headers, response.status)
        origin = _Origin(url, _validator(response.headers), whole)
        if num_bytes and whole not in (0, num_bytes):
            part.drop()
            raise DownloadError(f"{url}: has {whole:,} bytes; expected {num_bytes:,}")
        if start == 0:
            part.begin(origin)
        elif start != offset or kept is None or not kept.matches(origin):
            part.drop()
            raise _Interrupted(f"the remote file has changed, or cannot be resumed from byte {offset:,}")
        _check_room(part.path, whole - start)
        _receive(response, part, whole or num_bytes, progress)


def _receive(response: HTTPResponse, part: _PartialFile, whole: int, progress: Progress) -> None:
    """Append the body to the partial file; `whole` is its size, or 0 if unknown."""
    num_bytes, most = part.num_bytes, whole or MOST_BYTES
    with _disk_errors(part.path):
        file = part.bytes.open("ab", buffering=0)
    with file:
        while chunk := _read(response):
            num_bytes += len(chunk)
            if num_bytes > most:
                part.drop()
                raise DownloadError(f"{response.url}: sends more than {most:,} bytes, the limit")
            with _disk_errors(part.path):
                _write(file, chunk)
            progress.update(progress.task_ids[0], completed=num_bytes, total=whole or None)
    if num_bytes < whole:
        raise _Interrupted(f"cut after {num_bytes:,} of {whole:,} bytes")


def _read(response: HTTPResponse) -> bytes:
    with _network_errors():
        return response.read1(CHUNK_BYTES)  # returns the available bytes: a stall loses none


def _write(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:  # on a full disk, a write is short, and the next one fails
        view = view[file.write(view) :]


class _NoRedirects(HTTPRedirectHandler):
    """Leave redirects to `_send`."""

    def redirect_request(self, *_: object) -> None:
        """Follow no redirect."""


OPENER = build_opener(_NoRedirects)


def _send(url: str, headers: dict[str, str]) -> HTTPResponse:
    """Send the request, and follow redirects.

    Raises:
        HTTPError: for a status of 400 or more.
        _Unreachable, _Interrupted: for a failed connection.
        DownloadError: for a redirect that is not allowed.
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
    """Return the URL of a redirect."""
    found = urljoin(url, quote(target, safe=string.punctuation, encoding="iso-8859-1"))
    allowed = ("https",) if urlsplit(url).scheme == "https" else ("https", "http")
    if urlsplit(found).scheme not in allowed:
        raise DownloadError(f"{url}: redirects to {found}; expected {' or '.join(allowed)}")
    return found


def _range(offset: int, kept: _Origin | None) -> dict[str, str]:
    """Return the headers that request the bytes from `offset` on, of the same remote file."""
    headers = {"User-Agent": f"transferbench/{__version__}"}
    if offset and kept:
        headers["Range"] = f"bytes={offset}-"
        if kept.validator:
            headers["If-Range"] = kept.validator
    return headers


def _content_range(headers: Message, status: int = 206) -> tuple[int, int]:
    """Return the position of the first byte sent, and the size of the whole file; 0 if unknown."""
    if status == 200:
        value = headers.get("Content-Length", "")
        return 0, int(value) if value.isdecimal() else 0
    value = headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", value.strip())
    return (int(match[1] or 0), int(match[2] or 0)) if match else (-1, 0)


def _validator(headers: Message) -> str:
    """Return a value that changes with the file; a weak ETag is not enough."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


@contextmanager
def _network_errors() -> Iterator[None]:
    """Turn network errors into `_Unreachable` or `_Interrupted`; an HTTPError passes."""
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
    """Turn disk errors into a one-line error; the received bytes are kept."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"{path.parent}: no space left for {path.name}; free some and start again to resume"
            ) from error
        raise InputError(
            f"{path.parent}: {path.name} cannot be written ({error.strerror}); expected a writable folder"
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
    """Check size and checksum; a wrong file is removed.

    Raises:
        DownloadError: with the found and the expected value.
    """
    found, expected = f"{part.num_bytes:,} bytes", f"{num_bytes:,} bytes"
    if num_bytes in (0, part.num_bytes):
        if not checksum:
            return
        found, expected = _checksum(part.bytes, checksum), checksum.lower()
    if found != expected:
        part.drop()
        raise DownloadError(f"{url}: has {found}; expected {expected}")
